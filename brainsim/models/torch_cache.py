"""Turn the address of a file of weights into its state dict, through torch's cache, as torchvision does."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import Tensor

from brainsim.models.checkpoints import read_checkpoint

# The beginning of a file's SHA-256 is part of its name.
_HASH = re.compile(r"-([a-f0-9]*)\.")


def fetch_file(url: str) -> dict[str, Tensor]:
    """Return the state dict at an address, from torch's cache or downloaded into it.

    torchvision's own loaders do the same, but they know no HF_HUB_OFFLINE, and read pickles that may run code.

    Raises
    ------
    OSError
        A file that is not in the cache and cannot, or may not, be downloaded.
    CheckpointError
        A file that holds no state dict, or more than tensors and plain values.
    """
    check_allowed(url)
    path = find_cached(url)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        told = _HASH.search(path.name)
        torch.hub.download_url_to_file(url, str(path), told[1] if told else None, progress=False)
    return read_checkpoint(path)


def check_allowed(url: str) -> None:
    """Raise OSError where a file is not in torch's cache and HF_HUB_OFFLINE forbids to download it."""
    from huggingface_hub.constants import HF_HUB_OFFLINE  # as timm and transformers read it, once per process

    path = find_cached(url)
    if HF_HUB_OFFLINE and not path.exists():
        raise OSError(f"HF_HUB_OFFLINE is set and {path} is not there")


def find_cached(url: str) -> Path:
    """Return where torch's cache (TORCH_HOME) keeps the file of an address."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
