"""Ingestion into the store: what the nodes hold, what a rerun does, and what real data give."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from ingest_trees import AFFINE, SHAPE, TR_S, make_confounds, make_labels, make_values, run_stem, write_run, write_tree
from nilearn.maskers import NiftiLabelsMasker, NiftiMasker
from nilearn.signal import clean
from numpy.testing import assert_allclose, assert_array_equal

from brainsim.commands.ingest import IngestSummary, ingest
from brainsim.core.errors import BrainsimError, InputFileError, InvalidValueError
from brainsim.datasets.bids_write import write_bold, write_confounds, write_labels
from brainsim.store import Store

MOTION6 = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "tree", n_subjects=2)


def put(tree: Path, **options: Any) -> tuple[IngestSummary, Store]:
    """Ingest a tree with its labels."""
    defaults = {"dataset": "known", "store": tree.parent / "s.zarr", "rois": tree / "streams_dseg.nii.gz"}
    summary = ingest(tree, **{**defaults, **options})
    return summary, Store(tree.parent / "s.zarr")


def nilearn_run(image: str | Path, mask: Any, *, tr_s: float = TR_S, confounds: np.ndarray | None = None) -> np.ndarray:
    """Return a run by nilearn's masker and its signal.clean, divided by the standard deviation over n.

    In two steps, because the masker's own cleaning is in float32: on the runs of Haxby it lies 1.3e-4 from a
    least-squares fit in float64, from which signal.clean in float64, and ours, lie 2e-7.
    """
    raw = NiftiMasker(mask, standardize=None).fit_transform(image).astype(np.float64)
    values: np.ndarray = clean(
        raw,
        detrend=False,
        standardize="zscore_sample",
        filter="cosine",
        high_pass=1 / 128,
        t_r=tr_s,
        confounds=confounds,
    )
    return values * np.sqrt(len(values) / (len(values) - 1))


# ---------------------------------------------------------------- what the nodes hold


def test_the_summary_counts_what_was_planted(tree: Path) -> None:
    summary, store = put(tree, confounds="motion6")

    assert (summary.subjects, summary.n_runs, summary.tr_s, summary.format) == (("sub-01", "sub-02"), 6, TR_S, "bids")
    assert summary.n_targets == {"sub-01": 36, "sub-02": 36}
    assert summary.streams["sub-02"] == {"early": 9, "ventral": 9, "lateral": 9, "dorsal": 9}
    assert (summary.n_nodes_written, summary.n_nodes_reused, summary.masked) == (8, 0, {})
    assert [row["run"] for row in summary.qc[:3]] == ["run-1", "run-2", "run-3"]
    assert summary.qc[0]["fd_mean"] == pytest.approx(np.nanmean(make_confounds(11)["framewise_displacement"]))
    assert [info.path for info in store.nodes(type="targets")] == ["rois/known/sub-01", "rois/known/sub-02"]


def test_runs_equal_nilearn_voxel_by_voxel(tree: Path) -> None:
    _, store = put(tree, confounds="motion6")
    mask = nib.Nifti1Image((make_labels() > 0).astype(np.uint8), AFFINE)
    table = make_confounds(12)
    motion = np.stack([table[name] for name in MOTION6], axis=1)
    peer = nilearn_run(f"{run_stem(tree, run=2)}_bold.nii.gz", mask, confounds=motion)

    assert_allclose(store.read("bold/known/sub-01/run-2", "values"), peer, atol=1e-5)


def test_roi_means_equal_nilearns_labels_masker(tree: Path) -> None:
    _, store = put(tree, standardize="none", high_pass_s=None)
    peer = NiftiLabelsMasker(str(tree / "streams_dseg.nii.gz"), standardize=None).fit_transform(
        f"{run_stem(tree)}_bold.nii.gz"
    )

    values, membership = store.read("bold/known/sub-01/run-1", "values"), store.read("rois/known/sub-01", "membership")

    means = values @ membership.T / membership.sum(axis=1)
    assert_allclose(means, peer - peer.mean(axis=0), atol=1e-3)  # raw values are near 1,000, int16 in the file


def test_targets_go_back_to_their_voxels(tree: Path) -> None:
    _, store = put(tree, standardize="psc", high_pass_s=None)
    info = store.info("rois/known/sub-01")
    i, j, k = store.read("rois/known/sub-01", "ijk").T
    volume = np.zeros(info.attributes["volume_shape"])

    volume[i, j, k] = store.read("bold/known/sub-01/run-1", "values")[7]

    raw = make_values(11).astype(np.float64)
    expected = np.where(make_labels() > 0, 100 * (raw[..., 7] / raw.mean(axis=-1) - 1), 0)
    assert_allclose(volume, expected, atol=1e-4)
    assert_allclose(info.attributes["affine"], AFFINE)


def test_stimulus_time_follows_the_map_and_the_dropped_volumes(tree: Path) -> None:
    summary, store = put(tree, stimulus_map=tree / "stimulus_map.tsv", drop_volumes=3)

    attributes = store.info("bold/known/sub-01/run-3").attributes

    assert attributes["stimulus"] == "film-3"
    assert attributes["start_s"] == 1.5 - 6.0 + 3 * TR_S  # offset - onset + dropped
    assert store.info("bold/known/sub-01/run-3").arrays["values"][0] == (37, 36)
    assert summary.qc[0]["start_s"] == attributes["start_s"]


def test_dropped_volumes_touch_nothing(tree: Path) -> None:
    """A spike in what is dropped, in image and confounds, leaves the kept rows as they are."""
    _, store = put(tree, confounds="motion6", drop_volumes=2)
    values, table = make_values(11), make_confounds(11)
    values[..., :2] += 500
    table["trans_x"][:2] = 99
    write_bold(Path(f"{run_stem(tree)}_bold.nii.gz"), values, affine=AFFINE, tr_s=TR_S)
    write_confounds(Path(f"{run_stem(tree)}_desc-confounds_timeseries.tsv"), table)

    put(tree, confounds="motion6", drop_volumes=2, dataset="spiked")

    assert_array_equal(
        store.read("bold/spiked/sub-01/run-1", "values"), store.read("bold/known/sub-01/run-1", "values")
    )


def test_masked_targets_are_nan_counted_and_leave_the_others_alone(tree: Path) -> None:
    values = make_values(11).astype(np.float32)
    values[0, 1, 0, 5], values[0, 1, 1, 6], values[0, 1, 2] = np.nan, np.inf, 3.0
    write_bold(Path(f"{run_stem(tree)}_bold.nii.gz"), values, affine=AFFINE, tr_s=TR_S)

    summary, store = put(tree)

    bold, valid = store.read("bold/known/sub-01/run-1", "values"), store.read("bold/known/sub-01/run-1", "valid")
    assert np.flatnonzero(valid == 0).tolist() == [0, 1, 2]
    assert np.isnan(bold[:, :3]).all()
    assert np.isfinite(bold[:, 3:]).all()
    assert summary.masked == {"nan": 2, "constant": 1}
    assert (summary.qc[0]["n_nan"], summary.qc[0]["n_constant"], summary.qc[0]["n_masked"]) == (2, 1, 3)


def test_without_mask_and_rois_the_changing_voxels_are_targets(tree: Path) -> None:
    for run in (1, 2, 3):
        values = make_values(run)
        values[0] = 0  # outside the brain in all runs
        values[1, 0, 0] = run == 2  # changes in none
        write_bold(Path(f"{run_stem(tree, run=run)}_bold.nii.gz"), values, affine=AFFINE, tr_s=TR_S)

    summary, _ = put(tree, rois=None, subjects=["01"])

    assert summary.n_targets == {"sub-01": 3 * 5 * 3 - 1}
    assert summary.streams == {"sub-01": {"all": 44}}


def test_many_masked_targets_are_told_again_on_a_rerun(tree: Path) -> None:
    values = make_values(11)
    values[:2] = 0
    write_bold(Path(f"{run_stem(tree)}_bold.nii.gz"), values, affine=AFFINE, tr_s=TR_S)
    for _ in range(2):
        summary, _ = put(tree)
        assert any("18 of 36 targets are masked" in warning for warning in summary.warnings)


# ---------------------------------------------------------------- again, otherwise, not at all


def test_a_rerun_does_nothing_and_says_the_same(tree: Path) -> None:
    first, store = put(tree)
    created = {info.path: info.created for info in store.nodes()}

    second, _ = put(tree)

    assert (second.n_nodes_written, second.n_nodes_reused) == (0, 8)
    assert (second.qc, second.rois, second.n_targets, second.warnings) == (
        first.qc, first.rois, first.n_targets, first.warnings,
    )  # fmt: skip
    assert {info.path: info.created for info in Store(store.path).nodes()} == created


def test_another_option_is_refused_by_name_and_overwrite_takes_it(tree: Path) -> None:
    put(tree)
    with pytest.raises(InvalidValueError, match="cleaning differ"):
        put(tree, standardize="psc")

    summary, store = put(tree, standardize="psc", overwrite=True)

    assert summary.n_nodes_written == 8
    assert store.info("bold/known/sub-01/run-1").attributes["cleaning"]["standardize"] == "psc"


def test_a_new_run_is_added_to_those_there(tree: Path) -> None:
    put(tree)
    write_run(tree, "01", 4, seed=44)
    summary, _ = put(tree)
    assert (summary.n_nodes_written, summary.n_nodes_reused) == (1, 8)


def test_runs_on_other_targets_never_stay_beside_new_ones(tree: Path) -> None:
    put(tree)
    Path(f"{run_stem(tree, run=3)}_bold.nii.gz").unlink()
    labels = make_labels()
    labels[0] = 0
    write_labels(tree / "streams_dseg.nii.gz", labels, affine=AFFINE, names={2: "ventral", 3: "lateral", 4: "dorsal"})

    summary, store = put(tree, subjects=["01"], overwrite=True)

    assert not store.has("bold/known/sub-01/run-3")
    assert "run-3 had other targets" in summary.warnings[0]
    assert store.has("bold/known/sub-02/run-3")


def test_a_bad_last_run_leaves_the_subject_as_it_was(tree: Path) -> None:
    _, store = put(tree)
    before = store.read("bold/known/sub-02/run-1", "values")
    image = Path(f"{run_stem(tree, '02', 3)}_bold.nii.gz")
    image.write_bytes(image.read_bytes()[:-9])

    with pytest.raises(InputFileError, match="damaged"):
        put(tree, standardize="psc", overwrite=True, subjects=["02"])

    assert len(Store(store.path).nodes("bold/known/sub-02")) == 3
    assert_array_equal(Store(store.path).read("bold/known/sub-02/run-1", "values"), before)


def test_a_dry_run_writes_nothing_and_finds_what_headers_show(tree: Path) -> None:
    summary = ingest(tree, dataset="known", store=tree.parent / "none.zarr", dry_run=True)

    assert not (tree.parent / "none.zarr").exists()
    assert summary.n_nodes_written == 8
    assert summary.plan[0]["node"] == "bold/known/sub-01/run-1"
    with pytest.raises(BrainsimError, match="2 s"):
        ingest(tree, dataset="known", store=tree.parent / "none.zarr", tr_s=3.0, dry_run=True)


def test_large_subjects_wait_on_disk_and_give_the_same(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, store = put(tree)
    monkeypatch.setattr("brainsim.commands.ingest_nodes.MEMORY_PART", 0.0)

    put(tree, dataset="aside")

    for run in (1, 2, 3):
        assert_array_equal(
            store.read(f"bold/aside/sub-01/run-{run}", "values"), store.read(f"bold/known/sub-01/run-{run}", "values")
        )
    assert not list(tree.parent.glob(".ingest-*"))


KILLED = """
import sys
from pathlib import Path
import brainsim.commands.ingest_nodes as nodes
from brainsim.commands.ingest import ingest
written = nodes.write_run
def write_and_wait(store, node, *rest):
    written(store, node, *rest)
    if node.endswith("sub-02/run-2"):
        print("ready", flush=True)
        sys.stdin.read()
