"""Turn a folder of videos into a checkpoint of a system that has no public weights."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainsim.commands.train_plan import TrainPlan, TrainSummary
from brainsim.commands.train_sources import OpenedClips, open_clips
from brainsim.core.checks import check_choice, check_count, check_file, check_number
from brainsim.core.errors import InvalidValueError
from brainsim.core.progress import SILENT, Progress
from brainsim.core.provenance import digest, digest_file
from brainsim.core.resources import n_cores

if TYPE_CHECKING:
    from brainsim.models.rows import ModelRow
    from brainsim.training.recipes import Recipe

# Decoding keeps up with one GPU on about this many threads; more only wait.
MAX_DECODING_THREADS = 16


def train(
    system: str,
    *,
    videos: Path | str,
    out: Path | str,
    flow_checkpoint: Path | str | None = None,
    start: str | None = None,
    split: Path | str | None = None,
    val_share: float = 0.2,
    epochs: int | None = None,
    batch_size: int | None = None,
    optimiser: str | None = None,
    learning_rate: float | None = None,
    dropout: float | None = None,
    window_step: int = 1,
    precision: str = "fp32",
    seed: int = 0,
    device: str = "auto",
    n_workers: int | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> TrainSummary:
    """Train a system that has no public weights on a folder of videos.

    Every epoch decodes each clip once and shows every window. An interrupted run is continued by the same command.
    Beside the checkpoint lie its learning curve (.tsv, .png) and, until the end, the state to go on from (.state).

    Parameters
    ----------
    system : str
        cnn-static-action, cnn-flow-selfsup, cnn-flow-action, or one of their tiny twins.
    videos : Path
        Folder with one folder of clips per action, or HAA-500's numbered clips. Clips are video files or folders of
        frames. True flow, where it is known, lies beside a clip as NAME.flow.npy.
    out : Path
        Checkpoint to write, .pt.
    flow_checkpoint : Path
        For cnn-flow-action: the trained cnn-flow-selfsup that it stands on. It is not changed.
    start : str
        Weights to begin with: imagenet, random, or a file of ResNet-18 weights. Default: the system's recipe.
    split : Path
        Table with the columns clip and split (train, val, test). Default: folders of these names, else HAA-500's own
        split where the clips are numbered so, else drawn.
    val_share : float
        Share of each action's clips held out where the split is drawn.
    epochs : int
        Times that every window is shown. Default: the system's recipe.
    batch_size : int
        Windows per step. Default: the system's recipe.
    optimiser : {"sgd", "adam"}
        Default: the system's recipe.
    learning_rate : float
        Default: the system's recipe.
    dropout : float
        Share of the features dropped before the classifier. Default: the system's recipe.
    window_step : int
        Frames from one window of a clip to the next.
    precision : {"fp32", "fp16", "bf16"}
        Of the network's arithmetic; losses and weights stay in float32.
    seed : int
        Seed of the split, of the starting weights, of the order, of crops and of dropout.
    device : str
        auto, cpu, cuda or cuda:N.
    n_workers : int
        Decoding threads. Default: one per core.
    dry_run : bool
        Say what would be done.
    overwrite : bool
        Begin again where there is a checkpoint or an interrupted run with other settings.
    progress : Progress
        Told about each epoch.

    Returns
    -------
    TrainSummary

    Raises
    ------
    UnknownNameError
        A system that cannot be trained here.
    InvalidValueError, InputFileError, CheckpointError
        An option, a clip or a file that is not right.
    NumericalError
        A loss that is no longer finite.
    """
    from brainsim.models import MODELS
    from brainsim.training.clip_folders import find_clips, split_clips
    from brainsim.training.recipes import find_recipe

    begin_s = time.perf_counter()
    given: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "optimiser": optimiser,
        "learning_rate": learning_rate,
        "dropout": dropout,
        "start": start,
    }
    recipe = replace(find_recipe(system), **{name: value for name, value in given.items() if value is not None})
    _check_options(recipe, window_step=window_step, val_share=val_share, precision=precision)
    flow_path = _check_flow(system, recipe, flow_checkpoint)
    out = _check_out(Path(out))
    n_workers = min(n_cores(), MAX_DECODING_THREADS) if n_workers is None else check_count("--n-workers", n_workers)
    row = MODELS[system]
    clips, source = split_clips(
        find_clips(videos), split=split, val_share=val_share, seed=seed, by_action=recipe.goal != "flow"
    )
    opened = open_clips(clips, n_frames=row.input.n_frames, n_workers=n_workers, progress=progress)
    if recipe.goal != "flow" and len(opened.actions) < 2:
        raise InvalidValueError(
            f"{videos} shows {len(opened.actions)} action; at least 2 are needed to tell them apart."
        )
    for warning in opened.warnings:
        progress.warn(warning)
    made = _made(row, recipe, opened, flow_path, window_step=window_step, precision=precision, seed=seed)
    plan = TrainPlan(row, recipe, opened, out, made, source)
    if not overwrite and (summary := plan.find_made()) is not None:
        return replace(summary, seconds=time.perf_counter() - begin_s)
    if dry_run:
        return replace(plan.summary(window_step, device), dry_run=True, seconds=time.perf_counter() - begin_s)
    run, resumed = plan.begin(
        flow_path,
        window_step=window_step,
        precision=precision,
        seed=seed,
        device=device,
        n_workers=n_workers,
        overwrite=overwrite,
        progress=progress,
    )
    summary = plan.carry_out(run, progress)
    return replace(summary, resumed=resumed, seconds=time.perf_counter() - begin_s)


def _check_options(recipe: Recipe, *, window_step: int, val_share: float, precision: str) -> None:
    from brainsim.commands.train_networks import check_start
    from brainsim.training.recipes import OPTIMISERS

    check_count("--epochs", recipe.epochs)
    check_count("--batch-size", recipe.batch_size, at_least=2, hint="batch norm needs two windows")
    check_choice("--optimiser", recipe.optimiser, OPTIMISERS)
    check_number("--learning-rate", recipe.learning_rate, above=0)
    check_number("--dropout", recipe.dropout, at_least=0, at_most=0.99)
    check_number("--val-share", val_share, above=0, at_most=0.9)
    check_count("--window-step", window_step)
    check_choice("--precision", precision, ("fp32", "fp16", "bf16"))
    check_start(recipe.start, recipe.goal)


def _check_flow(system: str, recipe: Recipe, flow_checkpoint: Path | str | None) -> Path | None:
    if recipe.goal == "flow-action":
        if flow_checkpoint is None:
            raise InvalidValueError(
                f"{system} learns from the flow of a trained network, and no --flow-checkpoint is given.",
                hint=f"brainsim train {system.replace('flow-action', 'flow-selfsup')} --videos DIR --out flow.pt",
            )
        return check_file(flow_checkpoint, what="checkpoint of a flow network")
    if flow_checkpoint is not None:
        raise InvalidValueError(f"--flow-checkpoint is {flow_checkpoint}; {system} stands on no flow network.")
    return None


def _check_out(out: Path) -> Path:
    if out.is_dir():
        raise InvalidValueError(f"--out is the folder {out}; a file is wanted.", hint=f"--out {out / 'weights.pt'}")
    return out


def _made(
    row: ModelRow,
    recipe: Recipe,
    opened: OpenedClips,
    flow_path: Path | None,
    *,
    window_step: int,
    precision: str,
    seed: int,
) -> dict[str, Any]:
    """Return what tells one training from another: a repeated command finds its own by it."""
    clips = {part: [[s.name, s.label, s.stimulus.digest] for s in own] for part, own in opened.sources.items()}
    return {
        "system": row.name,
        "recipe": asdict(recipe),
        "start": digest_file(Path(recipe.start)) if Path(recipe.start).is_file() else recipe.start,
        "flow": None if flow_path is None else digest_file(flow_path),
        "clips": digest(clips),
        "actions": list(opened.actions),
        "window_step": window_step,
        "precision": precision,
        "seed": seed,
    }
