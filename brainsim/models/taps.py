"""Turn one forward pass into the activations of many layers: hooks that clone and are always removed."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from brainsim.core.errors import InvalidValueError
from brainsim.core.registry import unknown_name
from brainsim.models.network import Network
from brainsim.models.rows import TapLayout


@dataclass(frozen=True)
class TapInfo:
    """One layer's output for one clip.

    Parameters
    ----------
    name : str
        Module name.
    shape : tuple of int
        Shape without the batch axis.
    channel_axis : int, optional
        Axis of `shape` that holds channels; the others are space, time or tokens. None where it is not known.
    n_class_tokens : int
        Leading tokens that stand for the whole clip.
    grid : (int, int, int), optional
        Time, height and width of the tokens after those, or of a video's maps; None for the maps of images, and where
        tokens are dropped, shuffled or in another order.
    """

    name: str
    shape: tuple[int, ...]
    channel_axis: int | None
    n_class_tokens: int = 0
    grid: tuple[int, int, int] | None = None

    @property
    def n_features(self) -> int:
        """Number of features when flattened."""
        return math.prod(self.shape)


def find_modules(module: nn.Module, names: Sequence[str]) -> dict[str, nn.Module]:
    """Return the named submodules.

    Raises
    ------
    UnknownNameError
        A name that no submodule has; near misses are shown.
    """
    known = dict(module.named_modules())
    for name in names:
        if name not in known or not name:
            raise unknown_name("layer", name, [n for n in known if n])
    return {name: known[name] for name in names}


class _AllCaptured(BaseException):
    """Raised inside a forward pass when nothing more is wanted of it; no `except Exception` on its way may stop it."""


@contextmanager
def capture(
    module: nn.Module, names: Sequence[str], *, stop: bool = False, inside: Mapping[str, str] = MappingProxyType({})
) -> Iterator[dict[str, Tensor]]:
    """Collect the outputs of the named submodules during forward passes inside a `with` block.

    Outputs are cloned at once: the next module may work in place (ResNet's ReLU overwrites what its batch norm gave).
    Only forward passes of the thread that entered the block are heard, so that several threads may run one network.
    Hooks are removed when the block is left, by an exception too.

    Parameters
    ----------
    module : Module
        The network.
    names : sequence of str
        Names of submodules.
    stop : bool
        Leave the forward pass, and the block, when all of them have given their output: what comes after is not
        computed. A module that would run again after that is then not noticed.
    inside : mapping of str to str
        Submodules inside compiled code, where no hook can be added any more -> the compiled submodule around it. Their
        outputs are kept by hooks that `put_inside` put there before.
    """
    outputs: dict[str, Tensor] = {}
    handles = []
    listener = threading.get_ident()
    try:
        for name, submodule in find_modules(module, names).items():

            def keep(_: nn.Module, __: object, output: object, name: str = name, inner: nn.Module = submodule) -> None:
                if threading.get_ident() != listener:
                    return
                if name in outputs:
                    raise InvalidValueError(
                        f"layer {name!r} runs twice in one forward pass; tap a module that runs once."
                    )
                outputs[name] = _take_inside(inner) if name in inside else _copy_first(output, name)
                if stop and len(outputs) == len(names):
                    raise _AllCaptured

            heard = module.get_submodule(inside[name]) if name in inside else submodule
            handles.append(heard.register_forward_hook(keep))
        with suppress(_AllCaptured):
            yield outputs
    finally:
        for handle in handles:
            handle.remove()
        for name in inside:  # what nobody asked for, too: it takes memory
            module.get_submodule(name)._brainsim_kept = None  # type: ignore[assignment]


def put_inside(module: nn.Module) -> None:
    """Let a module that will be inside compiled code keep a copy of each output, for `capture` to take."""
    module._brainsim_kept = None  # type: ignore[assignment]
    module.register_forward_hook(_keep_inside)


def _keep_inside(module: nn.Module, _: object, output: object) -> None:
    # One function for all taps, without their names, so that blocks that are alike share one piece of code.
    module._brainsim_kept = _copy_first(output, "inside a block")


def _take_inside(module: nn.Module) -> Tensor:
    kept = module._brainsim_kept
    if not isinstance(kept, Tensor):
        raise RuntimeError("a layer inside compiled code gave nothing in this forward pass")  # it was traced: never
    return kept


def _copy_first(output: object, name: str) -> Tensor:
    first = output[0] if isinstance(output, tuple | list) else output
    if not isinstance(first, Tensor):
        raise InvalidValueError(f"layer {name!r} gives {type(first).__name__}; a tensor is wanted.")
    return first.detach().clone()


def describe_tap(name: str, shape: tuple[int, ...], network: Network) -> TapInfo:
    """Return what is known of a tap: what the network tells of it, else tokens x width or channels first."""
    if network.layouts is not None:
        known = network.layouts.get(name, TapLayout(None))
        return TapInfo(name, shape, known.channel_axis, known.n_class_tokens, known.grid)
    if len(shape) == 2:  # (n_tokens, width)
        grid = network.token_grid
        complete = grid is not None and shape[0] == network.n_class_tokens + math.prod(grid)
        return TapInfo(name, shape, 1, network.n_class_tokens, grid if complete else None)
    return TapInfo(name, shape, 0)


def trace_taps(network: Network, names: Sequence[str], batch_shape: tuple[int, ...]) -> tuple[TapInfo, ...]:
    """Return each tap's shape per clip from a forward pass that computes nothing (on the meta device).

    A network that cannot run there (one that looks at values) is run on zeros instead.
    """
    state = {**dict(network.module.named_parameters()), **dict(network.module.named_buffers())}
    try:
        outputs = _run_on_meta(network, names, batch_shape, state)
    except (NotImplementedError, RuntimeError):
        with torch.inference_mode(), capture(network.module, names) as outputs:
            network.forward(torch.zeros(batch_shape))
    return tuple(describe_tap(name, tuple(outputs[name].shape[1:]), network) for name in names)


def _run_on_meta(
    network: Network, names: Sequence[str], batch_shape: tuple[int, ...], state: dict[str, Tensor]
) -> dict[str, Tensor]:
    shapes_only = {name: torch.empty_like(tensor, device="meta") for name, tensor in state.items()}

    class Runner(nn.Module):  # functional_call swaps tensors of a module and calls it
        def __init__(self) -> None:
            super().__init__()
            self.inner = network.module

        def forward(self, batch: Tensor) -> None:
            network.forward(batch)

    with torch.inference_mode(), capture(network.module, names) as outputs:
        torch.func.functional_call(
            Runner(), {f"inner.{n}": t for n, t in shapes_only.items()}, (torch.empty(batch_shape, device="meta"),)
        )
    return outputs
