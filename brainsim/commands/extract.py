"""Turn movies and model names into layer activations in the store: one decoding pass, one forward pass, all layers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainsim.core.checks import check_count
from brainsim.core.errors import InvalidValueError, StoreError
from brainsim.core.progress import SILENT, Progress

if TYPE_CHECKING:
    from brainsim.commands.extract_jobs import Job
    from brainsim.stimuli import Stimulus
    from brainsim.store import Store

# Codecs and containers begin sound and film up to this much apart; it is nothing beside a TR.
SOUND_LEAD_S = 0.1


@dataclass(frozen=True)
class ExtractSummary:
    """What an extraction did, or would do.

    Parameters
    ----------
    store : str
        The store's path.
    feature_sets : dict
        Model -> feature set, the name under `activations/`.
    stimuli : tuple of str
        Names of the stimuli.
    n_nodes_written, n_nodes_reused : int
        Activations nodes made (to be made, in a dry run) and found complete.
    n_clips, n_padded_clips : int
        Clips over models and stimuli, and those whose window reaches beyond the movie.
    bytes : int
        Bytes of the activations written (to be written).
    seconds : float
        Wall time.
    warnings : tuple of str
        What the user must see.
    dry_run : bool
        Whether nothing was written.
    plan : tuple of dict
        In a dry run: one row per node: {node, model, layer, stimulus, n_clips, n_features, bytes, state}.
    """

    store: str
    feature_sets: dict[str, str]
    stimuli: tuple[str, ...]
    n_nodes_written: int
    n_nodes_reused: int
    n_clips: int
    n_padded_clips: int
    bytes: int
    seconds: float
    warnings: tuple[str, ...]
    dry_run: bool = False
    plan: tuple[dict[str, Any], ...] = ()


def extract(
    stimuli: Sequence[str | Path],
    *,
    models: Sequence[str] = (),
    model_file: str | None = None,
    store: str | Path = "store/brainsim.zarr",
    layers: Sequence[str] = ("*",),
    pool: str = "none",
    sketch: int | None = None,
    sketch_error: float | None = None,
    dtype: str = "float32",
    precision: str = "fp32",
    compile: bool = False,
    step_s: float = 1.0,
    clip_window: str = "trailing",
    pad: str = "repeat",
    frame_s: float | None = None,
    axes: str = "tyx",
    value_range: tuple[float, float] | None = None,
    resize: str = "crop",
    protocol: str = "default",
    tap: str | None = None,
    checkpoint: str | Path | None = None,
    random_weights: bool = False,
    seed: int = 0,
    device: str = "auto",
    batch_size: int = 8,
    names: Sequence[str] | None = None,
    cluster: str = "threads",
    n_workers: int = 0,
    cluster_options: Sequence[str] = (),
    dry_run: bool = False,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> ExtractSummary:
    """Extract the activations of models to movies into the store.

    Every movie is decoded once for all models, every clip passes once through each model for all its layers. Nodes that
    are complete are not made again; a run that broke off is continued by the same command. The same command run twice
    loads no model and decodes nothing the second time.

    Parameters
    ----------
    stimuli : sequence of path
        Videos, arrays (.npy, .npz) or folders of images.
    models : sequence of str
        Names or globs of model rows, NAME-untrained for the untrained control of one, and names of any other model:
        timm:NAME, torchvision:NAME, hf:ID; see docs/models.md.
    model_file : str, optional
        A model of your own: FILE.py:FUNCTION, where the function returns the network and what it is shown.
    store : path
        The store; made where there is none.
    layers : sequence of str
        Globs of layer names; one that no layer of any model matches is an error. For models that are not rows a
        glob that matches none of their layers is tried on all their modules.
    pool : str
        What is done to activations before they are stored: "none", "mean" (over all but the channels), "cls" (the
        tokens that stand for the whole clip alone) or "spatial-2x2" (over time and each cell of a grid of 2 x 2, or
        any other, over the picture).
    sketch : int, optional
        Features to which a seeded sparse random projection reduces each layer that has more, after pooling. Inner
        products, and so kernels, are kept up to an error; see docs/extraction.md.
    sketch_error : float, optional
        Error that inner products may have, as a share of the two clips' lengths; `sketch` is then chosen for it and
        for the number of clips: 0.05 keeps some 28,000 features, 0.1 some 7,000.
    dtype : {"float32", "float16", "bfloat16"}
        How they are stored: float16 keeps 3 digits and ends at 65,504, beyond which values are an error; bfloat16 keeps
        2 digits of any float32.
    precision : {"fp32", "fp16", "bf16"}
        What the forward pass multiplies in. Half precision is faster on GPUs; activations then differ by less than
        0.4 % (fp16) or 3 % (bf16) of their norm, and what leaves the range of fp16 is an error. See docs/models.md.
    compile : bool
        Let torch compile the blocks of each model first, which takes from half a minute to some minutes and pays for
        long movies on GPUs. Activations then differ by less than 1e-5 of their norm.
    step_s : float
        Seconds from one clip to the next.
    clip_window : {"trailing", "centred"}
        Whether a clip ends at its reference time or lies around it.
    pad : {"repeat", "drop", "error"}
        What becomes of clips that reach beyond their movie, or into a gap of it: the nearest frame is repeated and that
        is told; they are left out and that is told; or they are an error.
    frame_s : float, optional
        Seconds per frame of arrays, or per image.
    axes : {"tyx", "txy"}
        Axes of arrays.
    value_range : (float, float), optional
        Values of black and white in arrays.
    resize : {"crop", "stretch", "pad"}
        How frames are brought to a model's size; see `brainsim.stimuli.iter_frames`.
    protocol : {"default", "study", "study-mask", "study-scaling", "study-window"}
        As the systems were trained; as the study's scripts ran them; or with one step of these. See docs/systems.md.
    tap : str, optional
        Another set of layers of the models ("mlp-out", "residual").
    checkpoint : path, optional
        Weights of the one model named; untrained controls beside it take none.
    random_weights : bool
        Random weights, from `seed`, in place of those of every model named. NAME-untrained does this for one model,
        beside the trained one.
    seed : int
        Seed of random weights and masks.
    device : str
        "auto", "cpu", "cuda", "cuda:0".
    batch_size : int
        Clips per forward pass.
    names : sequence of str, optional
        Names of the stimuli in the store; default: the files' stems.
    cluster : {"threads", "local", "slurm", "cuda"}
        Where models run: all in this process, sharing each movie's decoding; or each on each movie as a task of its
        own, in processes of this machine, in SLURM jobs, or in one process per GPU.
    n_workers : int
        Workers of the cluster; with "threads", cores that forward passes use; 0 takes what there is.
    cluster_options : sequence of str
        Further words for the cluster as KEY=VALUE: memory_per_worker, cores_per_worker, queue, account, walltime,
        directives, prologue, interface, log_directory, dashboard_port; by default none.
    dry_run : bool
        Say what would be done.
    overwrite : bool
        Make nodes anew that are complete, also of another movie of the same name.
    progress : Progress
        Told about each movie.

    Returns
    -------
    ExtractSummary

    Raises
    ------
    InvalidValueError, UnknownNameError, InputFileError
        An option, a name or a file that is not right.
    NumericalError
        Activations that are not finite, or beyond half precision: nothing of that model and movie is kept.
    DeviceError
        A device or a precision that this machine does not have, or a model that cannot be compiled here.
    StoreError
        No space, or nodes of the same name from another movie.
    """
    from brainsim.commands import extract_jobs as plans
    from brainsim.commands import extract_sizes as sizing
    from brainsim.commands.cluster_words import read_cluster_words
    from brainsim.commands.extract_options import ExtractOptions
    from brainsim.stimuli import open_stimulus

    begin_s = time.perf_counter()
    options = ExtractOptions(
        layers=_as_tuple(layers),
        pool=pool,
        dtype=dtype,
        precision=precision,
        step_s=float(step_s),
        clip_window=clip_window,
        resize=resize,
        protocol=protocol,
        tap=tap,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        random_weights=random_weights,
        seed=seed,
        device=device,
        batch_size=batch_size,
        overwrite=overwrite,
        pad=pad,
        sketch=sketch,
        sketch_error=sketch_error,
        compile=compile,
    )
    named = _as_tuple(models) + (() if model_file is None else (f"file:{model_file}",))
    rows, unchanged = plans.keep_changed(plans.find_models(named, options), protocol)
    if unchanged:
        progress.note(unchanged)
    paths = [stimuli] if isinstance(stimuli, str | Path) else list(stimuli)
    _check_names(paths, names)
    check_count("--n-workers", n_workers, at_least=0)
    where = read_cluster_words(cluster, 0 if cluster == "threads" else n_workers, cluster_options)
    opening: dict[str, Any] = {"frame_s": frame_s, "axes": axes, "value_range": value_range}
    opened = [
        open_stimulus(path, name=name, **opening)
        for path, name in zip(paths, names or (None,) * len(paths), strict=True)
    ]
    _check_distinct([stimulus.name for stimulus in opened], paths)
    _check_array_words(opened, axes, value_range)
    box = plans.open_store(Path(store), dry_run=dry_run)
    jobs = plans.plan_jobs(rows, opened, options, box)
    summary = ExtractSummary(
        store=str(store),
        feature_sets={job.row.name: job.feature_set for job in jobs},
        stimuli=tuple(stimulus.name for stimulus in opened),
        n_nodes_written=sum(len(job.missing) for job in jobs),
        n_nodes_reused=sum(len(job.layers) - len(job.missing) for job in jobs),
        n_clips=sum(job.plan.n_clips for job in jobs),
        n_padded_clips=sum(job.plan.n_padded for job in jobs),
        bytes=0,
        seconds=0.0,
        warnings=(*_tell_late_films(opened), *_collect_warnings(jobs)),
        dry_run=dry_run,
    )
    for warning in summary.warnings:
        progress.warn(warning)
    todo = [job for job in jobs if job.missing]
    if box is None or dry_run:
        plan = tuple(sizing.describe_jobs(jobs, options))
        n_bytes = sum(row["bytes"] for row in plan if row["state"] == "write")
        summary = _tell_room(summary, plan, box, progress)
        return replace(summary, bytes=n_bytes, plan=plan, seconds=time.perf_counter() - begin_s)
    n_bytes = 0
    slow: tuple[str, ...] = ()
    begun_again: tuple[str, ...] = ()
    sizes = sizing.describe_jobs(todo, options) if todo else []
    sizing.check_room(sizes, box, box.path)
    if todo and cluster == "threads":
        from brainsim.commands.extract_run import load_models, run_jobs, tell_slow  # brings torch
        from brainsim.compute.threads import use_cores
        from brainsim.models.sketch import trim_sketches

        loaded = load_models(todo, options, progress)
        slow = tell_slow(loaded)
        for warning in slow:
            progress.warn(warning)
    for stimulus in opened:
        plans.write_stimulus(box, stimulus, overwrite=overwrite)
    if todo and cluster == "threads":
        owns = [[job for job in todo if job.stimulus is stimulus] for stimulus in opened]
        with use_cores(n_workers):
            for group in (group for own in owns if own for group in sizing.group_jobs(own, sizes)):
                written = run_jobs(group, loaded, options, box, progress)
                n_bytes, begun_again = n_bytes + written.n_bytes, begun_again + written.warnings
        trim_sketches(0)
    elif todo:
        from brainsim.commands.extract_tasks import make_tasks, run_on_cluster

        known = [{**opening, "path": s.path.absolute(), "name": s.name} for s in opened]
        n_bytes, begun_again = run_on_cluster(make_tasks(todo, known, options, box), where, progress)
    stale = plans.find_stale(box, opened) if overwrite else ()
    for warning in stale:
        progress.warn(warning)
    warnings = (*summary.warnings, *slow, *begun_again, *stale)
    return replace(summary, bytes=n_bytes, warnings=warnings, seconds=time.perf_counter() - begin_s)


def _tell_room(
    summary: ExtractSummary, plan: Sequence[dict[str, Any]], box: Store | None, progress: Progress
) -> ExtractSummary:
    """Warn where the disk cannot hold what a dry run plans."""
    from brainsim.commands.extract_sizes import check_room

    try:
        check_room(plan, box, Path(summary.store).absolute())
    except StoreError as error:
        progress.warn(error.message)
        return replace(summary, warnings=(*summary.warnings, error.message))
    return summary


def _as_tuple(words: str | Sequence[str]) -> tuple[str, ...]:
    return (words,) if isinstance(words, str) else tuple(words)


def _check_names(paths: Sequence[str | Path], names: Sequence[str] | None) -> None:
    if not paths:
        raise InvalidValueError("no stimuli given; at least one movie, array or folder of images is needed.")
    if names is not None and len(names) != len(paths):
        raise InvalidValueError(f"{len(names)} names for {len(paths)} stimuli; one each is wanted.")


def _check_array_words(stimuli: Sequence[Stimulus], axes: str, value_range: tuple[float, float] | None) -> None:
    given = "--axes" if axes != "tyx" else "--value-range" if value_range is not None else None
    if given and not any(stimulus.kind == "array" for stimulus in stimuli):
        value = axes if given == "--axes" else ",".join(f"{v:g}" for v in value_range or ())
        raise InvalidValueError(
            f"{given} is {value}, and goes with arrays (.npy, .npz); {', '.join(s.name for s in stimuli[:4])} is none.",
            hint=f"leave {given} out",
        )


def _check_distinct(names: Sequence[str], paths: Sequence[str | Path]) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            first = paths[names.index(name)]
            raise InvalidValueError(
                f"{first} and {paths[index]} would both be called {name!r} in the store.",
                hint="--names gives each stimulus a name of its own",
            )


def _tell_late_films(stimuli: Sequence[Stimulus]) -> tuple[str, ...]:
    return tuple(
        f"{stimulus.path}: the film begins {stimulus.sound_lead_s:.3f} s after the sound, and clips are timed from its "
        "first frame: where a run's onset_s is when the file began to play, add that to it (docs/ingest.md)."
        for stimulus in stimuli
        if stimulus.sound_lead_s > SOUND_LEAD_S
    )


def _collect_warnings(jobs: Sequence[Job]) -> tuple[str, ...]:
    said: dict[str, dict[str, int]] = {}
    for job in jobs:
        counts = {
            "the windows of {n} clips reach beyond their movie; its first or last frame is repeated there.": (
                job.plan.n_padded
            ),
            "{n} clips hold a frame that stays on screen for more than a second, and 10 times as long as others: a gap "
            "in the movie, or a still.": job.plan.n_held,
            "{n} clips that reach beyond their movie or into gaps are left out.": job.plan.n_dropped,
        }
        own = said.setdefault(job.row.name, dict.fromkeys(counts, 0))
        for sentence, n in counts.items():
            own[sentence] += n
    return tuple(f"{model}: {sentence.format(n=n)}" for model, own in said.items() for sentence, n in own.items() if n)
