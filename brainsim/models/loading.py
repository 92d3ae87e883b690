"""Turn a model's name into a network with weights that gives the activations of its layers."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from brainsim.core.errors import CheckpointError, DeviceError, InvalidValueError
from brainsim.core.provenance import digest
from brainsim.core.registry import unknown_name
from brainsim.core.seeds import named_seed
from brainsim.models.catalogue import find_row
from brainsim.models.checkpoints import fill_network, is_trained_as, read_checkpoint
from brainsim.models.inputs import batch_shape, scale, show
from brainsim.models.keys import choose_precision, choose_weights, weights_key
from brainsim.models.network import Network, State, build_network, digest_state
from brainsim.models.networks.masking import RandomMask
from brainsim.models.precision import check_finite, check_precision, run_in_precision
from brainsim.models.random_weights import draw_weights
from brainsim.models.rows import InputSpec, ModelRow, ProtocolSpec
from brainsim.models.taps import TapInfo, capture, trace_taps

if TYPE_CHECKING:
    from brainsim.models.compiling import CompiledBlocks


class LoadedModel:
    """A network with weights, and the way from frames to the activations of its layers.

    Parameters
    ----------
    row : ModelRow
        What it is.
    spec : ProtocolSpec
        How it is run.
    network : Network
        Its module: in eval mode, on `device`.
    taps : tuple of TapInfo
        Its layers in order of depth.
    weights_digest : str
        SHA-256 that tells its weights from any others.
    device : torch.device
        Where it runs.
    precision : {"fp32", "fp16", "bf16"}
        What its forward pass multiplies in.

    Attributes
    ----------
    blocks : CompiledBlocks, optional
        What `compile` has compiled.
    """

    def __init__(
        self,
        row: ModelRow,
        *,
        spec: ProtocolSpec,
        network: Network,
        taps: tuple[TapInfo, ...],
        weights_digest: str,
        device: torch.device,
        precision: str = "fp32",
    ) -> None:
        self.row = row
        self.spec = spec
        self.network = network
        self.taps = taps
        self.weights_digest = weights_digest
        self.device = device
        self.precision = precision
        self.blocks: CompiledBlocks | None = None
        self.batch_size = 0

    @property
    def input(self) -> InputSpec:
        """What the network is shown in this protocol."""
        return self.spec.input

    @property
    def is_reentrant(self) -> bool:
        """Whether several threads may run its forward pass at once.

        Not with random masks, which are drawn clip after clip; nor with compiled blocks, which keep outputs on their
        modules; nor where the network is a user's, who need not have thought of it.
        """
        has_masks = any(isinstance(module, RandomMask) for module in self.network.module.modules())
        return not has_masks and self.blocks is None and not self.row.name.startswith("file:")

    def prepare(self, frames: np.ndarray) -> Tensor:
        """Return frames as the network takes them: scaled, normalised and laid out, float32 on the model's device.

        Parameters
        ----------
        frames : ndarray of uint8, (n_clips, n_frames, height, width, 3)
            RGB, already of the input's size.

        Raises
        ------
        InvalidValueError
            Another dtype or shape; a wrong number of frames is never padded or cut.
        """
        spec = self.input
        expected = (spec.n_frames, *spec.size, 3)
        if frames.dtype != np.uint8 or frames.ndim != 5 or frames.shape[1:] != expected or not len(frames):
            raise InvalidValueError(
                f"{self.row.name} was given frames of {frames.dtype} {frames.shape}; it takes uint8 "
                f"(n_clips, {', '.join(map(str, expected))})."
            )
        return show(scale(frames, spec, self.device), spec)

    def compile(self, batch_size: int) -> None:
        """Compile the network's blocks for one size of batches, and see that this works: it takes a minute on a CPU.

        Smaller batches are filled up from then on, so that nothing is compiled again. Activations differ from those of
        the network as it is by less than 1e-5 of their norm in fp32; in half precision by what it errs itself.

        Parameters
        ----------
        batch_size : int
            Clips per batch.

        Raises
        ------
        DeviceError
            Blocks that torch cannot compile, or no compiler.
        InvalidValueError
            A network without blocks.
        """
        from brainsim.models.compiling import CompiledBlocks, explain_compiling  # half a second

        self.blocks = CompiledBlocks(self.network.module, [tap.name for tap in self.taps], name=self.row.name)
        self.batch_size = batch_size
        spec = self.input
        with explain_compiling(self.row.name, self.device):
            self.activations(np.zeros((batch_size, spec.n_frames, *spec.size, 3), np.uint8))

    def activations(self, frames: np.ndarray, layers: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Return the outputs of layers for a batch of clips, from one forward pass that ends after the last of them.

        Parameters
        ----------
        frames : ndarray of uint8, (n_clips, n_frames, height, width, 3)
            RGB, of the input's size.
        layers : sequence of str, optional
            Names of modules; default: all taps. Any module of the network may be named, not only taps.

        Returns
        -------
        dict of str to Tensor, (n_clips, *shape)
            float32, on the model's device, in the order of `layers`; copies that nothing else changes.

        Raises
        ------
        UnknownNameError
            A layer that the network does not have.
        NumericalError
            Half precision that made infinity or NaN.
        InvalidValueError
            Frames of another shape; where blocks are compiled, larger batches than they were compiled for and layers
            inside them that are no taps.
        """
        names = [tap.name for tap in self.taps] if layers is None else list(layers)
        batch = self.prepare(self._fill_up(frames, names))
        # Taps are known to run once, because a whole forward pass was traced; other modules are watched to the end.
        traced = {tap.name for tap in self.taps}
        inside = {} if self.blocks is None else self.blocks.outer
        with (
            torch.inference_mode(),
            _exact_float32(self.device),
            run_in_precision(self.precision, self.device, name=self.row.name),
            capture(self.network.module, names, stop=traced.issuperset(names), inside=inside) as outputs,
        ):
            self.network.forward(batch)
        absent = [name for name in names if name not in outputs]
        if absent:
            raise unknown_name("layer that runs", absent[0], list(outputs))
        for name in names:
            outputs[name] = outputs[name][: len(frames)].float()
            check_finite(outputs[name], precision=self.precision, name=self.row.name, layer=name)
        return {name: outputs[name] for name in names}

    def _fill_up(self, frames: np.ndarray, layers: Sequence[str]) -> np.ndarray:
        """Return a batch of the size that blocks were compiled for, its last clip repeated."""
        if self.blocks is None:
            return frames
        self.blocks.check_layers(layers, name=self.row.name)
        n_more = self.batch_size - len(frames)
        if n_more < 0:
            raise InvalidValueError(
                f"{self.row.name} was given {len(frames)} clips; it is compiled for batches of {self.batch_size}."
            )
        return np.concatenate([frames, *[frames[-1:]] * n_more]) if n_more else frames


