"""Turn a network into what the axes of its layers stand for: measured on larger pictures, or as the model declares."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import nn

from brainsim.models.external.tracing import ModuleRun, Trace, run_once
from brainsim.models.inputs import batch_shape
from brainsim.models.network import Network
from brainsim.models.rows import InputSpec, TapLayout

# Modules of torch whose output has its channels in front, after the batch, by definition; and last.
_CHANNELS_FIRST = (
    nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm, nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd, nn.modules.pooling._AdaptiveAvgPoolNd, nn.modules.pooling._AdaptiveMaxPoolNd,
)  # fmt: skip
_CHANNELS_LAST = (nn.Linear, nn.LayerNorm)


@dataclass(frozen=True)
class Tokens:
    """What a model declares of its tokens.

    Parameters
    ----------
    n_class_tokens : int
        Class, distillation and register tokens, which stand in front.
    grid : (int, int, int), optional
        Time, height and width of the patch tokens, time slowest, then rows; None for none, or another order.
    n_patches : int, optional
        Number of patch tokens where `grid` is None and their number is known.
    channels_last : bool
        Whether maps have their channels last (timm's `output_fmt` "NHWC").
    widths : frozenset of int
        Numbers of channels of its stages (timm's `feature_info`).
    """

    n_class_tokens: int = 0
    grid: tuple[int, int, int] | None = None
    n_patches: int | None = None
    channels_last: bool = False
    widths: frozenset[int] = frozenset()

    @property
    def n_tokens(self) -> int | None:
        """Number of all tokens; None where it is not declared."""
        n_patches = self.n_patches if self.grid is None else math.prod(self.grid)
        return None if n_patches is None else self.n_class_tokens + n_patches


def find_layouts(
    network: Network, spec: InputSpec, trace: Trace, tokens: Tokens, *, device: str = "meta"
) -> dict[str, TapLayout]:
    """Return what is known of every module that can be tapped.

    Axes that grow with the height, the width or the duration of what is shown are places; the one axis that does not
    grow holds channels. Where a network refuses pictures of another size, its declared tokens, its declared format and
    the definitions of torch's own modules are asked. What is then not known stays unknown.

    Parameters
    ----------
    network : Network
        In eval mode.
    spec : InputSpec
        What it is shown.
    trace : Trace
        Of `trace_modules`.
    tokens : Tokens
        What the model declares.
    device : {"meta", "cpu"}
        Where to run.
    """
    probes = _probe(network, spec, device)
    modules = dict(network.module.named_modules())
    return {name: _find_layout(name, run, modules[name], probes, tokens) for name, run in trace.runs.items()}


Probes = Mapping[str, Mapping[str, ModuleRun]]  # "height" | "width" | "time" -> module -> its run


def _probe(network: Network, spec: InputSpec, device: str) -> Probes:
    height, width = spec.size
    larger = {"height": replace(spec, size=(2 * height, width)), "width": replace(spec, size=(height, 2 * width))}
    if spec.n_frames > 1 and spec.layout != "stacked":
        larger["time"] = replace(spec, n_frames=2 * spec.n_frames)
    probes = {}
    for what, shown in larger.items():
        try:
            probes[what] = run_once(network, batch_shape(shown), device=device).runs
        except Exception:  # a model may refuse another size with any error; then it is not asked
            continue
    return probes


def _find_layout(name: str, run: ModuleRun, module: nn.Module, probes: Probes, tokens: Tokens) -> TapLayout:
    shape = run.shape[1:]
    if len(shape) == 1:
        return TapLayout(0)
    grown = {what: _grown_axes(shape, runs.get(name)) for what, runs in probes.items()}
    if len(shape) == 2:
        declared = _declared_tokens(shape, run, tokens)
        if declared is not None:
            return declared
    places: set[int] = set().union(*grown.values())
    rest = set(range(len(shape))) - places
    # An axis of size 1 may be a picture shrunk to a point: it says nothing.
    if {"height", "width"} <= grown.keys() and grown["height"] and grown["width"] and len(rest) == 1:
        return _measured(shape, rest.pop(), grown, probes, name, tokens)
    if isinstance(module, _CHANNELS_FIRST):
        return TapLayout(0)
    if type(module) in _CHANNELS_LAST:  # subclasses may work on other axes (timm's and torchvision's LayerNorm2d)
        return TapLayout(len(shape) - 1, *_known_prefix(shape, tokens))
    if tokens.channels_last and len(shape) == 3:
        return TapLayout(2)
    wide = [axis for axis, n in enumerate(shape) if n in tokens.widths]
    if len(wide) == 1 and len(shape) > 2:  # of tokens, it would still not be known which stand for the whole picture
        return TapLayout(wide[0])
    return TapLayout(None)


def _declared_tokens(shape: tuple[int, ...], run: ModuleRun, tokens: Tokens) -> TapLayout | None:
    """Return the layout of (n_tokens, width) whose number of tokens is the declared one; else None."""
    if run.grid is not None and shape[0] == tokens.n_class_tokens + math.prod(run.grid):
        return TapLayout(1, tokens.n_class_tokens, run.grid)
    if tokens.n_tokens == shape[0]:
        return TapLayout(1, tokens.n_class_tokens, tokens.grid)
    if tokens.grid is not None and shape[0] == math.prod(tokens.grid):  # patches alone: before class tokens join
        return TapLayout(1, 0, tokens.grid)
    return None


def _known_prefix(shape: tuple[int, ...], tokens: Tokens) -> tuple[int, tuple[int, int, int] | None]:
    declared = len(shape) == 2 and tokens.n_tokens == shape[0]
    return (tokens.n_class_tokens, tokens.grid) if declared else (0, None)


def _grown_axes(shape: tuple[int, ...], larger: ModuleRun | None) -> set[int]:
    if larger is None or len(larger.shape) != len(shape) + 1:
        return set()
    return {axis for axis, (n, m) in enumerate(zip(shape, larger.shape[1:], strict=True)) if n != m}


def _measured(
    shape: tuple[int, ...],
    channel_axis: int,
    grown: Mapping[str, set[int]],
    probes: Probes,
    name: str,
    tokens: Tokens,
) -> TapLayout:
    if len(shape) == 2:
        # Twice the height gives twice the patches and no more class tokens.
        token_axis = 1 - channel_axis
        n_class = 2 * shape[token_axis] - probes["height"][name].shape[1 + token_axis]
        if n_class == 0:
            return TapLayout(channel_axis)
        known = n_class == tokens.n_class_tokens and token_axis == 0
        return TapLayout(channel_axis, n_class) if known else TapLayout(None)
    axes = [grown.get("time", set()), grown["height"], grown["width"]]
    if len(shape) == 4 and all(len(found) == 1 for found in axes):
        order = [found.copy().pop() for found in axes]
        if order == sorted(order):
            return TapLayout(channel_axis, 0, (shape[order[0]], shape[order[1]], shape[order[2]]))
    return TapLayout(channel_axis)
