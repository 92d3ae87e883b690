"""Turn a way to build any network into its row: run once without numbers, its layers found and described."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from brainsim.core.errors import BrainsimError, InvalidValueError
from brainsim.core.registry import suggest
from brainsim.models.external.finding import find_taps
from brainsim.models.external.layouts import Tokens, find_layouts
from brainsim.models.external.tracing import Trace, trace_modules
from brainsim.models.inputs import batch_shape
from brainsim.models.network import Network, build_network
from brainsim.models.rows import InputSpec, ModelRow


def describe_network(
    row: ModelRow,
    build: Callable[[], Network],
    tokens: Callable[[Network], Tokens],
    *,
    taps: Sequence[str] = (),
    heads: Sequence[str] = (),
) -> ModelRow:
    """Return a row with the taps and modules of its network.

    Parameters
    ----------
    row : ModelRow
        Everything else; its `taps` are replaced.
    build : callable
        Builds the network, its weights whatever they are; called where tensors hold no numbers if that works.
    tokens : callable
        What the model declares of its tokens.
    taps : sequence of str
        Declared taps; by default they are found.
    heads : sequence of str
        Names of its classifiers: no taps by default.

    Raises
    ------
    InvalidValueError
        A network that does not run on its input, or without a module that could be a tap.
    """
    with torch.random.fork_rng(devices=[]):  # libraries draw starting weights
        network, trace, device = _run(row.name, build, row.input)
        layouts = find_layouts(network, row.input, trace, tokens(network), device=device)
    chosen = _check_taps(row.name, taps, trace) or find_taps(network.module, trace, heads=heads)
    if not chosen:
        raise InvalidValueError(
            f"{row.name} has no module whose output is one tensor per clip; it cannot be tapped.",
            hint="let the layers that matter be modules of their own",
        )
    return replace(row, taps=chosen, modules=layouts)


def build_anywhere(build: Callable[[], Network]) -> Network:
    """Build where tensors are wanted (on the meta device, to learn shapes only), or on the CPU if it fails there."""
    try:
        return build()
    except (NotImplementedError, RuntimeError):  # a constructor that looks at values
        with torch.device("cpu"):
            return build()


def refused_modules(row: ModelRow) -> dict[str, str]:
    """Return the modules of an external model that cannot be tapped, with the reason."""
    with torch.random.fork_rng(devices=[]):
        return _run(row.name, lambda: build_network(row), row.input)[1].refused


def _run(name: str, build: Callable[[], Network], spec: InputSpec) -> tuple[Network, Trace, str]:
    """Build and trace on the meta device, or with zeros on the CPU where the network wants numbers."""
    shape = batch_shape(spec)
    try:
        with torch.device("meta"):
            network = build()
        network.module.eval()
        return network, trace_modules(network, shape), "meta"
    except BrainsimError:
        raise
    except Exception:  # any error can come of tensors without numbers; the CPU decides whether it is the model's own
        pass
    network = build()
    network.module.eval()
    try:
        return network, trace_modules(network, shape, device="cpu"), "cpu"
    except Exception as error:  # the model's own code raised it
        raise InvalidValueError(
            f"{name} does not run on a clip of shape {shape} ({type(error).__name__}: {_first_line(error)}).",
            hint=f"brainsim models show {name} --no-layers tells what it is shown",
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or "no reason given"


def _check_taps(name: str, taps: Sequence[str], trace: Trace) -> tuple[str, ...]:
    for tap in taps:
        if tap not in trace.runs:
            reason = trace.refused.get(tap) or suggest(tap, list(trace.runs))
            raise InvalidValueError(f"{name} declares the tap {tap!r}, which cannot be one: {reason}")
    depth = {module: place for place, module in enumerate(trace.runs)}
    return tuple(sorted(dict.fromkeys(taps), key=depth.__getitem__))
