"""Turn jobs into nodes of the store: one decoding pass over a movie, one forward pass per batch of clips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

import numpy as np

from brainsim.commands.extract_jobs import ExtractOptions, Job
from brainsim.core.errors import NumericalError
from brainsim.core.progress import Progress
from brainsim.core.seeds import named_seed
from brainsim.models import LoadedModel, load_model
from brainsim.models.networks.masking import RandomMask
from brainsim.models.pooling import POOLS, count_features
from brainsim.stimuli import ClipBatch, ClipRequest, Stimulus, iter_clip_batches
from brainsim.store import ArraySpec, NodeWriter, Store


def load_models(jobs: Sequence[Job], options: ExtractOptions, progress: Progress) -> dict[str, LoadedModel]:
    """Load each model that has something to do, once."""
    rows = {job.row.name: job.row for job in jobs}
    loaded = {}
    with progress.task("loading models", total=len(rows), unit="models") as task:
        for name, row in rows.items():
            loaded[name] = load_model(
                row,
                protocol=options.protocol,
                checkpoint=options.checkpoint_of(row),
                random_weights=options.random_weights,
                seed=options.seed,
                device=options.device,
                tap=options.tap,
                precision=options.precision,
            )
            task.advance()
    return loaded


def tell_slow(models: Mapping[str, LoadedModel]) -> tuple[str, ...]:
    """Return a warning where a precision that was meant to save time will cost it."""
    slow = [name for name, model in models.items() if model.precision == "fp16" and model.device.type == "cpu"]
    if not slow:
        return ()
    return (f"{', '.join(slow)}: fp16 on a CPU is slower than fp32, above all in 3-D convolutions; bf16 is not.",)


def run_jobs(
    jobs: Sequence[Job],
    models: Mapping[str, LoadedModel],
    options: ExtractOptions,
    store: Store,
    progress: Progress,
) -> int:
    """Decode one stimulus once and write what every job lacks.

    Memory is bounded by one batch of clips and its activations, and one chunk per node. Nodes are marked complete when
    all their clips are written; an error leaves them unfinished.

    Returns
    -------
    int
        Bytes of activations written.
    """
    by_name = {job.row.name: job for job in jobs}
    stimulus, n_bytes = jobs[0].stimulus, 0
    requests = {name: ClipRequest(j.plan, models[name].input.size, options.batch_size) for name, j in by_name.items()}
    total = sum(job.plan.n_clips for job in jobs)
    for name in by_name:
        _reseed_masks(models[name], stimulus, seed=options.seed)
    with ExitStack() as stack:
        task = stack.enter_context(progress.task(f"{stimulus.name}, {len(jobs)} models", total=total, unit="clips"))
        writers = {
            (name, layer): stack.enter_context(_open_writer(job, layer, models[name], options, store))
            for name, job in by_name.items()
            for layer in job.missing
        }
        for batch in iter_clip_batches(stimulus, requests, resize=options.resize):
            job = by_name[batch.request]
            for layer, block in _compute(job, batch, models[job.row.name], options):
                writers[job.row.name, layer].append("values", block)
                n_bytes += block.nbytes
            task.advance(len(batch.frames))
        for (name, _), writer in writers.items():
            plan = by_name[name].plan
            writer.append("time_s", plan.time_s)
            writer.append("window_s", plan.window_s)
            writer.complete()
    return n_bytes


def _open_writer(job: Job, layer: str, model: LoadedModel, options: ExtractOptions, store: Store) -> NodeWriter:
    tap = next(tap for tap in model.taps if tap.name == layer)
    n_clips = job.plan.n_clips
    return store.writer(
        job.node(layer),
        type="activations",
        key=job.node_key(layer),
        arrays={
            "values": ArraySpec((n_clips, count_features(options.pool, tap)), options.dtype),
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
            "n_padded_clips": job.plan.n_padded,
            "weights": model.weights_digest,
            "seed": options.seed,
            "precision": model.precision,
        },
        overwrite=options.overwrite,
    )


def _compute(
    job: Job, batch: ClipBatch, model: LoadedModel, options: ExtractOptions
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each missing layer's block, (n_clips, n_features), checked and in the dtype of the store."""
    taps = {tap.name: tap for tap in model.taps}
    try:
        activations = model.activations(batch.frames, job.missing)
    except NumericalError as error:
        last = batch.first + len(batch.frames) - 1
        error.add_note(f"in clips {batch.first} to {last} of {job.stimulus.name}; nothing of it is kept.")
        raise
    for layer, values in activations.items():
        block = POOLS[options.pool](values, taps[layer]).float().cpu().numpy()
        bad = ~np.isfinite(block).all(axis=1)
        if bad.any():
            clip = batch.first + int(np.flatnonzero(bad)[0])
            raise NumericalError(
                f"{job.row.name}, layer {layer}: activations of clip {clip} of {job.stimulus.name} (at "
                f"{job.plan.time_s[clip]:.3f} s) are not finite; nothing of it is kept.",
                hint="check the weights",
            )
        if options.dtype == "float16":
            largest = float(np.abs(block).max(initial=0.0))
            if largest > float(np.finfo(np.float16).max):
                raise NumericalError(
                    f"{job.row.name}, layer {layer}: activations reach {largest:g}; float16 ends at 65504.",
                    hint="--dtype float32",
                )
        yield layer, block.astype(options.dtype, copy=False)


def _reseed_masks(model: LoadedModel, stimulus: Stimulus, *, seed: int) -> None:
    """Start random masks afresh for each stimulus: what is drawn must not depend on what was extracted before."""
    for module in model.network.module.modules():
        if isinstance(module, RandomMask):
            module.reseed(named_seed(seed, model.row.seed_name, "mask", stimulus.digest))
