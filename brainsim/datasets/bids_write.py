"""Turn arrays into the files of a BIDS tree: images, sidecars, confounds, labels; the same bytes every time."""

# mypy: untyped-calls-exclude="nibabel"
# (nibabel says it is typed, and leaves most of its methods without annotations)

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from brainsim.core.errors import InvalidValueError

BIDS_VERSION = "1.10.0"
# int16 noise hardly compresses: level 1 gives nearly the size of level 9 in a fraction of the time.
GZIP_LEVEL = 1


def write_bold(path: Path, data: np.ndarray, *, affine: np.ndarray, tr_s: float) -> None:
    """Write a 4-D image.

    Floats become int16 with one scale factor and offset for the image (a step is the image's range / 65,535); float32
    where a value is not finite.

    Parameters
    ----------
    path : Path
        A name that ends in .nii.gz or .nii; folders above it are made.
    data : ndarray, (x, y, z, t)
        Any real dtype.
    affine : ndarray, (4, 4)
        Voxel to millimetres.
    tr_s : float
        Repetition time in seconds.

    Raises
    ------
    InvalidValueError
        Where `data` has not four axes.
    """
    if data.ndim != 4:
        raise InvalidValueError(f"an image of shape {data.shape} is to be written as BOLD; (x, y, z, t) is wanted.")
    image = _as_image(data, affine)
    image.header.set_zooms((*image.header.get_zooms()[:3], tr_s))
    image.header.set_xyzt_units("mm", "sec")
    _write_image(path, image)


def write_labels(path_nii: Path, labels: np.ndarray, *, affine: np.ndarray, names: Mapping[int, str]) -> None:
    """Write a label image, and beside it the TSV of its names (columns index, name).

    Parameters
    ----------
    path_nii : Path
        A name that ends in .nii.gz or .nii.
    labels : ndarray of int, (x, y, z)
        0 outside every region.
    affine : ndarray, (4, 4)
        Voxel to millimetres.
    names : mapping of int to str
        Label -> name.
    """
    if labels.ndim != 3 or not np.issubdtype(labels.dtype, np.integer):
        raise InvalidValueError(f"labels are {labels.dtype} of shape {labels.shape}; integers (x, y, z) are wanted.")
    image = nib.Nifti1Image(labels.astype(np.int16), affine, dtype=np.int16)
    _place(image, affine)
    _write_image(path_nii, image)
    write_rows(path_nii.with_name(_stem(path_nii) + ".tsv"), ("index", "name"), sorted(names.items()))


def write_confounds(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Write a confounds TSV: one row per volume, NaN as n/a, 9 digits.

    Parameters
    ----------
    path : Path
        A name that ends in _desc-confounds_timeseries.tsv.
    columns : mapping of str to ndarray, (n_trs,)
        Name -> values.
    """
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise InvalidValueError(f"confounds have differing lengths: {lengths}; one value per volume is wanted.")
    rows = zip(*columns.values(), strict=True)
    write_rows(path, tuple(columns), [tuple(_number(value) for value in row) for row in rows])


def write_sidecar(path: Path, *, tr_s: float, task: str, **fields: Any) -> None:
    """Write a BOLD sidecar; `path` ends in _bold.json, `fields` are further BIDS fields."""
    _write_json(path, {"RepetitionTime": tr_s, "TaskName": task, **fields})


def write_description(folder: Path, name: str, *, derivative: bool = False) -> None:
    """Write dataset_description.json."""
    made_by = {"GeneratedBy": [{"Name": "brainsim"}]} if derivative else {}
    kind = "derivative" if derivative else "raw"
    _write_json(
        folder / "dataset_description.json",
        {"Name": name, "BIDSVersion": BIDS_VERSION, "DatasetType": kind, **made_by},
    )


def write_participants(folder: Path, subjects: Sequence[str]) -> None:
    """Write participants.tsv, one row per subject ("sub-01")."""
    write_rows(folder / "participants.tsv", ("participant_id",), [(subject,) for subject in subjects])


def write_stimulus_map(path: Path, rows: Sequence[tuple[str, str, float, float]]) -> None:
    """Write a stimulus map; each row is (run, stimulus, onset_s in the run, offset_s in the stimulus)."""
    written = [(run, stimulus, _number(onset_s), _number(offset_s)) for run, stimulus, onset_s, offset_s in rows]
    write_rows(path, ("run", "stimulus", "onset_s", "offset_s"), written)


def write_rows(path: Path, names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a TSV with a header line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)


def _as_image(data: np.ndarray, affine: np.ndarray) -> nib.Nifti1Image:
    if np.issubdtype(data.dtype, np.integer):
        dtype = np.int16 if np.can_cast(data.dtype, np.int16) else np.int32
        image = nib.Nifti1Image(data.astype(dtype), affine)
    elif np.isfinite(data).all():
        image = nib.Nifti1Image(data, affine, dtype=np.int16)  # nibabel finds scale factor and offset
    else:
        image = nib.Nifti1Image(data.astype(np.float32), affine, dtype=np.float32)
    _place(image, affine)
    return image


def _place(image: nib.Nifti1Image, affine: np.ndarray) -> None:
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    image.header.set_xyzt_units("mm")


def _write_image(path: Path, image: nib.Nifti1Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = image.to_bytes()
    if path.suffix == ".gz":
        packed = io.BytesIO()
        with gzip.GzipFile("", "wb", compresslevel=GZIP_LEVEL, fileobj=packed, mtime=0) as file:
            file.write(data)
        data = packed.getvalue()
    path.write_bytes(data)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _number(value: float) -> str:
    return f"{value:.9g}" if np.isfinite(value) else "n/a"


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")
