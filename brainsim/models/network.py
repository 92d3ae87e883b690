"""Turn a row into a network whose weights are still to be filled: what a family's `load` returns."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import cast

import torch
from torch import Tensor, nn

from brainsim.core.checks import check_choice
from brainsim.models.rows import PROTOCOLS, ModelRow, TapLayout

State = Mapping[str, Tensor]


def keep_names(state: State) -> dict[str, Tensor]:
    """Return a state dict as it is: for files that use the network's own names."""
    return dict(state)


@dataclass(frozen=True)
class Network:
    """A network and what its weights files look like.

    Parameters
    ----------
    module : torch.nn.Module
        Its modules bear the names of the row's taps.
    run : callable, optional
        Runs one forward pass on a prepared batch; default: calls the module.
    convert : callable
        Turns the state dict of any published file into the module's names; drops what belongs to a decoder.
    adapt : callable, optional
        Given the converted state dict of a file made by `brainsim train`, changes what no tap depends on to fit it: a
        classifier's number of answers, which is the training set's and not the network's.
    fetch : callable, optional
        Returns the state dict of the public weights through their library's own loader.
    n_class_tokens : int
        Tokens before the patch tokens.
    token_grid : (int, int, int), optional
        Time, height and width of the patch tokens, for transformers whose tokens are complete and in order.
    layouts : mapping of str to TapLayout, optional
        What the axes of each module's output stand for, where that is known by module and not by the rules of
        `taps.describe_tap`.
    """

    module: nn.Module
    run: Callable[[Tensor], object] | None = None
    convert: Callable[[State], dict[str, Tensor]] = keep_names
    adapt: Callable[[State], None] | None = None
    fetch: Callable[[], State] | None = None
    n_class_tokens: int = 0
    token_grid: tuple[int, int, int] | None = None
    layouts: Mapping[str, TapLayout] | None = None

    def forward(self, batch: Tensor) -> None:
        """Run one forward pass; what it gives is read through taps."""
        (self.run or self.module)(batch)


def build_network(row: ModelRow, protocol: str = "default") -> Network:
    """Call the row's `load` function: the network as its library starts it."""
    check_choice("protocol", protocol, PROTOCOLS)
    module_name, _, function = row.load.partition(":")
    return cast("Network", getattr(import_module(module_name), function)(row, protocol))


def digest_state(module: nn.Module) -> str:
    """Return the SHA-256 over names, dtypes, shapes and bytes of a network's state dict, in order of name."""
    total = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        total.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
