"""Turn a network in training into files: the checkpoint that users load, and the state from which training goes on."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from brainsim.core.errors import CheckpointError


def save_checkpoint(path: Path, network: nn.Module, *, actions: Sequence[str], made: Mapping[str, Any]) -> None:
    """Write weights as `--checkpoint` reads them: `state_dict`, the actions in order of their number, what made them.

    The file is whole or absent. It holds tensors and plain values alone, so that it can be read with
    `torch.load(weights_only=True)`.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    _write(path, {"state_dict": state, "actions": list(actions), "made": dict(made)})


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write the state of a training run; the file is whole or absent."""
    _write(path, dict(state))


def load_state(path: Path) -> dict[str, Any]:
    """Read the state of a training run; nothing in it is executed.

    Raises
    ------
    CheckpointError
        A file that is damaged or of another kind.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, LookupError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile) as e:
        raise CheckpointError(
            f"{path} is no state of a training run that can be read.",
            hint="delete it, or --overwrite, to begin again",
        ) from e
    if not isinstance(state, dict) or "made" not in state:
        raise CheckpointError(f"{path} is no state of a training run.", hint="give --out another name")
    return state


def start_from_imagenet(resnet: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Copy the weights of an object classifier into a ResNet-18 that answers something else, or sees other channels.

    The classifier `fc` is left as it is. Where the first convolution takes another number of channels, each of them
    gets the mean over red, green and blue (Wang et al. 2016, Temporal segment networks, arXiv:1608.00859).

    Raises
    ------
    CheckpointError
        Names or shapes that do not fit.
    """
    own = resnet.state_dict()
    given = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    first = given.get("conv1.weight")
    if first is not None and first.shape[1] != own["conv1.weight"].shape[1]:
        n_channels = own["conv1.weight"].shape[1]
        given["conv1.weight"] = first.mean(dim=1, keepdim=True).expand(-1, n_channels, -1, -1).contiguous()
    counters = {name for name in own if name.endswith("num_batches_tracked")}
    wrong = [name for name in own if name not in given and not name.startswith("fc.") and name not in counters]
    wrong += [name for name, tensor in given.items() if name not in own or own[name].shape != tensor.shape]
    if wrong:
        raise CheckpointError(
            f"the weights in {source} do not fit the ResNet-18 that is trained: {len(wrong)} names or shapes differ, "
            f"{', '.join(wrong[:6])}{' …' if len(wrong) > 6 else ''}."
        )
    resnet.load_state_dict({**own, **given})


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        torch.save(content, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
