"""Volumes read in slabs equal nibabel's, in bounded memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import brainsim.datasets.volumes as volumes
from brainsim.datasets.bids_write import write_bold, write_labels
from brainsim.datasets.volumes import VolumeSignal, read_labels, read_mask

SHAPE = (5, 4, 3, 17)
AFFINE = np.array([[0, -2.0, 0, 9], [3, 0, 0, -4], [0, 0, 2.5, 1], [0, 0, 0, 1]])


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<u1", "<u2", "<i4", "<f4", ">f8"])
@pytest.mark.parametrize("version", [nib.Nifti1Image, nib.Nifti2Image])
def test_chosen_voxels_equal_nibabel(
    version: type, dtype: str, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volumes, "SLAB_BYTES", 60 * np.dtype(dtype).itemsize * 4)  # slabs of 4 volumes, the last of 1
    values = np.random.default_rng(0).integers(0, 200, SHAPE).astype(dtype)
    image = version(values, AFFINE)
    image.header.set_data_dtype(dtype)
    if np.dtype(dtype).kind != "f":
        image.header.set_slope_inter(0.25, -3.0)
    nib.save(image, tmp_path / f"x{ending}")
    places = np.array([0, 7, 59, 31])

    signal = VolumeSignal(tmp_path / f"x{ending}")

    peer = nib.load(tmp_path / f"x{ending}").get_fdata().reshape(60, 17)[places].T
    assert_allclose(signal.read(places), peer, rtol=1e-6)
    assert signal.n_trs == 17
    assert_allclose(np.array(signal.grid.affine), AFFINE)


def test_varying_voxels_leave_constant_and_empty_ones_out(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    values[0, 1, 2] = 3
    values[1, 1, 1] = np.nan
    values[2, 0, 0, 4] = np.nan  # NaN once: a target, which cleaning masks and counts
    write_bold(tmp_path / "x.nii.gz", values, affine=AFFINE, tr_s=2.0)

    varying = VolumeSignal(tmp_path / "x.nii.gz").find_varying().reshape(SHAPE[:3])

    assert sorted(map(tuple, np.argwhere(~varying).tolist())) == [(0, 1, 2), (1, 1, 1)]


def test_memory_is_bounded_by_the_mask_not_the_image(tmp_path: Path) -> None:
    values = np.zeros((64, 64, 36, 80), np.int16)  # 24 MB as it lies, 94 MB as float64
    values[10, 10, 10] = np.arange(80)
    write_bold(tmp_path / "x.nii.gz", values, affine=np.eye(4), tr_s=1.0)
    del values
    signal = VolumeSignal(tmp_path / "x.nii.gz")
    tracemalloc.start()

    read = signal.read(np.arange(40_000, 42_000))

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * volumes.SLAB_BYTES + 3 * read.nbytes


@pytest.mark.parametrize(("unit", "written", "tr_s"), [("sec", 0.8, 0.8), ("msec", 2000, 2.0), ("unknown", 1.5, 1.5)])
def test_tr_is_read_in_the_headers_own_unit(unit: str, written: float, tr_s: float, tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((2, 2, 2, 3), np.int16), np.eye(4))
    image.header.set_zooms((1, 1, 1, written))
    image.header.set_xyzt_units("mm", unit)
    nib.save(image, tmp_path / "x.nii")

    assert VolumeSignal(tmp_path / "x.nii").tr_s == tr_s


def test_labels_and_masks_come_back_on_their_voxels(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 3, SHAPE[:3])
    write_labels(tmp_path / "l.nii.gz", labels, affine=AFFINE, names={1: "a", 2: "b"})
    mask = np.where(labels == 2, 0.4, np.nan)
    nib.save(nib.Nifti1Image(mask, AFFINE), tmp_path / "m.nii")

    assert_array_equal(read_labels(tmp_path / "l.nii.gz")[0], labels)
    assert_array_equal(read_mask(tmp_path / "m.nii")[0], labels == 2)


def test_written_images_are_the_same_bytes_every_time_and_near_the_values(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(1000, 20, SHAPE)
    for name in ("a", "b"):
        write_bold(tmp_path / f"{name}.nii.gz", values, affine=AFFINE, tr_s=1.25)

    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    image = nib.load(tmp_path / "a.nii.gz")
    assert_allclose(image.get_fdata(), values, atol=np.ptp(values) / 65535)
    assert image.header.get_zooms()[3] == 1.25
    assert_allclose(image.affine, AFFINE)


def test_large_unsigned_values_are_written_whole(tmp_path: Path) -> None:
    values = np.full((2, 2, 2, 3), 60_000, np.uint16)
    write_bold(tmp_path / "x.nii", values, affine=np.eye(4), tr_s=1.0)
    assert_array_equal(nib.load(tmp_path / "x.nii").get_fdata(), values)
