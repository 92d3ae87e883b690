"""Ingestion of real runs gives a peer's numbers, and what is known of them comes out of the store again."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nilearn.glm.first_level import make_first_level_design_matrix
from nilearn.maskers import NiftiLabelsMasker, NiftiMasker
from nilearn.signal import clean
from numpy.testing import assert_allclose

from brainsim.commands.ingest import ingest
from brainsim.datasets.bids_write import write_confounds
from brainsim.datasets.confounds import MOTION
from brainsim.store import Store

N_RUNS, TR_S = 12, 2.5
# Areas of the coarse brain as labels: its masks overlap nowhere that matters here.
AREAS = {1: "white", 2: "gray", 3: "vt"}


@pytest.fixture
def haxby(shared_dir: Path, tmp_path: Path) -> Path:
    """Return Haxby's runs under names that tell subject and run, each with its motion parameters beside it."""
    source = shared_dir / "data" / "haxby_slice" / "sub001"
    for run in range(1, N_RUNS + 1):
        there = source / f"BOLD/task001_run{run:03d}"
        for kind in ("1slice", "25mm"):
            stem = tmp_path / kind / f"sub-01_run-{run}"
            stem.parent.mkdir(exist_ok=True)
            shutil.copy(there / f"bold_{kind}.nii.gz", f"{stem}_bold.nii.gz")
            motion = np.loadtxt(there / "bold_moest.txt")  # rotations first, as MCFLIRT and AFNI's are
            write_confounds(Path(f"{stem}_desc-confounds_timeseries.tsv"), dict(zip(MOTION, motion.T, strict=True)))
    areas = [nib.load(source / f"masks/25mm/{name}.nii.gz") for name in AREAS.values()]
    labels = np.zeros(areas[0].shape, np.int16)
    for label, area in zip(AREAS, areas, strict=True):
        labels[np.asarray(area.dataobj) > 0] = label
    nib.save(nib.Nifti1Image(labels, areas[0].affine), tmp_path / "areas.nii.gz")
    (tmp_path / "areas.tsv").write_text("index\tname\n" + "".join(f"{k}\t{v}\n" for k, v in AREAS.items()))
    shutil.copy(source / "masks/25mm/brain.nii.gz", tmp_path / "brain.nii.gz")
    return tmp_path


def test_runs_with_motion_and_mask_equal_nilearn(haxby: Path) -> None:
    summary = ingest(
        haxby / "25mm", dataset="haxby", store=haxby / "s.zarr", mask=haxby / "brain.nii.gz", confounds="motion6"
    )

    assert (summary.n_runs, summary.tr_s, summary.subjects) == (N_RUNS, TR_S, ("sub-01",))
    store = Store(haxby / "s.zarr")
    for run in range(1, N_RUNS + 1):
        stem = haxby / f"25mm/sub-01_run-{run}"
        raw = NiftiMasker(haxby / "brain.nii.gz", standardize=None).fit_transform(f"{stem}_bold.nii.gz")
        # In one run motion correlates above 0.9 with a cosine, and clean(filter="cosine") leaves all cosines out: here
        # they are given to it as confounds, by nilearn's own function.
        frame_times = np.arange(len(raw)) * TR_S
        drifts = make_first_level_design_matrix(frame_times, drift_model="cosine", high_pass=1 / 128).iloc[:, :-1]
        confounds = np.c_[np.loadtxt(f"{stem}_desc-confounds_timeseries.tsv", skiprows=1), drifts]
        peer = clean(
            raw.astype(np.float64), detrend=False, standardize="zscore_sample", filter=False, confounds=confounds
        )
        peer *= np.sqrt(len(peer) / (len(peer) - 1))  # nilearn divides by n - 1
        assert_allclose(store.read(f"bold/haxby/sub-01/run-{run}", "values"), peer, atol=1e-5)


def test_region_means_equal_nilearns_labels_masker(haxby: Path) -> None:
    ingest(
        haxby / "25mm",
        dataset="haxby",
        store=haxby / "s.zarr",
        rois=haxby / "areas.nii.gz",
        high_pass_s=None,
        standardize="none",
    )

    store = Store(haxby / "s.zarr")
    membership = store.read("rois/haxby/sub-01", "membership").astype(np.float64)
    assert store.info("rois/haxby/sub-01").attributes["roi_names"] == list(AREAS.values())
    for run in (1, 7):
        masker = NiftiLabelsMasker(haxby / "areas.nii.gz", standardize=None)
        peer = masker.fit_transform(haxby / f"25mm/sub-01_run-{run}_bold.nii.gz").astype(np.float64)
        ours = store.read(f"bold/haxby/sub-01/run-{run}", "values").astype(np.float64) @ membership.T
        ours /= membership.sum(axis=1)
        spread = peer.std()
        assert_allclose(ours / spread, (peer - peer.mean(axis=0)) / spread, atol=1e-5)


def test_the_category_that_was_seen_is_found_in_more_than_half_of_the_blocks(haxby: Path, shared_dir: Path) -> None:
    """Correlation of each block's mean pattern with the other runs' mean pattern of each of 8 categories."""
    ingest(haxby / "1slice", dataset="slice", store=haxby / "s.zarr")

    store = Store(haxby / "s.zarr")
    patterns = []
    for run in range(1, N_RUNS + 1):
        values = store.read(f"bold/slice/sub-01/run-{run}", "values")
        start_s = store.info(f"bold/slice/sub-01/run-{run}").attributes["start_s"] + TR_S * np.arange(len(values))
        there = shared_dir / f"data/haxby_slice/sub001/BOLD/task001_run{run:03d}/bold_events.tsv"
        rows = list(csv.DictReader(there.read_text().splitlines(), delimiter="\t"))
        patterns.append({row["trial_type"]: mean_of_block(values, start_s, row) for row in rows})
    categories = sorted(patterns[0])
    assert len(categories) == 8
    n_right = n_blocks = 0
    for test in range(N_RUNS):
        others = [p for run, p in enumerate(patterns) if run != test]
        known = np.array([np.mean([p[name] for p in others if name in p], axis=0) for name in categories])
        for name, pattern in patterns[test].items():
            is_there = np.isfinite(known).all(axis=0) & np.isfinite(pattern)
            r = [np.corrcoef(row[is_there], pattern[is_there])[0, 1] for row in known]
            n_right += categories[int(np.argmax(r))] == name
            n_blocks += 1

    assert n_blocks == 96
    assert n_right / n_blocks >= 0.54  # chance is 0.125


def mean_of_block(values: np.ndarray, start_s: np.ndarray, row: dict[str, str]) -> np.ndarray:
    begin_s = float(row["onset"])
    inside = (start_s >= begin_s) & (start_s < begin_s + float(row["duration"]))
    mean: np.ndarray = values[inside].mean(axis=0)
    return mean
