"""Turn movies and the features of models into a cohort of scans on disk whose unique and shared variance is known."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainsim.core.checks import check_count, check_node_name, check_number
from brainsim.core.errors import InvalidValueError
from brainsim.core.progress import SILENT, Progress
from brainsim.core.provenance import brainsim_version, digest, digest_file
from brainsim.core.runs import RunLayout
from brainsim.core.timing import TrGrid

if TYPE_CHECKING:
    from brainsim.commands.encoding_data import SubjectGroup
    from brainsim.datasets.planted import PlantedSignals
    from brainsim.features.bands import Band
    from brainsim.store import Store

N_RUNS = 8
HIGH_PASS_S = 128.0  # what ingest removes by default; the truth is that of cleaned voxels
TR_S = 2.0
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

# Variance of each family's own signals, and of those that all share, in a voxel of each stream. The rest is noise.
STREAMS: dict[str, dict[str, float]] = {
    "early": {"static-cnn": 0.26, "image-mae": 0.26, "shared": 0.22},
    "ventral": {"static-cnn": 0.30, "image-mae": 0.22, "shared": 0.22},
    "lateral": {"dynamic-cnn": 0.28, "video-mae": 0.26, "shared": 0.20},
    "dorsal": {"dynamic-cnn": 0.30, "mvd": 0.26, "shared": 0.18},
}

NOISE_AR = 0.4  # correlation of successive TRs, as in data after cleaning
NOISE_SHARED = 0.2  # share of the noise that all voxels have in common
DRIFT_SD = 1.5  # slow drift and motion against signal and noise, which have a variance of 1
MOTION_SD = 0.5
MOTION_COLUMNS = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
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
    with progress.task("movies", total=len(todo), unit="runs") as task:
        for path in todo:
            frames = render_moving_photographs(seed, path.stem, duration_s=run_s, fps_hz=FPS_HZ)
            unfinished = path.with_suffix(".part.mp4")
            write_video(unfinished, frames, FPS_HZ)
            unfinished.replace(path)
            files[path.name] = digest_file(path)
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
    bands = make_bands(layers, level="family")
    key = {
        "features": [list(layer.digests) for layer in layers],
        "streams": STREAMS,
        "subjects": subjects,
        "n_voxels": n_voxels,
        "n_trs": n_trs,
        "seed": seed,
        "noise": [NOISE_AR, NOISE_SHARED, DRIFT_SD, MOTION_SD, HIGH_PASS_S],
        "brainsim": brainsim_version(),
    }
    node = f"truth/{dataset}"
    reused = opened.has(node, key=key) and _made(folder) == digest(key)
    if not reused:
        if folder.exists() and _made(folder) is None and any(folder.iterdir()):
            raise InvalidValueError(f"{folder} holds other files; a simulated cohort needs a folder of its own.")
        shutil.rmtree(folder, ignore_errors=True)
        with progress.task("planted cohort", total=len(names) + 2, unit="steps") as task:
            design, signals = _signals(opened, bands, group)
            task.advance()
            weights = {name: _weights(signals, name, n_voxels, seed) for name in names}
            truth = _truth(design, signals, group.layout, weights, seed)
            task.advance()
            _write_tree(folder, movies, names)
            for name in names:
                _write_subject(folder, name, signals, weights[name], group.layout, seed)
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


def _signals(store: Store, bands: Sequence[Band], group: SubjectGroup) -> tuple[dict[str, np.ndarray], PlantedSignals]:
    """Return each family's design kernel, and the signals that are planted."""
    from brainsim.commands.kernels import KernelOptions, layer_gram
    from brainsim.datasets.planted import choose_signals
    from brainsim.features.hrf import hrf_matrix
    from brainsim.features.kernels import delayed_kernel, normalise_kernel

    options = KernelOptions(delays=(1, 2, 3, 4), scaling="zscore")
    layout = group.layout
    response = np.zeros((layout.n_rows, layout.n_rows))
    for rows, n_trs in zip(layout.slices, layout.n_trs, strict=True):
        response[rows, rows] = hrf_matrix(n_trs, TR_S)
    # Signals are sought in what cleaning leaves of the responses: slow ones would be planted and removed again.
    response = _cleaning(layout) @ response
    design, convolved = {}, {}
    for band in bands:
        delayed_sum = np.zeros((layout.n_rows, layout.n_rows))
        convolved_sum = np.zeros_like(delayed_sum)
        for layer in band.layers:
            K = layer_gram(store, layer, group, options)
            delayed_sum += delayed_kernel(K, layout, delays=options.delays, name=layer.name)
            blurred = response @ K @ response.T
            convolved_sum += blurred / np.trace(blurred)
        design[band.family] = normalise_kernel(delayed_sum, name=band.family)
        convolved[band.family] = convolved_sum
    return design, choose_signals(convolved, design, layout)


