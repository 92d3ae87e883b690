"""Turn NIfTI files into grids, label arrays and time series at chosen voxels, in slabs, read to the last byte."""

# mypy: untyped-calls-exclude="nibabel"
# (nibabel says it is typed, and leaves most of its methods without annotations)

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from scipy import ndimage

from brainsim.core.checks import check_file
from brainsim.core.errors import InputFileError
from brainsim.datasets.runs import Grid

SUFFIXES = (".nii", ".nii.gz")
_CIFTI_SUFFIXES = (".dtseries.nii", ".dlabel.nii", ".dscalar.nii")
# Large enough that a slab's Python costs nothing beside its bytes, small beside any image.
SLAB_BYTES = 8 * 2**20
# Full width at half maximum of a Gaussian of standard deviation 1.
FWHM_OF_SIGMA = float(np.sqrt(8 * np.log(2)))
_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6, "unknown": 1.0}
_AGAIN = "get the file again; gzip -t says whether a .gz is whole"


def is_volume(path: Path) -> bool:
    """Return whether a name is that of a NIfTI file; those of CIFTI files end alike."""
    return path.name.endswith(SUFFIXES) and not path.name.endswith(_CIFTI_SUFFIXES)


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    affine: np.ndarray
    dtype: np.dtype
    offset: int
    slope: float
    inter: float
    tr_s: float | None


class VolumeSignal:
    """A 4-D NIfTI image as a `Signal`; opening it reads its header only.

    Parameters
    ----------
    path : Path
        A .nii or .nii.gz file.

    Raises
    ------
    InputFileError
        No file, no NIfTI file, not 4-D, a dtype that is no number, an affine that cannot be inverted.
    """

    def __init__(self, path: Path) -> None:
        self.path = check_file(path, what="NIfTI image")
        self._header = _read_header(self.path)
        if len(self._header.shape) != 4:
            size = " x ".join(map(str, self._header.shape))
            raise InputFileError(
                f"{path} is {len(self._header.shape)}-D ({size}); a 4-D image (x, y, z, time) is wanted.",
                hint="name the BOLD images only; single volumes are joined by nilearn.image.concat_imgs",
            )

    @property
    def grid(self) -> Grid:
        """Shape and affine of one volume."""
        return _grid(self._header)

    @property
    def n_trs(self) -> int:
        """Number of volumes that the header promises."""
        return self._header.shape[3]

    @property
    def tr_s(self) -> float | None:
        """The header's repetition time in seconds; None where it is 0."""
        return self._header.tr_s

    def read(self, places: np.ndarray, *, smooth_mm: float | None = None) -> np.ndarray:
        """Read the time series of some voxels.

        Parameters
        ----------
        places : ndarray of int, (n_places,)
            Positions in the flattened (C-order) volume.
        smooth_mm : float, optional
            Full width at half maximum of a Gaussian over each volume, as nilearn's smooth_img has it: values that are
            not finite count as 0 for their neighbours, and stay what they are.

        Returns
        -------
        ndarray of float32, (n_trs, n_places)

        Raises
        ------
        InputFileError
            A file that is truncated or damaged.
        """
        header = self._header
        on_disk = np.ravel_multi_index(np.unravel_index(places, header.shape[:3]), header.shape[:3], order="F")
        out = np.empty((self.n_trs, len(places)), np.float32)
        for first, slab in _iter_slabs(self.path, header):  # (n, n_voxels), file's dtype and order
            if smooth_mm is not None:
                out[first : first + len(slab)] = _smooth(slab, header, smooth_mm)[:, on_disk]
                continue
            chosen = np.take(slab, on_disk, axis=1)  # in half of the time of slab[:, on_disk]
            with np.errstate(over="ignore", invalid="ignore"):  # what overflows float32 is Inf: masked, and counted
                if header.slope != 1 or header.inter != 0:
                    chosen = chosen * np.float64(header.slope) + header.inter
                out[first : first + len(slab)] = chosen
        return out

    def find_varying(self) -> np.ndarray:
        """Return which voxels change over time, bool (n_voxels,), C order."""
        header = self._header
        reference: np.ndarray | None = None
        varying = np.zeros(self.grid.n_places, bool)
        for _, slab in _iter_slabs(self.path, header):
            reference = slab[0].copy() if reference is None else reference
            changed = slab != reference
            if np.issubdtype(slab.dtype, np.floating):
                changed &= ~(np.isnan(slab) & np.isnan(reference))  # NaN throughout is no change
            varying |= changed.any(axis=0)
        return np.ascontiguousarray(varying.reshape(header.shape[:3], order="F")).ravel()


