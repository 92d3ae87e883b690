"""Surfaces end to end: fMRIPrep's and HCP's names into the store, and back into files on the same places."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from brainsim.commands.ingest import ingest
from brainsim.core.errors import AlignmentError, InputFileError, InvalidValueError
from brainsim.datasets.bids_write import write_bold, write_sidecar
from brainsim.datasets.cifti import CiftiSignal
from brainsim.datasets.images import grid_of_targets, write_images
from brainsim.datasets.runs import same_grid
from brainsim.store import Store

sys.path.append(str(Path(__file__).resolve().parent.parent / "datasets"))
import surface_files as known

N_TRS = 50


def put(source: Any, folder: Path, **options: Any) -> tuple[Any, Store]:
    summary = ingest(source, dataset="d", store=folder / "s.zarr", **{"high_pass_s": None, **options})
    return summary, Store(folder / "s.zarr")


def zscore(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    return np.asarray((x - x.mean(axis=0)) / x.std(axis=0))


def fmriprep_tree(tree: Path) -> dict[str, np.ndarray]:
    """Write two runs as fMRIPrep gives them in a volume, on fsaverage5 and as grayordinates."""
    func = tree / "sub-01/func"
    written = {}
    for run in (1, 2):
        stem = f"sub-01_task-movie_run-0{run}"
        volume = np.random.default_rng(run).normal(1000, 10, (2, 2, 2, N_TRS)).astype(np.int16)
        write_bold(func / f"{stem}_space-T1w_desc-preproc_bold.nii.gz", volume, affine=known.AFFINE, tr_s=1.0)
        surface = known.make_series(run, N_TRS, 2 * known.N_VERTICES)
        pair = (func / f"{stem}_hemi-{side}_space-fsaverage5_bold.func.gii" for side in "LR")
        known.write_pair(*pair, surface)
        dense = known.make_series(10 + run, N_TRS)
        known.write_series(func / f"{stem}_space-fsLR_den-91k_bold.dtseries.nii", dense)
        write_sidecar(func / f"{stem}_space-fsaverage5_bold.json", tr_s=1.0, task="movie")
        written |= {f"surface{run}": surface, f"dense{run}": dense}
    return written


def test_a_space_chooses_between_volume_surface_and_grayordinates(tmp_path: Path) -> None:
    written = fmriprep_tree(tmp_path / "tree")

    for space, kind in (("fsaverage5", "surface"), ("fsLR", "dense")):
        summary, store = put(tmp_path / "tree", tmp_path / kind, space=space)
        assert (summary.format, summary.n_runs, summary.tr_s) == ("bids", 2, 1.0)
        for run in (1, 2):
            assert_allclose(
                store.read(f"bold/d/sub-01/run-{run}", "values"), zscore(written[f"{kind}{run}"]), atol=1e-5
            )
        assert store.info("rois/d/sub-01").attributes["space"] == space
    summary, store = put(tmp_path / "tree", tmp_path / "volume")
    assert store.info("rois/d/sub-01").attributes["space"] == "T1w"
    assert any("--space fsLR" in note or "--space fsaverage5" in note for note in summary.warnings)


def test_series_of_any_name_are_runs_and_go_back_to_their_grayordinates(tmp_path: Path) -> None:
    files = []
    for run in (1, 2):
        path = tmp_path / f"100610/tfMRI_MOVIE{run}_7T_AP_Atlas_1.6mm.dtseries.nii"
        files.append(known.write_series(path, known.make_series(run, N_TRS)))
    labels = np.random.default_rng(0).integers(0, 3, known.N_PLACES)
    names = {1: "L_V1_ROI", 2: "R_MT_ROI"}
    known.write_dense_labels(tmp_path / "a.dlabel.nii", labels, names)

    summary, store = put(
        files,
        tmp_path,
        subjects=["100610"],
        rois=tmp_path / "a.dlabel.nii",
        streams={"early": ["V1"], "lateral": ["MT"]},
    )

    assert summary.format == "surface"
    assert summary.streams == {"sub-100610": {"early": int((labels == 1).sum()), "lateral": int((labels == 2).sum())}}
    node = "rois/d/sub-100610"
    ijk, place_index = store.read(node, "ijk"), store.read(node, "place_index")
    assert_array_equal(ijk[:, 0], np.flatnonzero(labels))
    grid = grid_of_targets(store.info(node).attributes, place_index)
    values = store.read(store.nodes("bold")[0].path, "values")
    (back,) = write_images(tmp_path / "out/run", values, grid, ijk, tr_s=1.0)
    assert same_grid(CiftiSignal(back).grid, CiftiSignal(files[0]).grid)
    assert_array_equal(CiftiSignal(back).read(ijk[:, 0]), values)


def test_the_medial_wall_is_no_target(tmp_path: Path) -> None:
    values = known.make_series(0, N_TRS, 2 * known.N_VERTICES)
    values[:, [2, 3, 15]] = 0
    known.write_pair(tmp_path / "lh.run-1.func.gii", tmp_path / "rh.run-1.func.gii", values)
    summary, store = put(tmp_path, tmp_path, tr_s=2.0)
    assert summary.n_targets == {"sub-01": 21}
    assert_array_equal(store.read("rois/d/sub-01", "ijk")[:, 0], np.delete(np.arange(24), [2, 3, 15]))


def test_a_surface_without_tr_is_refused(tmp_path: Path) -> None:
    known.write_pair(tmp_path / "lh.a.func.gii", tmp_path / "rh.a.func.gii", known.make_series(0, N_TRS, 24))
    with pytest.raises(InvalidValueError, match=r"TR of .* is unknown"):
        put(tmp_path, tmp_path)


def test_smoothing_and_labels_of_volumes_are_refused_on_surfaces(tmp_path: Path) -> None:
    path = known.write_series(tmp_path / "run-1.dtseries.nii", known.make_series(0, N_TRS))
    nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.int16), known.AFFINE), tmp_path / "l.nii.gz")
    with pytest.raises(InvalidValueError, match="only volumes are smoothed"):
        put(path, tmp_path, smooth_mm=4.0)
    with pytest.raises(AlignmentError, match="25 places"):
        put(path, tmp_path, rois=tmp_path / "l.nii.gz")
    with pytest.raises(InputFileError, match=r"3-D|rows"):
        put(path, tmp_path, mask=tmp_path / "run-1.dtseries.nii")
    assert Store(tmp_path / "s.zarr").nodes(complete=None) == []
