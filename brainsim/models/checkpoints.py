"""Turn a checkpoint file of any published layout into a filled network, or into one sentence on what is wrong."""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import Tensor, nn

from brainsim.core.errors import CheckpointError
from brainsim.models.network import State
from brainsim.models.weight_files import checkpoint_files

# Where training scripts put the state dict among their other records, most specific first.
CONTAINERS = ("model_state_dict", "state_dict", "MODEL_STATE", "model", "module")
# How many keys an error lists before it says how many more there are.
N_LISTED = 8


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return the state dict in a file or a transformers folder, unwrapped from the training script's record.

    Pickles are read with `weights_only=True`: a file that would run code is refused, never run.

    Raises
    ------
    InputFileError
        Nothing there.
    CheckpointError
        A file that holds no state dict, or more than tensors and plain values.
    """
    state: dict[str, Tensor] = {}
    for file in checkpoint_files(path):
        state.update(_unwrap(_read_file(file), file))
    return state


def is_trained_as(path: Path, name: str) -> bool:
    """Return whether a file was made by `brainsim train` for this system; False for every other file.

    Raises
    ------
    CheckpointError
        It was made for another system.
    """
    if not path.is_file() or path.suffix == ".safetensors":
        return False
    loaded = _read_file(path)
    made = loaded.get("made") if isinstance(loaded, Mapping) else None
    training = made.get("training") if isinstance(made, Mapping) else None
    if not isinstance(training, Mapping):
        return False
    if training.get("system") != name:
        raise CheckpointError(
            f"the weights in {path} were trained as {training.get('system')}; they are asked for as {name}.",
            hint=f"--models {training.get('system')} --checkpoint {path}",
        )
    return True


def _read_file(path: Path) -> object:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise CheckpointError(f"{path} is no whole safetensors file ({error}).") from error
    try:
        # Training scripts store their options as a Namespace: plain values, nothing that runs.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on pickle protocols: whether the file can be read is said below
            loaded: object = torch.load(path, map_location="cpu", weights_only=True)
            return loaded
    except pickle.UnpicklingError as error:
        # torch's own message advises to load it unsafely: only the name it stumbled over is passed on.
        asked = re.search(r"GLOBAL (\S+)", str(error))
        if asked is None:
            raise CheckpointError(f"{path} is no PyTorch checkpoint.") from error
        raise CheckpointError(
            f"{path} holds more than tensors and plain values (it asks for {asked.group(1)}), so it is not read.",
            hint="save the state dict alone: torch.save(model.state_dict(), PATH), or safetensors",
        ) from error
    except (OSError, RuntimeError, EOFError, LookupError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path} is no whole PyTorch checkpoint ({reason}).") from error


def _unwrap(loaded: object, path: Path) -> dict[str, Tensor]:
    if isinstance(loaded, Mapping):
        for name in CONTAINERS:
            inner = loaded.get(name)
            if isinstance(inner, Mapping) and any(isinstance(v, Tensor) for v in inner.values()):
                loaded = inner
                break
        state = {str(k): v for k, v in loaded.items() if isinstance(v, Tensor)}
        if state:
            return state
    found = (
        f"the entries {', '.join(map(str, list(loaded)[:6]))}" if isinstance(loaded, Mapping) else type(loaded).__name__
    )
    raise CheckpointError(
        f"{path} holds {found}; a state dict is wanted, alone or under {', '.join(CONTAINERS)}."
    )  # fmt: skip


def strip_prefixes(state: State, prefixes: Iterable[str]) -> dict[str, Tensor]:
    """Return the state dict without wrappers' prefixes ("module.", "encoder."), tried in order on every name."""
    stripped = dict(state)
    for prefix in prefixes:
        stripped = {name.removeprefix(prefix): tensor for name, tensor in stripped.items()}
    return stripped


def drop_names(state: State, patterns: Iterable[str]) -> dict[str, Tensor]:
    """Return the state dict without the names that match a glob: decoders and heads that are known and not needed."""
    patterns = tuple(patterns)
    return {name: t for name, t in state.items() if not any(fnmatchcase(name, p) for p in patterns)}


def fill_network(module: nn.Module, state: State, *, name: str, source: str) -> None:
    """Copy a state dict into a network in place; every name and every shape must fit.

    Raises
    ------
    CheckpointError
        Missing or unexpected names, or other shapes: each is listed. The network is then unchanged.
    """
    own = module.state_dict()
    # Counters of training steps: absent from old files, and without effect on the output.
    optional = {n for n in own if n.endswith("num_batches_tracked")}
    missing = [n for n in own if n not in state and n not in optional]
    unexpected = [n for n in state if n not in own]
    shapes = [
        f"{n} is {tuple(state[n].shape)} where {name} has {tuple(own[n].shape)}"
        for n in own
        if n in state and state[n].shape != own[n].shape
    ]
    wrong = tell_misfits(missing, unexpected, shapes)
    if wrong:
        raise CheckpointError(
            f"the weights in {source} do not fit {name} ({len(own)} names): {wrong}.",
            hint=f"brainsim models show {name}",
        )
    not_finite = [n for n, t in state.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if not_finite:
        raise CheckpointError(f"the weights in {source} hold NaN or infinity in {_list(not_finite)}.")
    own.update(state)  # not a new dict: some of torchvision's networks ask for the versions that come with this one
    module.load_state_dict(own)


def tell_misfits(missing: Sequence[str], unexpected: Sequence[str], misshapen: Sequence[str]) -> str:
    """Return which names do not fit, in words; empty where all do."""
    kinds = (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen))
    return "; ".join(f"{len(items)} {what}: {_list(items)}" for what, items in kinds if items)


def _list(items: Sequence[str]) -> str:
    more = f" and {len(items) - N_LISTED} more" if len(items) > N_LISTED else ""
    return ", ".join(items[:N_LISTED]) + more