nodes.write_run = write_and_wait
tree = Path(sys.argv[1])
ingest(tree, dataset="known", store=tree.parent / "s.zarr", rois=tree / "streams_dseg.nii.gz")
"""


def test_a_kill_amid_a_subject_leaves_it_without_targets_until_the_rerun(tree: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tree)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child.stdin, child.stdout:
        assert child.stdout.readline() == "ready\n"
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    store = Store(tree.parent / "s.zarr")
    assert store.has("rois/known/sub-01")
    assert not store.has("rois/known/sub-02")

    summary, store = put(tree)

    assert (summary.n_nodes_written, summary.n_nodes_reused) == (2, 6)  # run-3 and the targets
    _, whole = put(tree, dataset="whole")
    for run in (1, 2, 3):
        assert_array_equal(
            store.read(f"bold/known/sub-02/run-{run}", "values"), whole.read(f"bold/whole/sub-02/run-{run}", "values")
        )


# ---------------------------------------------------------------- files of any name, and real data


def test_files_of_any_name_are_runs_by_their_numbers(tmp_path: Path) -> None:
    for run in (1, 2, 10):
        (tmp_path / f"sub007/BOLD/task001_run{run:03d}").mkdir(parents=True)
        path = tmp_path / f"sub007/BOLD/task001_run{run:03d}/bold.nii.gz"
        write_bold(path, make_values(run), affine=AFFINE, tr_s=TR_S)

    summary = ingest(sorted(tmp_path.rglob("bold.nii.gz")), dataset="d", store=tmp_path / "s.zarr")

    assert (summary.format, summary.subjects) == ("nifti", ("sub-007",))
    assert [row["run"] for row in summary.qc] == ["run-1", "run-2", "run-10"]
    assert summary.n_targets == {"sub-007": int(np.prod(SHAPE))}


def test_haxby_equals_nilearn_on_real_runs(shared_dir: Path, tmp_path: Path) -> None:
    folder = shared_dir / "data" / "haxby_slice" / "sub001"
    files = sorted(folder.glob("BOLD/task001_run*/bold_25mm.nii.gz"))
    mask = folder / "masks" / "25mm" / "brain.nii.gz"

    summary = ingest(files, dataset="haxby", store=tmp_path / "s.zarr", mask=mask)

    assert (summary.n_runs, summary.tr_s, summary.subjects) == (12, 2.5, ("sub-001",))
    store = Store(tmp_path / "s.zarr")
    for run in (1, 7, 12):
        peer = nilearn_run(files[run - 1], str(mask), tr_s=2.5)
        assert_allclose(store.read(f"bold/haxby/sub-001/run-{run}", "values"), peer, atol=1e-5)


def test_szinte_is_a_table_whose_columns_all_stay(shared_dir: Path, tmp_path: Path) -> None:
    table = shared_dir / "data" / "szinte2024_v1" / "mask-v1_bold.tsv.gz"

    summary = ingest(table, dataset="szinte", store=tmp_path / "s.zarr", tr_s=1.317025)

    assert (summary.format, summary.n_targets, summary.masked) == ("table", {"sub-01": 2365}, {"constant": 57})
    store = Store(tmp_path / "s.zarr")
    raw = np.loadtxt(table, skiprows=1, delimiter="\t")[:, 1:]
    valid = store.read("bold/szinte/sub-01/run-1", "valid").astype(bool)
    assert_array_equal(valid, raw.std(axis=0) > 0)
    bold = store.read("bold/szinte/sub-01/run-1", "values")
    r = [np.corrcoef(bold[:, k], raw[:, k])[0, 1] for k in np.flatnonzero(valid)[::50]]
    assert min(r) > 0.999  # these runs came without slow drifts
    assert store.info("rois/szinte/sub-01").attributes["affine"] is None
