"""Turn jobs into nodes of the store: one decoding pass over a movie, one forward pass per batch of clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import NamedTuple

import torch

from brainsim.commands.extract_jobs import Job
from brainsim.commands.extract_options import ExtractOptions
from brainsim.commands.extract_writing import JobWriter
from brainsim.compute.threads import map_in_order, torch_threads
from brainsim.core.errors import NumericalError
from brainsim.core.progress import Progress, Task
from brainsim.core.resources import memory_free_bytes
from brainsim.core.seeds import named_seed
from brainsim.models import LoadedModel, load_model
from brainsim.models.keys import choose_compile
from brainsim.models.networks.masking import RandomMask
from brainsim.models.pooling import find_pool
from brainsim.models.sketch import Sketch, find_sketch, trim_sketches
from brainsim.models.transfer import HostCopy
from brainsim.stimuli import ClipBatch, ClipRequest, Stimulus, iter_clip_batches
from brainsim.stimuli.ahead import Behind, run_ahead
from brainsim.store import Store

# Batches that are computed at once on a CPU at most: each takes memory, and this many keep any number of cores busy.
MAX_AT_ONCE = 4


class Written(NamedTuple):
    """What was written: bytes of activations, and what a user must see about it."""

    n_bytes: int
    warnings: tuple[str, ...]


def load_models(jobs: Sequence[Job], options: ExtractOptions, progress: Progress) -> dict[str, LoadedModel]:
    """Load each model that has something to do, once, and compile it where that is asked for."""
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
    compiled = [model for name, model in loaded.items() if choose_compile(rows[name], options.compile)]
    if compiled:
        with progress.task("compiling models", total=len(compiled), unit="models") as task:
            for model in compiled:
                model.compile(options.batch_size)
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
) -> Written:
    """Decode one stimulus once and write what every job lacks.

    Decoding, forward passes and writing overlap: a thread decodes the next batch and another checks and writes the last
    one while this one is computed. On a CPU a few batches are computed side by side, each by its share of the cores:
    there the threads of one forward pass would all wait, in every product, for the one that decoding or writing holds
    up. Memory is bounded by two batches of clips and of activations beside those that are computed, and a chunk per
    node.
    What a run that broke off left is gone on from, at a batch. Nodes are marked complete when all their clips are
    written; an error leaves them unfinished.

    Returns
    -------
    Written
        Bytes of activations, and what was begun again.
    """
    by_name = {job.row.name: job for job in jobs}
    stimulus = jobs[0].stimulus
    total = sum(job.plan.n_clips for job in jobs)
    with ExitStack() as stack:
        task = stack.enter_context(progress.task(f"{stimulus.name}, {len(jobs)} models", total=total, unit="clips"))
        writers = {name: JobWriter(job, models[name], options, store, stack) for name, job in by_name.items()}
        warnings = tuple(warning for writer in writers.values() for warning in writer.warnings)
        for warning in warnings:
            progress.warn(warning)
        requests = {
            name: ClipRequest(job.plan, models[name].input.size, options.batch_size, writers[name].first)
            for name, job in by_name.items()
        }
        for name, writer in writers.items():
            _reseed_masks(models[name], stimulus, seed=options.seed, n_skipped=writer.first)
            task.advance(writer.first)
        devices = {(job.sketch, models[name].device) for name, job in by_name.items() if job.sketch}
        # One for all models: layers of any model share its first columns.
        sketches = {found: find_sketch(found[0], seed=options.seed, device=found[1]) for found in devices}
        stack.callback(trim_sketches)
        batches = stack.enter_context(
            closing(run_ahead(iter_clip_batches(stimulus, requests, resize=options.resize), depth=1))
        )
        behind = stack.enter_context(Behind(depth=1))

        def compute(batch: ClipBatch) -> dict[str, HostCopy]:
            job, model = by_name[batch.request], models[batch.request]
            return _compute(job, batch, model, options, sketches.get((job.sketch or 0, model.device)))

        n_at_once = count_at_once(jobs, models, batch_size=options.batch_size)
        stack.enter_context(torch_threads(torch.get_num_threads() // n_at_once))
        computed = map_in_order(compute, batches, n_workers=n_at_once, max_ahead=lambda _: n_at_once)
        for batch, layers in stack.enter_context(closing(computed)):
            behind.call(partial(_write, writers[batch.request], batch.first, len(batch.frames), layers, task))
        behind.wait()
        for writer in writers.values():
            writer.complete()
    return Written(sum(writer.n_bytes for writer in writers.values()), warnings)


def count_at_once(jobs: Sequence[Job], models: Mapping[str, LoadedModel], *, batch_size: int) -> int:
    """Return how many batches are computed side by side: one on a GPU, or where a model must be run in order."""
    if any(model.device.type != "cpu" or not model.is_reentrant for model in (models[job.row.name] for job in jobs)):
        return 1
    # A batch's layers are in memory while it is computed, waits and is written; so is what its forward pass works with.
    n_features = max(sum(t.n_features for t in models[job.row.name].taps if t.name in job.missing) for job in jobs)
    by_memory = memory_free_bytes() // 2 // (3 * 4 * batch_size * n_features)
    return max(1, min(torch.get_num_threads(), MAX_AT_ONCE, by_memory))


def _write(writer: JobWriter, first: int, n_clips: int, layers: Mapping[str, HostCopy], task: Task) -> None:
    writer.write(first, layers)
    task.advance(n_clips)


def _compute(
    job: Job, batch: ClipBatch, model: LoadedModel, options: ExtractOptions, sketch: Sketch | None
) -> dict[str, HostCopy]:
    """Return each missing layer's features, float32 (n_clips, n_features), on their way to this machine's memory."""
    taps = {tap.name: tap for tap in model.taps}
    pool = find_pool(options.pool)
    try:
        activations = model.activations(batch.frames, job.missing)
    except NumericalError as error:
        last = batch.first + len(batch.frames) - 1
        error.add_note(f"in clips {batch.first} to {last} of {job.stimulus.name}; nothing of it is kept.")
        raise
    features = {layer: pool(values, taps[layer]).float() for layer, values in activations.items()}
    return {layer: HostCopy(values if sketch is None else sketch(values)) for layer, values in features.items()}


def _reseed_masks(model: LoadedModel, stimulus: Stimulus, *, seed: int, n_skipped: int) -> None:
    """Start random masks afresh for each stimulus: what is drawn must not depend on what was extracted before.

    The masks of the first `n_skipped` clips are drawn and dropped, so that each clip has the one it always has.
    """
    for module in model.network.module.modules():
        if isinstance(module, RandomMask):
            module.reseed(named_seed(seed, model.row.seed_name, "mask", stimulus.digest), n_skipped=n_skipped)