def load_model(
    name: str | ModelRow,
    *,
    protocol: str = "default",
    checkpoint: Path | str | None = None,
    random_weights: bool = False,
    seed: int = 0,
    device: str = "cpu",
    tap: str | None = None,
    precision: str = "fp32",
) -> LoadedModel:
    """Load a model: build its network, fill its weights, find its layers.

    Parameters
    ----------
    name : str or ModelRow
        Row's name (see `brainsim.models.MODELS`) or NAME-untrained, the name of any other model (docs/models.md), or a
        row.
    protocol : {"default", "study"}
        As the system was trained, or as the study's scripts ran it.
    checkpoint : Path, optional
        File or transformers folder in any published layout of this row.
    random_weights : bool
        Draw the weights: the untrained control. Rows whose weights are always random need no flag.
    seed : int
        Of random weights and random masks.
    device : str
        "cpu", "cuda", "cuda:1", "mps", or "auto": a GPU where there is one.
    tap : str, optional
        Another set of taps of the row ("mlp-out", "residual").
    precision : {"fp32", "fp16", "bf16"}
        What the forward pass multiplies in; see docs/models.md. Models without weights are always run in fp32.

    Raises
    ------
    UnknownNameError
        No such model.
    CheckpointError
        Weights that do not fit, or cannot be had.
    DeviceError
        A device or a precision that this machine does not have.
    """
    row = find_row(name)
    spec = row.protocol(protocol)
    layers = row.layers(tap)
    path = None if checkpoint is None else Path(checkpoint)
    kind = choose_weights(row, checkpoint=path, random_weights=random_weights)
    target = find_device(device)
    precision = choose_precision(row, precision)
    check_precision(precision, target)
    # Libraries draw starting weights from torch's global generator: lend them a copy of it.
    with torch.random.fork_rng(devices=[]):
        network = build_network(row, protocol)
    weights_digest = _fill(network, row, kind=kind, path=path, seed=seed, protocol=protocol)
    network.module.eval()
    network.module.requires_grad_(False)
    taps = trace_taps(network, layers, batch_shape(spec.input))
    for module in network.module.modules():
        if isinstance(module, RandomMask):
            module.reseed(named_seed(seed, row.seed_name, "mask"))
    network.module.to(target)
    return LoadedModel(
        row,
        spec=spec,
        network=network,
        taps=taps,
        weights_digest=weights_digest,
        device=target,
        precision=precision,
    )


