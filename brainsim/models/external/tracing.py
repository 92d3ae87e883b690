"""Turn one forward pass without numbers into a record of modules: which run once, in what order, and give what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from brainsim.models.network import Network

Node = Any  # a node of autograd's graph


@dataclass(frozen=True)
class ModuleRun:
    """What one module gave in one forward pass.

    Parameters
    ----------
    shape : tuple of int
        Of its output, with the batch axis.
    origin : (object, int), optional
        The operation that made the output, and which of its outputs it is: the same for the same tensor.
    on_trunk : bool
        Whether all that reaches the network's output passes through here. Attention inside a residual block does not,
        the block does. True where it cannot be told.
    grid : (int, int, int), optional
        Time, height and width, where the module returns them beside its tokens.
    """

    shape: tuple[int, ...]
    origin: tuple[Node, int] | None = None
    on_trunk: bool = True
    grid: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Trace:
    """One forward pass.

    Parameters
    ----------
    runs : dict
        Modules that ran once and gave a tensor of floats, in the order in which their outputs were ready.
    refused : dict
        The others, with the reason.
    """

    runs: dict[str, ModuleRun]
    refused: dict[str, str] = field(default_factory=dict)


def trace_modules(network: Network, batch_shape: tuple[int, ...], *, device: str = "meta") -> Trace:
    """Find the modules whose output holds one row per clip.

    Two passes with other numbers of clips tell the batch axis: windows of a Swin transformer lie on the first axis too.

    Parameters
    ----------
    network : Network
        In eval mode.
    batch_shape : tuple of int
        Shape of one prepared clip, with a batch axis of 1.
    device : {"meta", "cpu"}
        "meta" computes nothing; "cpu" runs on zeros, for networks that look at values.
    """
    first = run_once(network, (2, *batch_shape[1:]), device=device, follow=True)
    second = run_once(network, (3, *batch_shape[1:]), device=device)
    runs, refused = {}, dict(first.refused)
    for name, run in first.runs.items():
        other = second.runs.get(name)
        if other is not None and (run.shape[:1], other.shape[:1]) == ((2,), (3,)) and run.shape[1:] == other.shape[1:]:
            runs[name] = run
        else:
            refused[name] = f"its output of shape {run.shape} for 2 clips has no axis of clips in front"
    return Trace(runs, refused)


def run_once(network: Network, shape: tuple[int, ...], *, device: str = "meta", follow: bool = False) -> Trace:
    """Run one forward pass with a hook on every module; the network is left as it was.

    Parameters
    ----------
    network : Network
        Its module may lie on the CPU or on the meta device.
    shape : tuple of int
        Of the prepared batch.
    device : {"meta", "cpu"}
        Where to run.
    follow : bool
        Find out which modules lie on the trunk.
    """
    seen: dict[str, list[Any]] = {}
    outputs: list[Any] = []
    handles = []
    runner = _Runner(network, outputs)
    for name, module in network.module.named_modules():

        def note(_: nn.Module, __: object, output: object, name: str = name) -> None:
            seen.setdefault(name, []).append(_read(output))

        if name:
            handles.append(module.register_forward_hook(note))
    try:
        with torch.set_grad_enabled(follow):
            batch = torch.zeros(shape, device=device, requires_grad=follow) * 1.0
            if device == "meta":
                state = {**dict(runner.named_parameters()), **dict(runner.named_buffers())}
                torch.func.functional_call(
                    runner, {n: torch.empty_like(t, device="meta") for n, t in state.items()}, (batch,)
                )
            else:
                runner(batch)
    finally:
        for handle in handles:
            handle.remove()
    trunk = find_trunk(batch, list(_tensors(outputs))) if follow else None
    return _collect(network.module, seen, trunk)


class _Runner(nn.Module):
    """Calls the network, as a module whose tensors can be swapped, and keeps what it returns."""

    def __init__(self, network: Network, outputs: list[Any]) -> None:
        super().__init__()
        self.inner = network.module
        self._forward = network.run or network.module.__call__
        self._outputs = outputs

    def forward(self, batch: Tensor) -> None:
        self._outputs.append(self._forward(batch))


@dataclass(frozen=True)
class _Seen:
    what: str
    shape: tuple[int, ...] = ()
    origin: tuple[Node, int] | None = None
    grid: tuple[int, int, int] | None = None


def _read(output: object) -> _Seen:
    first, rest = output, ()
    if isinstance(output, tuple | list) and output:
        first, rest = output[0], tuple(output[1:])
    if not isinstance(first, Tensor):
        return _Seen(f"it gives {type(first).__name__}, not a tensor")
    if not first.is_floating_point() or first.ndim < 2 or not first.numel():
        return _Seen(f"it gives {first.dtype} of shape {tuple(first.shape)}, not one row of floats per clip")
    origin = None if first.grad_fn is None else (first.grad_fn, int(first.output_nr))
    return _Seen("", tuple(first.shape), origin, _read_grid(rest))


def _read_grid(rest: tuple[object, ...]) -> tuple[int, int, int] | None:
    for item in rest:
        if isinstance(item, tuple | list) and len(item) == 3 and all(isinstance(n, int) for n in item):
            return (int(item[0]), int(item[1]), int(item[2]))
    return None


def _collect(module: nn.Module, seen: Mapping[str, list[_Seen]], trunk: set[Node] | None) -> Trace:
    runs: dict[str, ModuleRun] = {}
    refused: dict[str, str] = {}
    for name, found in seen.items():  # in the order in which outputs were first ready
        if len(found) > 1:
            refused[name] = f"it runs {len(found)} times in one forward pass"
        elif found[0].what:
            refused[name] = found[0].what
        else:
            one = found[0]
            on_trunk = trunk is None or (one.origin is not None and one.origin[0] in trunk)
            runs[name] = ModuleRun(one.shape, one.origin, on_trunk, one.grid)
    for name, _ in module.named_modules():
        if name and name not in seen:
            refused[name] = "it does not run"
    return Trace(runs, refused)


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def find_trunk(source: Tensor, sinks: list[Tensor]) -> set[Node] | None:
    """Return the operations that every path from `source` to any of `sinks` passes; None where there is no path.

    Paths are counted exactly, forwards and backwards: an operation is passed by all of them where the product of both
    counts is the number of all paths. Residual networks have more paths than any float can hold; Python's whole numbers
    hold them.
    """
    begin = source.grad_fn
    ends = [sink.grad_fn for sink in sinks if sink.grad_fn is not None]
    order = _sort_graph(ends)  # every operation after those that use its output
    n_below: dict[Node, int] = {}  # paths from the source
    for node in reversed(order):
        n_below[node] = 1 if node is begin else sum(n_below[after] for after in _inputs(node))
    n_above: dict[Node, int] = dict.fromkeys(order, 0)  # paths to the sinks
    for end in ends:
        n_above[end] += 1
    for node in order:
        if node is not begin:
            for after in _inputs(node):
                n_above[after] += n_above[node]
    total = sum(n_below[end] for end in ends)
    if not total:
        return None
    return {node for node in order if n_above[node] * n_below[node] == total}


def _sort_graph(ends: list[Node]) -> list[Node]:
    """Return every operation of the graph, each before its inputs (depth first, without recursion)."""
    done: dict[Node, None] = {}
    visited: set[Node] = set()
    for end in ends:
        if end in visited:
            continue
        visited.add(end)
        stack = [(end, iter(_inputs(end)))]
        while stack:
            node, rest = stack[-1]
            following = next((n for n in rest if n not in visited), None)
            if following is None:
                stack.pop()
                done[node] = None
            else:
                visited.add(following)
                stack.append((following, iter(_inputs(following))))
    return list(reversed(done))


def _inputs(node: Node) -> list[Node]:
    return [following for following, _ in node.next_functions if following is not None]
