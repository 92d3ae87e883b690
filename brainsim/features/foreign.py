"""Turn array files that other programs wrote into blocks of rows, without running anything that is in them.

NumPy's and PyTorch's files can hold pickles, and HDF5's can point at other files. All three are refused: a file that a
colleague sends is data.
"""

from __future__ import annotations

import math
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from packaging.version import Version

from brainsim.core.errors import InputFileError, MissingDependencyError

NUMPY, HDF5, TORCH = (".npy", ".npz"), (".h5", ".hdf5", ".hdf"), (".pt", ".pth")
SUFFIXES = (*NUMPY, *HDF5, *TORCH)

# torch.load(weights_only=True) of earlier ones could be tricked into running code (CVE-2025-32434).
SAFE_TORCH = Version("2.6")

# Bytes of a block of rows: large enough for the disk, small beside everything else.
BLOCK_BYTES = 16 * 2**20


@dataclass(frozen=True)
class ForeignArray:
    """An array that somebody else made, not read yet.

    Parameters
    ----------
    name : str
        What its file calls it, or the file's own name.
    shape : tuple of int
        Rows first.
    dtype : numpy.dtype
        Of its numbers.
    files : tuple of Path
        What it is made of.
    blocks : callable
        Returns an iterator of consecutive rows, (n_rows, ...).
    row_names : tuple of str or None
        What its rows are of, where the files say so.
    refusal : str
        Why it can be no features, where that is known; see `check_numbers`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    files: tuple[Path, ...]
    blocks: Callable[[], Iterator[np.ndarray]]
    row_names: tuple[str, ...] | None = None
    refusal: str = ""


def open_arrays(path: Path) -> list[ForeignArray]:
    """Open a file: one array of a .npy or a tensor, or all that a .npz, an HDF5 file or a dictionary of tensors holds.

    What a file holds beside numbers (labels, names of images) is listed and not read: `check_numbers` refuses it where
    it is wanted as features.

    Raises
    ------
    InputFileError
        A file of another kind, that is not whole, or that needs code to be read.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputFileError(f"{path} is none of the files that are read: {', '.join(SUFFIXES)}.")
    try:
        if suffix == ".npy":
            return [_open_npy(path)]
        if suffix == ".npz":
            return _open_npz(path)
        return _open_hdf5(path) if suffix in HDF5 else _open_torch(path)
    except InputFileError:
        raise
    except (OSError, ValueError, EOFError, RuntimeError, KeyError, zipfile.BadZipFile) as error:
        reason = str(error).partition("\n")[0]
        raise InputFileError(f"{path} is no whole {suffix} file of numbers ({reason}).") from error


def check_numbers(array: ForeignArray) -> None:
    """Raise InputFileError where an array holds anything but real numbers."""
    why = array.refusal
    if not why and array.dtype.kind not in "fiub":
        why = (
            f"{array.files[0]} holds {array.name!r} as values of type {array.dtype}; real numbers are wanted, and no "
            "Python objects are ever loaded."
        )
    if why:
        raise InputFileError(why, hint="--layers leaves arrays out that are no features")


def npz_shapes(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Return shape and data type of every array of a .npz, read from their headers alone."""
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if not member.endswith(".npy"):
                    raise InputFileError(f"{path} holds {member!r}, which is no array.")
                with archive.open(member) as file:
                    version = np.lib.format.read_magic(file)
                    read = (
                        np.lib.format.read_array_header_1_0
                        if version == (1, 0)
                        else np.lib.format.read_array_header_2_0
                    )
                    shape, _, dtype = read(file)
                found[member.removesuffix(".npy")] = (tuple(map(int, shape)), np.dtype(dtype))
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, InputFileError):
            raise
        raise InputFileError(f"{path} is no whole .npz file ({str(error).partition(chr(10))[0]}).") from error
    return found


def read_member(path: Path, name: str) -> np.ndarray:
    """Read one array of a .npz."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            values: np.ndarray = archive[name]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputFileError(f"array {name!r} of {path} cannot be read ({error}).") from error
    return values


def iter_rows(values: Any) -> Iterator[np.ndarray]:
    """Yield blocks of rows of anything that is sliced like an array."""
    row_bytes = max(math.prod(values.shape[1:]) * np.dtype(values.dtype).itemsize, 1)
    size = max(BLOCK_BYTES // row_bytes, 1)
    for start in range(0, values.shape[0], size):
        yield np.asarray(values[start : start + size])


def _open_npy(path: Path) -> ForeignArray:
    values = np.load(path, mmap_mode="r", allow_pickle=False)
    return ForeignArray(path.stem, values.shape, values.dtype, (path,), lambda: iter_rows(values))


def _open_npz(path: Path) -> list[ForeignArray]:
    return [
        ForeignArray(name, shape, dtype, (path,), lambda name=name: iter_rows(read_member(path, name)))  # type: ignore[misc]
        for name, (shape, dtype) in npz_shapes(path).items()
    ]


def _open_hdf5(path: Path) -> list[ForeignArray]:
    import h5py

    found = []

    def blocks(name: str) -> Iterator[np.ndarray]:
        with h5py.File(path, "r") as file:
            yield from iter_rows(file[name])

    def visit(name: str, item: Any) -> None:  # follows no links, neither inside the file nor to others
        if not isinstance(item, h5py.Dataset):
            return
        if item.external or item.is_virtual:
            raise InputFileError(f"dataset {name!r} of {path} lies in other files; only the file itself is read.")
        shape = item.shape or ()  # an empty dataset has none
        found.append(ForeignArray(name.replace("/", "."), shape, np.dtype(item.dtype), (path,), lambda: blocks(name)))

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return found


def _open_torch(path: Path) -> list[ForeignArray]:
    import torch

    if Version(torch.__version__) < SAFE_TORCH:
        raise MissingDependencyError(
            f"{path} is read by torch {torch.__version__}, which can be made to run what is in it; 2.6 "
            "is the first that cannot.",
            hint="pip install --upgrade torch, or save it as .npy",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on pickle protocols: whether the file can be read is said below
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        # torch's own message advises to load it unsafely: only the name it stumbled over is passed on.
        asked = re.search(r"GLOBAL (\S+)", str(error))
        what = f"it asks for {asked.group(1)}" if asked else "it is no file of torch.save"
        raise InputFileError(
            f"{path} holds more than tensors ({what}), so it is not read.", hint="torch.save(tensor, PATH)"
        ) from error
    named = loaded if isinstance(loaded, dict) else {path.stem: loaded}
    found = []
    for name, value in named.items():
        if not isinstance(value, torch.Tensor) or not isinstance(name, str) or value.is_sparse:
            why = f"{path} holds a {type(value).__name__} under {name!r}; tensors by name, or one tensor, are wanted."
            found.append(ForeignArray(str(name), (), np.dtype(object), (path,), lambda: iter(()), refusal=why))
            continue
        # NumPy has no bfloat16: float32 holds each of its numbers.
        tensor = value.detach().float() if value.dtype == torch.bfloat16 else value.detach()
        try:
            values = tensor.resolve_conj().numpy()
        except (TypeError, RuntimeError) as error:  # float8, quantised, compressed, or without data
            raise InputFileError(
                f"{path} holds {name!r} as {value.dtype} ({value.layout}), which NumPy does not know; real numbers "
                "in a dense layout are wanted.",
                hint="tensor.float(), or tensor.to_dense(), before torch.save",
            ) from error
        found.append(
            ForeignArray(name, values.shape, values.dtype, (path,), lambda values=values: iter_rows(values))  # type: ignore[misc]
        )
    return found
