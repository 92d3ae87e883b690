"""Turn a few numbers into small BIDS trees whose values are known, for the tests of ingestion."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from brainsim.datasets.bids_write import (
    write_bold,
    write_confounds,
    write_description,
    write_labels,
    write_sidecar,
    write_stimulus_map,
)

SHAPE, N_TRS, TR_S = (4, 5, 3), 40, 2.0
AFFINE = np.array([[-3.0, 0, 0, 30], [0, 3, 0, -50], [0, 0, 3.5, -10], [0, 0, 0, 1]])
STREAM_NAMES = {1: "early", 2: "ventral", 3: "lateral", 4: "dorsal"}
MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")


def make_values(seed: int, *, shape: tuple[int, ...] = SHAPE, n_trs: int = N_TRS) -> np.ndarray:
    """Return plausible raw BOLD, whole numbers so that every dtype holds them exactly: int16 (*shape, n_trs)."""
    rng = np.random.default_rng(seed)
    drift = np.linspace(0, 60, n_trs) * rng.normal(size=(*shape, 1))
    return np.round(1000 + drift + rng.normal(0, 20, (*shape, n_trs))).astype(np.int16)


def make_confounds(seed: int, *, n_trs: int = N_TRS) -> dict[str, np.ndarray]:
    """Return motion, five components and framewise displacement (n/a first)."""
    rng = np.random.default_rng(1000 + seed)
    columns = {name: rng.normal(size=n_trs) for name in MOTION}
    columns |= {f"a_comp_cor_{k:02d}": rng.normal(size=n_trs) for k in range(6)}
    displacement = rng.random(n_trs)
    displacement[0] = np.nan
    return {**columns, "framewise_displacement": displacement}


def run_stem(tree: Path, subject: str = "01", run: int = 1) -> str:
    """Return the path of a run without its suffix."""
    return str(tree / f"sub-{subject}/func/sub-{subject}_task-movie_run-{run}")


def make_labels() -> np.ndarray:
    """Return a label image: one slab per stream, a rim outside of all."""
    labels = np.zeros(SHAPE, np.int16)
    for label in STREAM_NAMES:
        labels[label - 1, 1:4, :] = label
    return labels


def write_run(tree: Path, subject: str, run: int, *, seed: int) -> None:
    """Write one run: image, sidecar and confounds."""
    stem = run_stem(tree, subject, run)
    write_bold(Path(f"{stem}_bold.nii.gz"), make_values(seed), affine=AFFINE, tr_s=TR_S)
    write_sidecar(Path(f"{stem}_bold.json"), tr_s=TR_S, task="movie")
    write_confounds(Path(f"{stem}_desc-confounds_timeseries.tsv"), make_confounds(seed))


def write_tree(tree: Path, *, n_subjects: int = 1, n_runs: int = 3) -> Path:
    """Write a tree as the planted cohort has it."""
    for s in range(1, n_subjects + 1):
        for r in range(1, n_runs + 1):
            write_run(tree, f"{s:02d}", r, seed=10 * s + r)
    write_labels(tree / "streams_dseg.nii.gz", make_labels(), affine=AFFINE, names=STREAM_NAMES)
    write_stimulus_map(tree / "stimulus_map.tsv", [(f"run-{r}", f"film-{r}", 6.0, 1.5) for r in range(1, n_runs + 1)])
    write_description(tree, "known")
    return tree
