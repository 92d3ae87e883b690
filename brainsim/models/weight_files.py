"""Turn the path of a checkpoint into its files and their digest, without loading torch."""

from __future__ import annotations

from pathlib import Path

from brainsim.core.errors import InputFileError
from brainsim.core.provenance import digest, digest_file


def checkpoint_files(path: Path) -> list[Path]:
    """Return the weight files of a checkpoint: the file itself, or those of a transformers folder.

    Raises
    ------
    InputFileError
        Nothing there, or a folder without weights.
    """
    if path.is_file():
        return [path]
    if not path.exists():
        raise InputFileError(f"no checkpoint at {path}.", hint="give --checkpoint a file, or a transformers folder")
    for pattern in ("model.safetensors", "model-*.safetensors", "pytorch_model.bin", "pytorch_model-*.bin"):
        found = sorted(path.glob(pattern))
        if found:
            return found
    raise InputFileError(f"{path} holds neither model.safetensors nor pytorch_model.bin; a transformers folder does.")


def digest_checkpoint(path: Path) -> str:
    """Return the SHA-256 of a checkpoint's bytes: of the file, or of a folder's weight files in order."""
    files = checkpoint_files(path)
    return digest_file(files[0]) if len(files) == 1 else digest([digest_file(f) for f in files])