def _cleaning(layout: RunLayout, *, subject: str | None = None, seed: int = 0) -> np.ndarray:
    """Return the matrix that removes what ingest removes: drifts, and a subject's motion."""
    from brainsim.datasets.cleaning import make_drifts
    from brainsim.datasets.planted import cleaning_matrix, draw_motion, subject_rng

    nuisances = []
    for run, n_trs in zip(layout.names, layout.n_trs, strict=True):
        columns = [make_drifts(n_trs, tr_s=TR_S, high_pass_s=HIGH_PASS_S)]
        if subject is not None:
            motion = draw_motion(subject_rng(seed, subject, f"motion {run}"), n_trs)
            columns.append(np.column_stack([motion[name] for name in MOTION_COLUMNS]))
        nuisances.append(np.concatenate(columns, axis=1))
    return cleaning_matrix(nuisances, layout)


def _weights(signals: PlantedSignals, subject: str, n_voxels: int, seed: int) -> dict[str, np.ndarray]:
    from brainsim.datasets.planted import draw_weights, subject_rng

    rng = subject_rng(seed, subject, "weights")
    return {stream: draw_weights(rng, signals, variances, n_voxels) for stream, variances in STREAMS.items()}


def _truth(
    design: dict[str, np.ndarray],
    signals: PlantedSignals,
    layout: RunLayout,
    weights: dict[str, dict[str, np.ndarray]],
    seed: int,
) -> dict[str, Any]:
    """Return what each subset of families explains of the cleaned voxels, as unique and shared parts per stream."""
    from brainsim.datasets.planted import noiseless_residuals, remaining_noise
    from brainsim.variance.lattice import commonality_parts, subset_names, unique_parts

    families = list(design)
    subsets = subset_names(families)
    cleaning = {subject: _cleaning(layout, subject=subject, seed=seed) for subject in weights}
    # All subjects' cleaned signals side by side: (n_rows, n_subjects * n_signals)
    courses = np.concatenate([clean @ signals.courses for clean in cleaning.values()], axis=1)
    residuals = noiseless_residuals(design, courses, layout, subsets)
    kept = {subject: remaining_noise(clean, layout, ar=NOISE_AR) for subject, clean in cleaning.items()}
    n_signals = len(signals.names)
    rows, joint, parts, null = [], [], [], []
    for stream, variances in STREAMS.items():
        by_subject = []
        for index, (subject, mix) in enumerate(weights.items()):
            own = slice(index * n_signals, (index + 1) * n_signals)
            signal = np.square(courses[:, own] @ mix[stream]).mean(axis=0)  # (n_voxels,)
            total = signal + kept[subject] * (1 - sum(variances.values()))
            left = np.stack([np.square(E[:, own] @ mix[stream]).mean(axis=0) for E in residuals])
            by_subject.append(((signal - left) / total).mean(axis=1))
        scores = np.mean(by_subject, axis=0)  # (n_subsets,)
        for family, value in zip(families, unique_parts(scores), strict=True):
            rows.append({"stream": stream, "family": family, "unique": float(value)})
            if family not in variances:
                null.append([stream, family])
        joint.append({"stream": stream, "r2": float(scores[-1])})
        for members, value in zip(subsets, commonality_parts(scores), strict=True):
            parts.append({"stream": stream, "families": members, "r2": float(value)})
    return {
        "rows": rows,
        "joint": joint,
        "parts": parts,
        "null": null,
        "families": families,
        "description": "Share of a voxel's variance after cleaning, mean over voxels and subjects, that the best "
        "linear prediction from a subset of families explains of the noiseless signals, on runs it was not fitted to.",
    }


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
    for index, (stream, variances) in enumerate(STREAMS.items()):
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
