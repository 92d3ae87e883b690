"""Turn the layers of a batch of clips into rows of the store, while the next batch is computed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

import numpy as np
from torch import Tensor

from brainsim.commands.extract_again import record_command
from brainsim.commands.extract_jobs import Job
from brainsim.commands.extract_options import ExtractOptions
from brainsim.core.errors import NumericalError
from brainsim.models import LoadedModel
from brainsim.models.loading import name_device
from brainsim.models.pooling import count_features
from brainsim.models.transfer import HostCopy
from brainsim.store import ArraySpec, NodeWriter, Store, bfloat16
from brainsim.store.layout import disk_dtype_of

# The largest number of the types that hold fewer than float32, in which activations come.
LARGEST = {"float16": float(np.finfo(np.float16).max), bfloat16.BFLOAT16: bfloat16.LARGEST}


class JobWriter:
    """The nodes that one job lacks, open for writing.

    Parameters
    ----------
    job : Job
        What is extracted.
    model : LoadedModel
        Its model.
    options : ExtractOptions
        How.
    store : Store
        Where.
    stack : ExitStack
        Keeps the nodes' locks.

    Attributes
    ----------
    first : int
        First clip to be computed: those before it were written, and checked now, by a run that broke off. It begins a
        batch, because what a batch gives depends, in the last bits, on how many clips it has.
    n_bytes : int
        Bytes of activations written.
    warnings : tuple of str
        Of layers that a run that broke off began in another way, which are begun again.
    """

    def __init__(self, job: Job, model: LoadedModel, options: ExtractOptions, store: Store, stack: ExitStack) -> None:
        self.job = job
        self.options = options
        self.n_bytes = 0
        self._writers = {
            layer: stack.enter_context(_open_writer(job, layer, model, options, store)) for layer in job.missing
        }
        self.warnings = _tell_begun_otherwise(job, self._writers)
        kept = min(writer.n_rows("values") for writer in self._writers.values())
        self.first = kept if kept == job.plan.n_clips else kept // options.batch_size * options.batch_size

    def write(self, first: int, layers: Mapping[str, HostCopy]) -> None:
        """Append a batch's rows; of those that a layer has already, nothing is written.

        Parameters
        ----------
        first : int
            Number of the batch's first clip.
        layers : mapping of str to HostCopy
            Each missing layer's features, float32 (n_clips, n_features).

        Raises
        ------
        NumericalError
            Values that are not finite, or that the dtype cannot hold.
        """
        for layer, copy in layers.items():
            values = copy.result()
            writer = self._writers[layer]
            block = self._as_stored(values, layer, first)[writer.n_rows("values") - first :]
            if len(block):
                writer.append("values", block)
                self.n_bytes += block.size * disk_dtype_of(self.options.dtype).itemsize

    def complete(self) -> None:
        """Write the clips' times, and mark every node complete."""
        plan = self.job.plan
        for writer in self._writers.values():
            writer.append("time_s", plan.time_s[writer.n_rows("time_s") :])
            writer.append("window_s", plan.window_s[writer.n_rows("window_s") :])
            writer.complete()

    def _as_stored(self, values: Tensor, layer: str, first: int) -> np.ndarray:
        """Return a layer's block, (n_clips, n_features), checked; float16 where that is stored, else float32."""
        name, plan = self.job.row.name, self.job.plan
        block: np.ndarray = values.numpy()
        # By NumPy: a reduction by torch would start threads beside those of the next forward pass.
        if not np.isfinite(block).all():
            clip = first + int(np.flatnonzero(~np.isfinite(block).all(axis=1))[0])
            raise NumericalError(
                f"{name}, layer {layer}: activations of clip {clip} of {self.job.stimulus.name} (at "
                f"{plan.time_s[clip]:.3f} s) are not finite; nothing of it is kept.",
                hint="check the weights",
            )
        dtype = self.options.dtype
        if dtype in LARGEST:
            largest = float(np.abs(block).max(initial=0.0))
            if largest > LARGEST[dtype]:
                raise NumericalError(
                    f"{name}, layer {layer}: activations reach {largest:g}; {dtype} ends at {LARGEST[dtype]:g}.",
                    hint="--dtype bfloat16 or float32" if dtype == "float16" else "--dtype float32",
                )
        return block.astype(np.float16) if dtype == "float16" else block


def _tell_begun_otherwise(job: Job, writers: Mapping[str, NodeWriter]) -> tuple[str, ...]:
    differing = {layer: writer.begun_otherwise for layer, writer in writers.items() if writer.begun_otherwise}
    if not differing:
        return ()
    what = "; ".join(dict.fromkeys(difference for found in differing.values() for difference in found))
    return (
        f"{job.row.name} on {job.stimulus.name}: {len(differing)} layers that broke off were begun otherwise ({what}); "
        "they start again, because rows of both would not be those of either.",
    )


def _open_writer(job: Job, layer: str, model: LoadedModel, options: ExtractOptions, store: Store) -> NodeWriter:
    tap = next(tap for tap in model.taps if tap.name == layer)
    n_clips = job.plan.n_clips
    n_features = count_features(options.pool, tap, sketch=job.sketch)
    is_sketched = n_features < count_features(options.pool, tap)
    return store.writer(
        job.node(layer),
        type="activations",
        key=job.node_key(layer),
        arrays={
            "values": ArraySpec((n_clips, n_features), options.dtype),
            "time_s": ArraySpec((n_clips,), "float64"),
            "window_s": ArraySpec((n_clips, 2), "float64"),
        },
        attributes={
            "model": job.row.name,
            "layer": layer,
            "layer_index": job.row.layer_index(layer, options.tap),
            "stimulus": job.stimulus.name,
            "family": job.row.family,
            "shape": list(tap.shape),
            "pool": options.pool,
            "protocol": options.protocol,
            "clip_window": options.clip_window,
            "step_s": options.step_s,
            "resize": options.resize,
            "pad": options.pad,
            "n_padded_clips": job.plan.n_padded,
            "n_held_clips": job.plan.n_held,
            "n_dropped_clips": job.plan.n_dropped,
            "sketch": {"n_outputs": n_features, "error": options.kept_error} if is_sketched else None,
            "weights": model.weights_digest,
            "seed": options.seed,
            "precision": model.precision,
            "compiled": model.blocks is not None,
            # These change the last bits of a batch: what was begun with others is not gone on from.
            "batch_size": options.batch_size,
            "device": name_device(model.device),
            "command": record_command(job, options),
        },
        overwrite=options.overwrite,
        resume=True,
    )