def tap_infos(name: str | ModelRow, *, protocol: str = "default", tap: str | None = None) -> tuple[TapInfo, ...]:
    """Return the layers of a model with their shapes, without weights: nothing is computed or fetched."""
    row = find_row(name)
    with torch.device("meta"):
        network = build_network(row, protocol)
    network.module.eval()
    return trace_taps(network, row.layers(tap), batch_shape(row.protocol(protocol).input))


def find_device(device: str) -> torch.device:
    """Return the torch device of a name; "auto" takes a GPU where there is one.

    Raises
    ------
    DeviceError
        A device that this machine does not have.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise DeviceError(f"device {device!r} cannot be used here ({reason}).", hint="--device auto or cpu") from error
    return found


def name_device(device: torch.device) -> str:
    """Return what decides the last bits that a device computes: a GPU's model, or a CPU's vector instructions."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({torch.backends.cpu.get_cpu_capability()})" if device.type == "cpu" else device.type


def _fill(network: Network, row: ModelRow, *, kind: str, path: Path | None, seed: int, protocol: str) -> str:
    if kind == "random":
        draw_weights(network.module, seed=seed, name=row.seed_name)
    elif kind == "checkpoint" and path is not None:
        state = network.convert(read_checkpoint(path))
        if network.adapt is not None and is_trained_as(path, row.name):
            network.adapt(state)
        fill_network(network.module, state, name=row.name, source=str(path))
    elif kind == "hub":
        state = network.convert(fetch_weights(network, row))
        fill_network(network.module, state, name=row.name, source=row.weights.identifier)
    if kind in ("checkpoint", "hub", "own"):
        return digest_state(network.module)
    return digest(weights_key(row, protocol=protocol, random_weights=kind == "random", seed=seed))


def fetch_weights(network: Network, row: ModelRow) -> State:
    """Return the state dict of a row's public weights, through its library's own loader.

    Raises
    ------
    CheckpointError
        Weights that cannot be fetched: the message names the file and the option to pass it.
    """
    if network.fetch is None:
        raise CheckpointError(f"{row.name} has no loader for its public weights.", hint="--checkpoint PATH")
    try:
        return network.fetch()
    except CheckpointError:
        raise
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).partition("\n")[0]
        raise CheckpointError(
            f"the public weights of {row.name} ({row.weights.kind}: {row.weights.identifier}) could not be fetched "
            f"({reason}).",
            hint=f"fetch {' or '.join(row.weights.files)} elsewhere and pass it with --checkpoint PATH",
        ) from error


@contextmanager
def _exact_float32(device: torch.device) -> Iterator[None]:
    """Keep cuDNN's convolutions from rounding to TF32 (1e-3) for the length of a `with` block."""
    if device.type != "cuda":
        yield
        return
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = allowed
