"""Turn a few numbers into small CIFTI and GIFTI files whose values are known."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

N_VERTICES = 12
# The left cortex without its medial wall, the whole right one, and five voxels of a thalamus.
LEFT_VERTICES = np.array([0, 1, 2, 4, 5, 7, 8, 11])
VOXELS = np.array([[0, 0, 0], [1, 0, 2], [1, 1, 1], [2, 2, 0], [2, 2, 2]])
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
VOLUME = (3, 3, 3)
N_PLACES = len(LEFT_VERTICES) + N_VERTICES + len(VOXELS)


def brain_models(*, subcortical: bool = True) -> nib.cifti2.BrainModelAxis:
    left = nib.cifti2.BrainModelAxis.from_surface(LEFT_VERTICES, N_VERTICES, name="CortexLeft")
    right = nib.cifti2.BrainModelAxis.from_surface(np.arange(N_VERTICES), N_VERTICES, name="CortexRight")
    if not subcortical:
        return left + right
    thalamus = nib.cifti2.BrainModelAxis(
        name=["thalamus_left"] * len(VOXELS), voxel=VOXELS, affine=AFFINE, volume_shape=VOLUME
    )
    return left + right + thalamus


def make_series(seed: int, n_trs: int, n_places: int = N_PLACES) -> np.ndarray:
    return (1000 + np.random.default_rng(seed).normal(0, 20, (n_trs, n_places))).astype(np.float32)


def write_series(path: Path, values: np.ndarray, *, tr_s: float = 1.0) -> Path:
    axes = (nib.cifti2.SeriesAxis(0, tr_s, len(values), unit="SECOND"), brain_models())
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Cifti2Image(values, axes), path)
    return path


def write_dense_labels(path: Path, labels: np.ndarray, names: dict[int, str], *, whole_cortex: bool = False) -> Path:
    """Write labels of all grayordinates, or of every vertex of both cortices, medial wall included."""
    axis = brain_models()
    if whole_cortex:
        sides = ("CortexLeft", "CortexRight")
        left, right = (
            nib.cifti2.BrainModelAxis.from_surface(np.arange(N_VERTICES), N_VERTICES, name=side) for side in sides
        )
        axis = left + right
    table = {0: ("???", (0, 0, 0, 0)), **{k: (name, (1, 0, 0, 1)) for k, name in names.items()}}
    nib.save(nib.Cifti2Image(labels[None].astype(np.float32), (nib.cifti2.LabelAxis(["a"], [table]), axis)), path)
    return path


def write_pair(left: Path, right: Path, values: np.ndarray) -> None:
    """Write a series (n_trs, 2 * N_VERTICES), left before right."""
    for path, half in ((left, values[:, :N_VERTICES]), (right, values[:, N_VERTICES:])):
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = [
            nib.gifti.GiftiDataArray(row, intent="NIFTI_INTENT_TIME_SERIES", datatype="NIFTI_TYPE_FLOAT32")
            for row in np.ascontiguousarray(half)
        ]
        nib.save(nib.gifti.GiftiImage(darrays=arrays), path)


def write_label_pair(left: Path, right: Path, labels: np.ndarray, names: dict[int, str]) -> None:
    for path, half in ((left, labels[:N_VERTICES]), (right, labels[N_VERTICES:])):
        table = nib.gifti.GiftiLabelTable()
        for key, name in {0: "???", **names}.items():
            label = nib.gifti.GiftiLabel(key, 1, 0, 0, 1)
            label.label = name
            table.labels.append(label)
        array = nib.gifti.GiftiDataArray(half.astype(np.int32), intent="NIFTI_INTENT_LABEL")
        nib.save(nib.gifti.GiftiImage(darrays=[array], labeltable=table), path)
