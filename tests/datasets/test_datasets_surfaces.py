"""CIFTI and GIFTI files equal nibabel's reading, labels find their vertices, and values go back to where they were."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import surface_files as known
from numpy.testing import assert_array_equal

import brainsim.datasets.cifti as cifti
from brainsim.core.errors import AlignmentError, BrainsimError, InputFileError
from brainsim.datasets.cifti import CiftiSignal
from brainsim.datasets.gifti import GiftiSignal, is_left, other_side, pair_of
from brainsim.datasets.images import write_images
from brainsim.datasets.rois import place_mask, place_rois, read_rois
from brainsim.datasets.runs import Grid, same_grid
from brainsim.datasets.structures import describe_structures, restore_grid

N_TRS = 9


@pytest.mark.parametrize("n_at_once", [1, 4, 1000])
def test_grayordinates_equal_nibabel_in_slabs_of_any_size(
    n_at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifti, "SLAB_BYTES", n_at_once * 4 * N_TRS)
    path = known.write_series(tmp_path / "a.dtseries.nii", known.make_series(0, N_TRS), tr_s=1.3)
    signal = CiftiSignal(path)
    places = np.array([0, 3, 24, 11])

    assert_array_equal(signal.read(places), nib.load(path).get_fdata(dtype=np.float32)[:, places])
    assert (signal.n_trs, signal.tr_s, signal.grid.shape) == (N_TRS, 1.3, (known.N_PLACES,))


def test_series_of_other_units_and_integers_are_scaled_as_nibabel_does(tmp_path: Path) -> None:
    axes = (nib.cifti2.SeriesAxis(0, 1, N_TRS, unit="HERTZ"), known.brain_models())
    image = nib.Cifti2Image(known.make_series(0, N_TRS), axes)
    image.nifti_header.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "a.dtseries.nii")
    signal = CiftiSignal(tmp_path / "a.dtseries.nii")

    np.testing.assert_allclose(
        signal.read(np.arange(known.N_PLACES)), nib.load(tmp_path / "a.dtseries.nii").get_fdata(), rtol=1e-6
    )
    assert signal.tr_s is None


def test_constant_and_empty_places_do_not_vary(tmp_path: Path) -> None:
    values = known.make_series(0, N_TRS)
    values[:, 3], values[:, 5] = 7, np.nan
    values[4, 6] = np.nan
    signal = CiftiSignal(known.write_series(tmp_path / "a.dtseries.nii", values))
    assert np.flatnonzero(~signal.find_varying()).tolist() == [3, 5]

    pair = known.make_series(0, N_TRS, 2 * known.N_VERTICES)
    pair[:, 3], pair[:, 15] = 7, np.nan
    known.write_pair(tmp_path / "lh.func.gii", tmp_path / "rh.func.gii", pair)
    hemispheres = GiftiSignal(tmp_path / "lh.func.gii", tmp_path / "rh.func.gii")
    assert np.flatnonzero(~hemispheres.find_varying()).tolist() == [3, 15]


def test_hemispheres_are_read_left_before_right(tmp_path: Path) -> None:
    values = known.make_series(0, N_TRS, 2 * known.N_VERTICES)
    known.write_pair(tmp_path / "a_hemi-L_bold.func.gii", tmp_path / "a_hemi-R_bold.func.gii", values)

    signal = GiftiSignal(*pair_of(tmp_path / "a_hemi-R_bold.func.gii", what="file"))

    assert_array_equal(signal.read(np.array([0, 11, 12, 23, 5])), values[:, [0, 11, 12, 23, 5]])
    assert (signal.n_trs, signal.grid.n_places) == (N_TRS, 24)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("sub-01_hemi-L_space-fsaverage_bold.func.gii", "sub-01_hemi-R_space-fsaverage_bold.func.gii"),
        ("sub-01_bold_space-fsaverage5.L.func.gii", "sub-01_bold_space-fsaverage5.R.func.gii"),
        ("lh.aparc.annot", "rh.aparc.annot"),
        ("100206.L.BA.32k_fs_LR.label.gii", "100206.R.BA.32k_fs_LR.label.gii"),
    ],
)
def test_the_other_hemisphere_is_found_by_its_name(left: str, right: str) -> None:
    assert other_side(Path(left)) == Path(right)
    assert other_side(Path(right)) == Path(left)
    assert is_left(Path(left))
    assert not is_left(Path(right))


def test_dense_labels_and_those_of_the_whole_cortex_say_the_same(tmp_path: Path) -> None:
    grid = CiftiSignal(known.write_series(tmp_path / "a.dtseries.nii", known.make_series(0, N_TRS))).grid
    names = {1: "V1", 2: "MT"}
    of_cortex = np.random.default_rng(0).integers(0, 3, 2 * known.N_VERTICES)
    left, right = of_cortex[: known.N_VERTICES], of_cortex[known.N_VERTICES :]
    expected = np.r_[left[known.LEFT_VERTICES], right, np.zeros(len(known.VOXELS), int)]
    known.write_dense_labels(tmp_path / "dense.dlabel.nii", expected, names)
    known.write_dense_labels(tmp_path / "whole.dlabel.nii", of_cortex, names, whole_cortex=True)
    known.write_label_pair(tmp_path / "lh.label.gii", tmp_path / "rh.label.gii", of_cortex, names)

    for file in ("dense.dlabel.nii", "whole.dlabel.nii", "lh.label.gii"):
        rois = place_rois(read_rois(tmp_path / file), grid, where="run")
        labels = [next((k for k, n in names.items() if n == rois.names.get(label)), 0) for label in rois.labels]
        assert_array_equal(labels, expected, file)


def test_annotations_of_freesurfer_are_labels(tmp_path: Path) -> None:
    labels = np.array([-1, 0, 1, 2] * 3)
    table = np.array([[10 * k, k, 0, 0, 0] for k in range(3)])
    for side in ("lh", "rh"):
        nib.freesurfer.write_annot(tmp_path / f"{side}.a.annot", labels, table, [b"unknown", b"V1", b"V2"])

    rois = read_rois(tmp_path / "rh.a.annot")

    named = [rois.names.get(int(label)) for label in rois.labels]
    assert named == [None, None, "V1", "V2"] * 6


def test_masks_of_surfaces_are_what_is_above_zero(tmp_path: Path) -> None:
    grid = CiftiSignal(known.write_series(tmp_path / "a.dtseries.nii", known.make_series(0, N_TRS))).grid
    values = np.random.default_rng(0).normal(size=known.N_PLACES).astype(np.float32)
    axes = (nib.cifti2.ScalarAxis(["m"]), known.brain_models())
    nib.save(nib.Cifti2Image(values[None], axes), tmp_path / "m.dscalar.nii")
    assert_array_equal(place_mask(tmp_path / "m.dscalar.nii", grid, where="run"), values > 0)


def test_a_grid_of_structures_is_restored_from_what_a_node_holds(tmp_path: Path) -> None:
    grid = CiftiSignal(known.write_series(tmp_path / "a.dtseries.nii", known.make_series(0, N_TRS))).grid
    arrays, record = describe_structures(grid)
    assert same_grid(grid, restore_grid(arrays["place_index"], record))


# ---------------------------------------------------------------- and back


def test_volumes_go_back_to_their_voxels(tmp_path: Path) -> None:
    affine = np.array([[0, -2.0, 0, 9], [3, 0, 0, -4], [0, 0, 2.5, 1], [0, 0, 0, 1]])
    grid = Grid((4, 3, 2), tuple(tuple(map(float, row)) for row in affine))
    mask = np.random.default_rng(0).random(grid.shape) > 0.5
    values = np.random.default_rng(1).normal(size=(5, int(mask.sum()))).astype(np.float32)

    (series,) = write_images(tmp_path / "run-1", values, grid, np.argwhere(mask), tr_s=1.5)
    (single,) = write_images(tmp_path / "map", values[0], grid, np.argwhere(mask))

    image = nib.load(series)
    assert_array_equal(image.get_fdata(dtype=np.float32)[mask].T, values)
    assert np.isnan(image.get_fdata()[~mask]).all()
    assert image.header.get_zooms()[3] == 1.5
    np.testing.assert_allclose(image.affine, affine)
    assert_array_equal(nib.load(single).get_fdata(dtype=np.float32)[mask], values[0])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["map.nii.gz", "run-1.nii.gz"]


def test_grayordinates_go_back_to_theirs(tmp_path: Path) -> None:
    path = known.write_series(tmp_path / "a.dtseries.nii", known.make_series(0, N_TRS))
    grid, places = CiftiSignal(path).grid, np.array([1, 9, 22])
    values = known.make_series(1, 4, 3)

    (series,) = write_images(tmp_path / "b", values, grid, places[:, None], tr_s=1.0)
    (maps,) = write_images(tmp_path / "c", values, grid, places[:, None], names=["p", "q", "r", "s"])

    assert same_grid(CiftiSignal(series).grid, grid)
    assert nib.load(series).header.get_axis(1) == nib.load(path).header.get_axis(1)
    assert_array_equal(CiftiSignal(series).read(places), values)
    assert np.isnan(np.delete(nib.load(series).get_fdata(), places, axis=1)).all()
    assert nib.load(maps).header.get_axis(0).name.tolist() == ["p", "q", "r", "s"]


def test_vertices_go_back_to_their_hemispheres(tmp_path: Path) -> None:
    known.write_pair(tmp_path / "lh.func.gii", tmp_path / "rh.func.gii", known.make_series(0, N_TRS, 24))
    grid, places = GiftiSignal(tmp_path / "lh.func.gii", tmp_path / "rh.func.gii").grid, np.array([1, 11, 12, 20])
    values = known.make_series(1, 4, 4)

    left, right = write_images(tmp_path / "sub-01_HEMI_bold", values, grid, places[:, None], tr_s=1.0)

    assert (left.name, right.name) == ("sub-01_hemi-L_bold.func.gii", "sub-01_hemi-R_bold.func.gii")
    assert_array_equal(GiftiSignal(left, right).read(places), values)


# ---------------------------------------------------------------- what is refused


def truncated(folder: Path) -> None:
    path = known.write_series(folder / "a.dtseries.nii", known.make_series(0, N_TRS))
    path.write_bytes(path.read_bytes()[:-50])
    CiftiSignal(path)


def a_volume_called_series(folder: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2, 3)), np.eye(4)), folder / "b.nii")
    (folder / "b.nii").rename(folder / "a.dtseries.nii")
    CiftiSignal(folder / "a.dtseries.nii")


def labels_for_series(folder: Path) -> None:
    CiftiSignal(known.write_dense_labels(folder / "a.dlabel.nii", np.zeros(known.N_PLACES), {1: "V1"}))


def one_hemisphere(folder: Path) -> None:
    known.write_pair(folder / "lh.func.gii", folder / "rh.func.gii", known.make_series(0, N_TRS, 24))
    (folder / "rh.func.gii").unlink()
    pair_of(folder / "lh.func.gii", what="GIFTI file")


def no_hemisphere(folder: Path) -> None:
    (folder / "bold.func.gii").write_text("x")
    pair_of(folder / "bold.func.gii", what="GIFTI file")


def hemispheres_of_other_length(folder: Path) -> None:
    known.write_pair(folder / "lh.func.gii", folder / "x.func.gii", known.make_series(0, 8, 24))
    known.write_pair(folder / "y.func.gii", folder / "rh.func.gii", known.make_series(0, 9, 24))
    GiftiSignal(folder / "lh.func.gii", folder / "rh.func.gii")


def no_xml(folder: Path) -> None:
    for side in ("lh", "rh"):
        (folder / f"{side}.func.gii").write_text("<GIFTI")
    GiftiSignal(folder / "lh.func.gii", folder / "rh.func.gii")


def other_mesh(folder: Path) -> None:
    grid = CiftiSignal(known.write_series(folder / "a.dtseries.nii", known.make_series(0, N_TRS))).grid
    known.write_label_pair(folder / "lh.label.gii", folder / "rh.label.gii", np.ones(24), {1: "V1"})
    known.N_VERTICES, n = 10, known.N_VERTICES
    try:
        known.write_label_pair(folder / "lh.label.gii", folder / "rh.label.gii", np.ones(20), {1: "V1"})
    finally:
        known.N_VERTICES = n
    place_rois(read_rois(folder / "lh.label.gii"), grid, where="run")


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (truncated, InputFileError, "truncated"),
        (a_volume_called_series, InputFileError, "CIFTI-2"),
        (labels_for_series, InputFileError, "labels, not TRs"),
        (one_hemisphere, InputFileError, "rh.func.gii is wanted"),
        (no_hemisphere, InputFileError, "does not tell its hemisphere"),
        (hemispheres_of_other_length, AlignmentError, "8 TRs.*9"),
        (no_xml, InputFileError, "damaged"),
        (other_mesh, AlignmentError, "of 10 vertices.*of 12 vertices"),
    ],
)
def test_bad_files_are_one_sentence_with_a_hint(
    spoil: object, error: type[BrainsimError], words: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words) as caught:
        spoil(tmp_path)  # type: ignore[operator]
    assert caught.value.hint
    assert "\n" not in caught.value.message