def read_labels(path: Path) -> tuple[np.ndarray, Grid]:
    """Read a 3-D image of whole numbers.

    Parameters
    ----------
    path : Path
        A label image, or a mask of zeros and ones.

    Returns
    -------
    labels : ndarray of int32, (x, y, z)
    grid : Grid

    Raises
    ------
    InputFileError
        Not a NIfTI file, not 3-D, or values that are not whole.
    """
    values, grid = _read_3d(path, "label image")
    return check_labels(values, path), grid


def check_labels(values: np.ndarray, path: Path) -> np.ndarray:
    """Return values as labels, int32, where all are whole and 0 or more.

    Raises
    ------
    InputFileError
        Other values.
    """
    whole = np.isfinite(values).all() and (values == np.round(values)).all()
    if not whole or values.min() < 0 or values.max() > np.iinfo(np.int32).max:
        raise InputFileError(
            f"{path} holds values from {np.min(values):g} to {np.max(values):g} that are not all whole and 0 or more; "
            "a label image is wanted.",
            hint="threshold a probability map first; --mask takes any image and uses what is above 0",
        )
    return values.astype(np.int32)


def read_mask(path: Path) -> tuple[np.ndarray, Grid]:
    """Read a 3-D image as a mask: True where a value is finite and above 0.

    Raises
    ------
    InputFileError
        Not a NIfTI file, not 3-D, or empty.
    """
    values, grid = _read_3d(path, "mask")
    mask = np.nan_to_num(values, nan=0.0) > 0
    if not mask.any():
        raise InputFileError(f"the mask {path} has no voxel above 0.", hint="name another image with --mask")
    return mask, grid


def _read_3d(path: Path, what: str) -> tuple[np.ndarray, Grid]:
    header = _read_header(check_file(path, what=what))
    shape = header.shape[:3] if header.shape[3:] in ((), (1,)) else header.shape
    if len(shape) != 3:
        size = " x ".join(map(str, header.shape))
        raise InputFileError(
            f"the {what} {path} is {len(header.shape)}-D ({size}); a 3-D image is wanted.",
            hint="take one volume of it (nilearn.image.index_img)",
        )
    flat = replace(header, shape=(*shape, 1))
    slab = np.concatenate([slab for _, slab in _iter_slabs(path, flat)])[0]
    values = slab.astype(np.float64) * header.slope + header.inter
    return values.reshape(shape, order="F"), _grid(flat)


