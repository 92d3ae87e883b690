"""Turn the structure of any network into its taps: blocks of transformers, stages and blocks of CNNs, plain layers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from brainsim.models.external.tracing import Trace

# Containers of torch itself: they only hold or chain what is in them.
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_POOLS = (
    nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AvgPoolNd, nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
)  # fmt: skip
# Layers that pass on what they are given, outside training.
_SILENT = (nn.Identity, nn.Flatten, nn.modules.dropout._DropoutNd)
# A block does more than one layer of weights does.
MIN_WEIGHTS = 2
# So many chains of layers beside each other are the blocks of a plain network; two are its features and its classifier.
MIN_CHAINS = 3


def find_taps(module: nn.Module, trace: Trace, *, heads: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the taps of a network in order of depth.

    A tap is a module with several layers of weights, beside others of its sort, that runs once and through whose output
    all information passes: a transformer's block and a CNN's block do, attention inside a residual block does not. Of
    modules that give the same tensor (a stage and its last block) the inner one is taken. Where there are no blocks,
    every layer of weights is a tap, after its normalisation and nonlinearity, and so is every pooling. Networks of
    several branches may have nothing that all information passes; that is then not asked.

    Parameters
    ----------
    module : torch.nn.Module
        The network.
    trace : Trace
        Of `trace_modules`.
    heads : sequence of str
        Names of its classifiers: no blocks.
    """
    found: list[str] = []
    for on_trunk in (True, False):
        blocks = _find_blocks(module, "", trace, on_trunk=on_trunk)
        found = [name for name in blocks if not any(f"{head}.".startswith(f"{name}.") for head in heads)]
        if len(found) < 2:
            found = _find_layers(module, trace, on_trunk=on_trunk)
        if len(found) >= 2:
            break
    depth = {name: place for place, name in enumerate(trace.runs)}
    return _drop_same(sorted(set(found), key=depth.__getitem__), trace)


def _drop_same(names: list[str], trace: Trace) -> tuple[str, ...]:
    kept: dict[object, str] = {}
    for name in names:
        origin = trace.runs[name].origin
        kept.setdefault(name if origin is None else origin, name)
    return tuple(kept.values())


def _find_blocks(module: nn.Module, path: str, trace: Trace, *, on_trunk: bool) -> list[str]:
    """Return the blocks and stages below a module; none where it is a block itself."""
    children = [(f"{path}.{name}" if path else name, child) for name, child in module.named_children()]
    bearing = [(name, child) for name, child in children if _count_weights(child)]
    units = [(name, child) for name, child in bearing if _count_weights(child) >= MIN_WEIGHTS]
    eligible = [name for name, _ in units if name in trace.runs and (trace.runs[name].on_trunk or not on_trunk)]
    found = []
    for name, child in units:
        inner = _find_blocks(child, name, trace, on_trunk=on_trunk)
        is_chain = type(child) in _CONTAINERS and not inner
        if isinstance(module, _CONTAINERS):
            # A list of blocks; not a block that is written as a list of its layers, one of which is large.
            is_one = 2 * len(units) >= len(bearing)
        else:
            is_one = len(eligible) >= (MIN_CHAINS if is_chain else 2)
        found += inner
        if is_one and name in eligible:
            found.append(name)
    return found


def _count_weights(module: nn.Module) -> int:
    """Return the number of layers with weights in a module: convolutions, linear layers, attention."""
    return sum(
        MIN_WEIGHTS if isinstance(m, nn.MultiheadAttention) else isinstance(m, nn.modules.conv._ConvNd | nn.Linear)
        for m in module.modules()
    )


def _find_layers(module: nn.Module, trace: Trace, *, on_trunk: bool) -> list[str]:
    """Return the layers of a plain network: weights with what follows them up to the next weights, and poolings."""
    modules = dict(module.named_modules())
    found: list[str] = []
    is_open = False  # whether normalisation and nonlinearity still belong to the last layer found
    for name, run in trace.runs.items():
        layer = modules[name]
        if next(layer.children(), None) is not None or isinstance(layer, _SILENT) or (on_trunk and not run.on_trunk):
            continue
        if _count_weights(layer):
            found.append(name)
            is_open = True
        elif isinstance(layer, _POOLS):
            found.append(name)
            is_open = False
        elif is_open and run.shape == trace.runs[found[-1]].shape:
            found[-1] = name
    return found
