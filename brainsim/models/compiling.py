"""Turn the blocks of a network into compiled code that still gives every layer that is tapped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch._dynamo
from torch import nn

from brainsim.core.errors import BrainsimError, DeviceError, InvalidValueError
from brainsim.models.networks.masking import RandomMask
from brainsim.models.taps import put_inside

# Versions of one piece of code that torch may keep. Its own limit of 8 counts the blocks of all models of a process
# that share a class and differ in a size or a stride.
MAX_VERSIONS = 1024


class CompiledBlocks:
    """The blocks of a network, each compiled by itself, with the taps inside them.

    What lies between the blocks stays as it is, so that hooks on blocks, the end of the forward pass after the last
    wanted layer, and random masks work as ever. Hooks inside compiled code are seen when it is compiled and never
    again: those of all taps are put there first, each keeping its copy on its module, from where the hook of the block
    takes it. They are the same function for every tap, so that blocks that are alike share one piece of code. Which
    layers are wanted changes nothing inside: a layer's bits do not depend on them.

    Parameters
    ----------
    module : Module
        The network, in eval mode, on its device; the `forward` of its blocks is replaced.
    taps : sequence of str
        Its taps.
    name : str
        The model's, for errors.

    Attributes
    ----------
    blocks : dict of str to Module
        What is compiled.
    outer : dict of str to str
        Tap inside a block -> the block.

    Raises
    ------
    InvalidValueError
        A network without a block of several modules.
    DeviceError
        Where torch is told to compile nothing.
    """

    def __init__(self, module: nn.Module, taps: Sequence[str], *, name: str) -> None:
        if torch._dynamo.config.disable:
            raise DeviceError(
                f"{name} cannot be compiled: torch is told to compile nothing.", hint="unset TORCH_COMPILE_DISABLE"
            )
        self.blocks = find_blocks(module, taps)
        if not self.blocks:
            raise InvalidValueError(
                f"{name} has no block of several modules, so that there is nothing to compile.", hint="no --compile"
            )
        self.outer = {tap: block for tap in taps for block in self.blocks if tap.startswith(f"{block}.")}
        for tap in self.outer:
            put_inside(module.get_submodule(tap))
        for block in self.blocks.values():
            block.forward = torch.compile(block.forward, fullgraph=True, dynamic=False)

    def check_layers(self, layers: Sequence[str], *, name: str) -> None:
        """Raise InvalidValueError for a layer inside a block that no hook was put on before it was compiled."""
        for layer in layers:
            block = next((block for block in self.blocks if layer.startswith(f"{block}.")), None)
            if block is not None and layer not in self.outer:
                raise InvalidValueError(
                    f"layer {layer!r} of {name} lies inside {block!r}, which is compiled; only taps are given there.",
                    hint="load the model without compiling it",
                )


@contextmanager
def explain_compiling(name: str, device: torch.device) -> Iterator[None]:
    """Let torch compile as many versions as there are, and turn what keeps it from compiling into a DeviceError."""
    limits: dict[str, Any] = {"recompile_limit": MAX_VERSIONS, "accumulated_recompile_limit": MAX_VERSIONS}
    try:
        with torch._dynamo.config.patch(limits):
            yield
    except (BrainsimError, torch.cuda.OutOfMemoryError):
        raise
    except (RuntimeError, torch._dynamo.exc.FailOnRecompileLimitHit) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise DeviceError(
            f"torch cannot compile {name} on device {device} ({reason}).",
            hint="leave --compile out; on a CPU it needs a C++ compiler, on a GPU Triton",
        ) from error


def find_blocks(module: nn.Module, taps: Sequence[str]) -> dict[str, nn.Module]:
    """Return the modules that are compiled, by name: the elements of the lists that taps lie in, and what is beside.

    Single operations are left out, which have nothing to be fused with; so is what draws random masks.
    """
    inner = {".".join(parts[:n]) for tap in taps for parts in [tap.split(".")] for n in range(len(parts))}
    blocks: dict[str, nn.Module] = {}

    def walk(parent: nn.Module, path: str) -> None:
        for name, child in parent.named_children():
            full = f"{path}.{name}" if path else name
            if isinstance(child, nn.ModuleList | nn.ModuleDict) or (full in inner and _has_list(child, full, inner)):
                walk(child, full)
            elif _is_worth_it(child):
                blocks[full] = child

    walk(module, "")
    return blocks


def _has_list(module: nn.Module, path: str, inner: set[str]) -> bool:
    """Tell whether a module is, or holds, a list of modules that taps lie in."""
    lists = (nn.ModuleList, nn.ModuleDict, nn.Sequential)
    return any(
        isinstance(found, lists) and (f"{path}.{name}" if name else path) in inner
        for name, found in module.named_modules()
    )


def _is_worth_it(module: nn.Module) -> bool:
    has_masks = any(isinstance(found, RandomMask) for found in module.modules())
    return not has_masks and any(True for _ in module.children()) and any(True for _ in module.parameters())
