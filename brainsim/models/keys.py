"""Turn what a user asks of a model into the key of its weights, without loading torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from brainsim.core.checks import check_choice
from brainsim.core.errors import CheckpointError, InvalidValueError
from brainsim.models.catalogue import find_row
from brainsim.models.rows import PRECISIONS, ModelRow
from brainsim.models.weight_files import digest_checkpoint

# Part of the key of random weights: how random_weights.py draws them.
RANDOM_RECIPE = "fan-in-1"


def choose_weights(row: ModelRow, *, checkpoint: Path | None, random_weights: bool) -> str:
    """Return which weights are meant: "checkpoint", "random", "hub", "own" or "none".

    Raises
    ------
    InvalidValueError
        A checkpoint for a model without weights or an untrained control, or together with random weights.
    CheckpointError
        No choice was made and the row has no public weights.
    """
    if checkpoint is not None and random_weights:
        raise InvalidValueError("--checkpoint and --random-weights are both given; at most one is allowed.")
    if checkpoint is not None and row.control_of:
        raise InvalidValueError(
            f"{row.name} is an untrained control; --checkpoint {checkpoint} cannot be loaded into it.",
            hint=f"--models {row.control_of} --checkpoint {checkpoint}",
        )
    if row.weights.kind == "none":
        if checkpoint is not None:
            raise InvalidValueError(f"{row.name} has no weights; --checkpoint {checkpoint} cannot be loaded into it.")
        return "none"
    if checkpoint is not None:
        return "checkpoint"
    if random_weights or row.weights.kind == "random":
        return "random"
    if row.weights.kind == "own":
        return "own"
    if row.weights.kind == "file":
        raise CheckpointError(
            f"{row.name} has no public weights that a library can fetch; a file is needed: "
            f"{' or '.join(row.weights.files) or row.weights.identifier}.",
            hint=f"--checkpoint PATH, or --random-weights for an untrained control (brainsim models show {row.name})",
        )
    return "hub"


def choose_precision(row: ModelRow, precision: str) -> str:
    """Return the precision that a model is run in: what is asked for, or "fp32" for a model without weights.

    Controls that only measure the picture cost next to nothing and are kept exact.
    """
    check_choice("precision", precision, PRECISIONS)
    return "fp32" if row.weights.kind == "none" else precision


def choose_compile(row: ModelRow, wanted: bool) -> bool:
    """Return whether a model is compiled: where that is asked for, and it has weights."""
    return wanted and row.weights.kind != "none"


def weights_key(
    name: str | ModelRow,
    *,
    protocol: str = "default",
    checkpoint: Path | str | None = None,
    random_weights: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """Return what tells one set of weights, and the network they go into, from every other.

    Parameters
    ----------
    name : str or ModelRow
        Row's name, the name of a model found elsewhere ("timm:…"), or a row.
    protocol : {"default", "study"}
        Part of the network where it masks tokens.
    checkpoint : Path, optional
        File or folder; its bytes are digested.
    random_weights : bool
        Draw the weights.
    seed : int
        Of random weights and random masks; left out of the key where nothing is drawn.

    Returns
    -------
    dict
        JSON-able: {"row", "weights": {"file" | "random" | "hub" | "own" | "none": …}}, and "mask_seed" where masks are
        drawn.
    """
    row = find_row(name)
    path = None if checkpoint is None else Path(checkpoint)
    kind = choose_weights(row, checkpoint=path, random_weights=random_weights)
    key: dict[str, Any] = {"row": row.identity(protocol)}
    if kind == "checkpoint" and path is not None:
        key["weights"] = {"file": digest_checkpoint(path)}
    elif kind == "random":
        key["weights"] = {"random": seed, "recipe": RANDOM_RECIPE}
    elif kind == "hub":
        key["weights"] = {"hub": f"{row.weights.kind}:{row.weights.identifier}"}
    elif kind == "own":
        key["weights"] = {"own": row.weights.identifier}
    else:
        key["weights"] = {"none": True}
    if row.protocol(protocol).random_mask:
        key["mask_seed"] = seed
    return key