def _smooth(slab: np.ndarray, header: _Header, smooth_mm: float) -> np.ndarray:
    """Return a slab (n, n_voxels) after a Gaussian over each volume, in float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        values = (slab * np.float64(header.slope) + header.inter).astype(np.float32)
    is_finite = np.isfinite(values)
    smooth = np.where(is_finite, values, 0).reshape(len(slab), *reversed(header.shape[:3]))
    voxel_mm = np.sqrt((header.affine[:3, :3] ** 2).sum(axis=0))
    for axis, size_mm in enumerate(voxel_mm):
        sigma = smooth_mm / (FWHM_OF_SIGMA * size_mm)
        smooth = ndimage.gaussian_filter1d(smooth, sigma, axis=3 - axis)  # x varies fastest in the file
    return np.where(is_finite, smooth.reshape(values.shape), values)


def _grid(header: _Header) -> Grid:
    return Grid(header.shape[:3], tuple(tuple(map(float, row)) for row in header.affine))


def _read_header(path: Path) -> _Header:
    """Read what is needed to find every value in the file."""
    if not is_volume(path):
        raise InputFileError(f"{path} is not called .nii or .nii.gz; a NIfTI image is wanted.", hint=f"file {path}")
    try:
        image = nib.load(path)
    except (ImageFileError, HeaderDataError) as error:
        raise InputFileError(
            f"{path} is no NIfTI file: {_one_line(error)}.", hint=f"file {path} says what it is"
        ) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputFileError(f"{path} is damaged before its image begins: {_one_line(error)}.", hint=_AGAIN) from error
    except OSError as error:
        raise InputFileError(
            f"{path} cannot be read: {_one_line(error)}.", hint="ls -l says who may read it"
        ) from error
    if not isinstance(image, nib.Nifti1Image):  # Nifti2Image is one, too
        raise InputFileError(f"{path} is a {type(image).__name__}; a NIfTI image is wanted.", hint=f"file {path}")
    stored: Any = image.dataobj  # an ArrayProxy: what the header says of the values, and where they begin
    if stored.dtype.kind not in "iuf":
        raise InputFileError(
            f"{path} holds values of type {stored.dtype}; real numbers are wanted.",
            hint="take the magnitude image (part-mag)",
        )
    affine = image.affine
    if affine is None or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise InputFileError(
            f"the affine of {path} cannot be inverted: {np.asarray(affine).tolist()}.", hint="mend its sform or qform"
        )
    return _Header(
        shape=tuple(int(n) for n in image.shape),
        affine=np.asarray(affine, np.float64),
        dtype=stored.dtype,
        offset=int(stored.offset),
        slope=float(stored.slope),
        inter=float(stored.inter),
        tr_s=_header_tr(image),
    )


def _header_tr(image: nib.Nifti1Image) -> float | None:
    """Return pixdim[4] in seconds by the header's own unit; None where it says nothing."""
    if image.ndim < 4:
        return None
    unit = str(image.header.get_xyzt_units()[1])
    tr = float(image.header["pixdim"][4])
    if tr == 0:
        return None
    return float(f"{tr * _SECONDS.get(unit, 1.0):.7g}")  # the header has float32: 0.8 reads as 0.800000012


def _iter_slabs(path: Path, header: _Header) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first volume, values (n, n_voxels) in the file's dtype and order), then check that the file ends well."""
    n_voxels, n_trs = int(np.prod(header.shape[:3])), header.shape[3]
    n_bytes = n_voxels * header.dtype.itemsize
    at_once = max(1, SLAB_BYTES // max(n_bytes, 1))
    done = 0
    try:
        with _open(path) as file:
            _read_exactly(file, header.offset)
            while done < n_trs:
                n = min(at_once, n_trs - done)
                data = _read_exactly(file, n * n_bytes)
                if len(data) < n * n_bytes:
                    raise InputFileError(
                        f"{path} is truncated: its header promises {n_trs} volumes, it holds "
                        f"{done + len(data) // max(n_bytes, 1)}.",
                        hint=_AGAIN,
                    )
                yield done, np.frombuffer(data, header.dtype).reshape(n, n_voxels)
                done += n
            while file.read(SLAB_BYTES):  # the checksum of a gzip stream is at its end
                pass
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputFileError(
            f"{path} is damaged: {_one_line(error)} (after volume {done} of {n_trs}).", hint=_AGAIN
        ) from error


def _open(path: Path) -> BinaryIO:
    # nibabel goes by the name, too; a gzip file that is called .nii was refused with the header.
    return open_gzip(path) if path.name.endswith(".gz") else path.open("rb")


def open_gzip(path: Path) -> BinaryIO:
    """Open a gzip file for reading, by isal's decompressor where it is installed: it takes a third of zlib's time.

    Either checks length and CRC of the stream when it has been read to its end.
    """
    try:
        igzip = import_module("isal.igzip")
    except ImportError:
        return cast(BinaryIO, gzip.open(path, "rb"))
    return cast(BinaryIO, igzip.open(path, "rb"))


def _read_exactly(file: BinaryIO, n_bytes: int) -> bytes:
    """Read `n_bytes`, fewer only at the file's end."""
    parts = []
    while n_bytes > 0:
        part = file.read(n_bytes)
        if not part:
            break
        parts.append(part)
        n_bytes -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
