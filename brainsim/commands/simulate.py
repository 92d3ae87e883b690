"""Turn movies and the features of models into a cohort of scans on disk whose unique and shared variance is known."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainsim.commands.planted_truth import (
    COHORTS,
    HIGH_PASS_S,
    MOTION_COLUMNS,
    NOISE_AR,
    NOISE_SHARED,
    STREAMS,
    TR_S,
    planted_signals,
    planted_truth,
    planted_weights,
)
from brainsim.compute.threads import map_in_order
from brainsim.core.checks import check_choice, check_count, check_node_name, check_number
from brainsim.core.errors import InvalidValueError
from brainsim.core.progress import SILENT, Progress
from brainsim.core.provenance import brainsim_version, digest, digest_file
from brainsim.core.resources import n_cores
from brainsim.core.runs import RunLayout
from brainsim.core.timing import TrGrid

if TYPE_CHECKING:
    from brainsim.datasets.planted import PlantedSignals

N_RUNS = 8
FPS_HZ = 24

# The nine systems of the study, as small twins with the same taps.
TINY_SYSTEMS = (
    "cnn-static-object-tiny",
    "cnn-static-action-tiny",
    "cnn-flow-selfsup-tiny",
    "cnn-flow-action-tiny",
    "mae-base-tiny",
    "mae-base-finetuned-tiny",
    "videomae-base-tiny",
    "videomae-base-finetuned-tiny",
    "mvd-base-tiny",
)

DRIFT_SD = 1.5  # slow drift and motion against signal and noise, which have a variance of 1
MOTION_SD = 0.5
BASELINE, PERCENT = 1000.0, 15.0  # scanner units of rest, and of one standard deviation

# Streams are slabs of one small volume of 3 mm voxels; what lies around them is noise.
SHAPE = (16, 12, 10)
AFFINE = np.array([[-3.0, 0, 0, 24], [0, 3.0, 0, -90], [0, 0, 3.0, -20], [0, 0, 0, 1]])


@dataclass(frozen=True)
class SimulateSummary:
    """What was simulated.

    Parameters
    ----------
    folder, store, dataset : str
        The BIDS tree, and where features and truth lie.
    movies : tuple of str
        Movie files, one per run.
    subjects : tuple of str
        Subject labels.
    systems : tuple of str
        Models whose features were planted.
    n_runs, n_trs_per_run, n_voxels : int
        Size of the cohort.
    truth : tuple of dict
        Per stream and family: unique R2 that was planted.
    reused : bool
        Whether everything was there already.
    seconds : float
        Wall time.
    """

    folder: str
    store: str
    dataset: str
    movies: tuple[str, ...]
    subjects: tuple[str, ...]
    systems: tuple[str, ...]
    n_runs: int
    n_trs_per_run: int
    n_voxels: int
    truth: tuple[dict[str, Any], ...]
    reused: bool
    seconds: float


def simulate(
    out: Path | str = "brainsim-simulated",
    *,
    store: Path | str = "store/brainsim.zarr",
    dataset: str = "planted",
    subjects: int = 5,
    run_s: float = 240.0,
    n_voxels: int = 30,
    cohort: str = "families",
    seed: int = 0,
    device: str = "auto",
    progress: Progress = SILENT,
) -> SimulateSummary:
    """Make movies, extract the nine tiny systems, and plant a cohort whose partition of variance is known.

    Parameters
    ----------
    out : Path
        Folder for the movies and the BIDS tree.
    store : Path
        Store for the features and the truth.
    dataset : str
        Name of the dataset.
    subjects : int
        Number of subjects.
    run_s : float
        Length of each of the eight movie runs, in seconds.
    n_voxels : int
        Voxels per stream.
    cohort : {"families", "claims-hold", "claims-fail"}
        What is planted: signals of families, two or three in each stream; or signals of single systems, so that the
        claims of the study hold, or fail.
    seed : int
        Seed of movies, weights and noise.
    device : str
        auto, cpu, cuda or cuda:N.
    progress : Progress
        Where progress is told.

    Returns
    -------
    SimulateSummary
    """
    from brainsim.commands.extract import extract

    started = time.monotonic()
    check_choice("--cohort", cohort, tuple(COHORTS))
    movies = make_movies(Path(out) / "movies", seed=seed, run_s=run_s, progress=progress)
    extract(
        movies, models=TINY_SYSTEMS, store=store, pool="mean", step_s=1.0, seed=seed, device=device, progress=progress
    )
    summary = plant_cohort(
        Path(out) / "bids",
        store=store,
        dataset=dataset,
        movies=movies,
        subjects=subjects,
        run_s=run_s,
        n_voxels=n_voxels,
        cohort=cohort,
        seed=seed,
        progress=progress,
    )
    return SimulateSummary(**{**summary.__dict__, "seconds": round(time.monotonic() - started, 3)})


def make_movies(folder: Path, *, seed: int, run_s: float, progress: Progress = SILENT) -> list[Path]:
    """Render the movie runs of moving photographs that are not there yet, H.264 at 24 frames per second."""
    from brainsim.stimuli import render_moving_photographs, write_video

    check_number("--run-s", run_s, at_least=60, unit="s")
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"run-{run}.mp4" for run in range(1, N_RUNS + 1)]
    made = {"seed": seed, "run_s": run_s, "fps_hz": FPS_HZ, "brainsim": brainsim_version()}
    record = folder / "movies.json"
    known = json.loads(record.read_text()) if record.exists() else {}
    files: dict[str, str] = known.get("files", {}) if known.get("made") == made else {}
    todo = [path for path in paths if not path.exists() or path.name not in files]
    if not todo:
        return paths

    def render(path: Path) -> str:
        frames = render_moving_photographs(seed, path.stem, duration_s=run_s, fps_hz=FPS_HZ)
        unfinished = path.with_suffix(".part.mp4")
        write_video(unfinished, frames, FPS_HZ)
        unfinished.replace(path)
        return digest_file(path)

    with progress.task("movies", total=len(todo), unit="runs") as task:
        for path, content in map_in_order(render, todo, n_workers=min(n_cores(), len(todo))):
            files[path.name] = content
            record.write_text(json.dumps({"made": made, "files": files}, indent=1))
            task.advance()
    return paths


def plant_cohort(
    folder: Path,
    *,
    store: Path | str,
    dataset: str,
    movies: Sequence[Path],
    subjects: int,
    run_s: float,
    n_voxels: int,
    seed: int,
    cohort: str = "families",
    progress: Progress = SILENT,
) -> SimulateSummary:
    """Plant a cohort from features that are in the store, and write its scans and its truth."""
    from brainsim.commands.encoding_data import RunTiming, SubjectGroup
    from brainsim.features.bands import make_bands, select_layers
    from brainsim.store import Store

    started = time.monotonic()
    check_count("--subjects", subjects)
    check_count("--n-voxels", n_voxels)
    check_node_name(dataset, what="the dataset's name")
    n_trs = int(run_s // TR_S)
    slab = SHAPE[0] // len(STREAMS) * SHAPE[1] * SHAPE[2]
    if n_voxels > slab:
        raise InvalidValueError(f"--n-voxels is {n_voxels}; a stream has room for {slab}.")
    names = [f"sub-{i:02d}" for i in range(1, subjects + 1)]
    opened = Store(store, mode="a")
    group = SubjectGroup(tuple(RunTiming(m.stem, m.stem, TrGrid(n_trs, TR_S)) for m in movies), ())
    layers = select_layers(opened.nodes("activations"), models=TINY_SYSTEMS, stimuli=group.stimuli)
    planted = COHORTS[cohort]
    owners = None if cohort == "families" else {system: [system] for system in TINY_SYSTEMS}
    bands = make_bands(layers, level="family", families=owners)
    key = {
        "features": [list(layer.digests) for layer in layers],
        "streams": planted,
        "subjects": subjects,
        "n_voxels": n_voxels,
        "n_trs": n_trs,
        "seed": seed,
        "noise": [NOISE_AR, NOISE_SHARED, DRIFT_SD, MOTION_SD, HIGH_PASS_S],
        "truth": 2,  # counts what truths hold
        "brainsim": brainsim_version(),
    }
    node = f"truth/{dataset}"
    reused = opened.has(node, key=key) and _made(folder) == digest(key)
    if not reused:
        if folder.exists() and _made(folder) is None and any(folder.iterdir()):
            raise InvalidValueError(f"{folder} holds other files; a simulated cohort needs a folder of its own.")
        shutil.rmtree(folder, ignore_errors=True)
        with progress.task("planted cohort", total=len(names) + 2, unit="steps") as task:
            design, signals = planted_signals(opened, bands, group)
            task.advance()
            weights = {name: planted_weights(signals, name, n_voxels, seed, planted) for name in names}
            truth = planted_truth(design, signals, group.layout, weights, seed, planted)
            task.advance()
            _write_tree(folder, movies, names)
            for name in names:
                _write_subject(folder, name, signals, weights[name], group.layout, seed, planted)
                task.advance()
        opened.write(node, type="truth", key=key, arrays={}, attributes=truth, overwrite=True)
        (folder / ".brainsim-simulated").write_text(digest(key))
    rows = opened.info(node).attributes["rows"]
    return SimulateSummary(
        folder=str(folder),
        store=str(store),
        dataset=dataset,
        movies=tuple(str(m) for m in movies),
        subjects=tuple(names),
        systems=TINY_SYSTEMS,
        n_runs=len(movies),
        n_trs_per_run=n_trs,
        n_voxels=n_voxels * len(STREAMS),
        truth=tuple(rows),
        reused=reused,
        seconds=round(time.monotonic() - started, 3),
    )


def _made(folder: Path) -> str | None:
    """Return the digest of what a cohort was made from, or None where none is complete."""
    mark = folder / ".brainsim-simulated"
    return mark.read_text() if mark.exists() else None


def _labels(n_voxels: int) -> np.ndarray:
    """Return the label image: streams as slabs along x, each with its first `n_voxels` voxels labelled."""
    labels = np.zeros(SHAPE, np.int16)
    width = SHAPE[0] // len(STREAMS)
    for index in range(len(STREAMS)):
        slab = labels[index * width : (index + 1) * width]
        flat = np.zeros(slab.size, np.int16)
        flat[:n_voxels] = index + 1
        slab[...] = flat.reshape(slab.shape)
    return labels


def _write_tree(folder: Path, movies: Sequence[Path], subjects: Sequence[str]) -> None:
    """Write what all subjects share: description, participants, and which movie each run shows."""
    from brainsim.datasets.bids_write import write_description, write_participants, write_stimulus_map

    folder.mkdir(parents=True)
    write_description(folder, "A cohort planted by brainsim")
    write_participants(folder, subjects)
    write_stimulus_map(folder / "stimulus_map.tsv", [(m.stem, m.stem, 0.0, 0.0) for m in movies])


def _write_subject(
    folder: Path,
    subject: str,
    signals: PlantedSignals,
    weights: dict[str, np.ndarray],
    layout: RunLayout,
    seed: int,
    streams: Mapping[str, Mapping[str, float]],
) -> None:
    """Write one subject's runs: signal, noise, drift and motion in scanner units."""
    from brainsim.datasets.bids_write import write_bold, write_confounds, write_labels, write_sidecar
    from brainsim.datasets.planted import draw_motion, draw_noise, subject_rng

    n_voxels = next(iter(weights.values())).shape[1]
    labels = _labels(n_voxels)
    if not (folder / "streams_dseg.nii.gz").exists():
        names = {index + 1: stream for index, stream in enumerate(STREAMS)}
        write_labels(folder / "streams_dseg.nii.gz", labels, affine=AFFINE, names=names)
    rng = subject_rng(seed, subject, "noise")
    noise = draw_noise(rng, layout, int(np.prod(SHAPE)), ar=NOISE_AR, shared=NOISE_SHARED)
    voxels = noise.reshape(-1, *SHAPE)  # (n_rows, x, y, z)
    for index, (stream, variances) in enumerate(streams.items()):
        inside = labels == index + 1
        voxels[:, inside] = signals.courses @ weights[stream] + voxels[:, inside] * np.sqrt(1 - sum(variances.values()))
    for run, rows, n_trs in zip(layout.names, layout.slices, layout.n_trs, strict=True):
        motion = draw_motion(subject_rng(seed, subject, f"motion {run}"), n_trs)
        slow = np.linspace(-1, 1, n_trs)
        drift = np.outer(slow, rng.standard_normal(voxels[0].size)) * DRIFT_SD
        walk = np.column_stack([motion[name] for name in MOTION_COLUMNS])
        walk = (walk - walk.mean(axis=0)) / walk.std(axis=0)
        moved = walk @ rng.standard_normal((6, voxels[0].size)) * MOTION_SD / np.sqrt(6)
        y = voxels[rows].reshape(n_trs, -1) + drift + moved
        image = BASELINE + PERCENT * y.T.reshape(*SHAPE, n_trs)
        stem = folder / subject / "func" / f"{subject}_task-movie_{run}"
        write_bold(Path(f"{stem}_bold.nii.gz"), image, affine=AFFINE, tr_s=TR_S)
        write_sidecar(Path(f"{stem}_bold.json"), tr_s=TR_S, task="movie")
        write_confounds(Path(f"{stem}_desc-confounds_timeseries.tsv"), motion)
