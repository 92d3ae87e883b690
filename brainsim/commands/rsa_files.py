"""Turn files of RDMs into vectors of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from brainsim.commands.rsa_mat import read_mat
from brainsim.core.checks import check_file
from brainsim.core.errors import InputFileError, InvalidValueError

SUFFIXES = (".npy", ".npz", ".mat", ".csv", ".tsv")

# The array of an .npz that holds several: this one is taken.
NPZ_NAME = "rdms"


def read_rdms(paths: Sequence[Path | str], *, name: str) -> np.ndarray:
    """Return the RDMs of some files, one after the other, float64 (n_rdms, n_pairs).

    Parameters
    ----------
    paths : sequence of path
        ``.npy``, ``.npz`` (its array ``rdms``, or its only one), ``.mat`` (`read_mat`; or ``FILE.mat:VARIABLE``),
        ``.csv`` or ``.tsv`` (a square table, without or with labels in its first row and column). An array is one
        square RDM, (n, n), several, (n_rdms, n, n), or vectors of pairs, (n_pairs,) or (n_rdms, n_pairs): upper
        triangles, row by row.
    name : str
        Whose RDMs they are, for errors.

    Raises
    ------
    InputFileError, InvalidValueError
        No such file, another format; no RDM, or one of another size than the first.
    """
    found = [rdm for path in paths for rdm in _read_file(path, name)]
    sizes = sorted({len(rdm) for rdm in found})
    if len(sizes) > 1:
        raise InvalidValueError(f"RDMs of {name} have {', '.join(map(str, sizes))} pairs; all must have the same.")
    return np.stack(found)


def _read_file(word: Path | str, name: str) -> list[np.ndarray]:
    from brainsim.rsa.rdm import from_square, n_rows_of

    file, variable = _split(str(word))
    path = check_file(file, what="file of RDMs")
    values = _read_array(path, variable)
    told = f"{name} in {path.name}"
    if not np.issubdtype(values.dtype, np.number):
        raise InputFileError(f"{path} holds {values.dtype} values; RDMs are numbers.")
    if values.ndim == 3:
        return [from_square(square, name=f"RDM {i + 1} of {told}") for i, square in enumerate(values)]
    if values.ndim == 2 and values.shape[0] == values.shape[1]:
        return [from_square(values, name=told)]
    if values.ndim not in (1, 2):
        raise InvalidValueError(f"{told} has the shape {values.shape}; RDMs have 1 to 3 axes.")
    vectors = np.atleast_2d(values).astype(np.float64)
    n_rows_of(vectors.shape[1])
    if not np.isfinite(vectors).all():
        raise InvalidValueError(f"{told} holds {int((~np.isfinite(vectors)).sum())} values that are not finite.")
    return list(vectors)


def _split(word: str) -> tuple[str, str]:
    """Return the file and the variable of ``FILE.mat:VARIABLE``; a file of that very name goes first."""
    head, colon, variable = word.rpartition(":")
    if colon and head.lower().endswith(".mat") and not Path(word).exists():
        return head, variable
    return word, ""


def _read_array(path: Path, variable: str) -> np.ndarray:
    suffix = path.suffix.lower()
    try:
        if suffix == ".npy":
            return np.asarray(np.load(path, allow_pickle=False))
        if suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                names = list(arrays)
                chosen = NPZ_NAME if NPZ_NAME in names else names[0] if len(names) == 1 else None
                if chosen is None:
                    raise InputFileError(
                        f"{path} holds {len(names)} arrays ({', '.join(names[:5])}) and none is called {NPZ_NAME!r}."
                    )
                return np.asarray(arrays[chosen])
        if suffix == ".mat":
            return read_mat(path, variable)
        if suffix in (".csv", ".tsv"):
            return _read_table(path, "," if suffix == ".csv" else "\t")
    except (ValueError, OSError, EOFError) as error:
        if isinstance(error, InputFileError):
            raise
        raise InputFileError(f"{path} cannot be read as {suffix[1:]}: {error}.") from None
    raise InputFileError(f"{path} is a {suffix or 'nameless'} file; RDMs are read from {', '.join(SUFFIXES)}.")


def _read_table(path: Path, separator: str) -> np.ndarray:
    """Read a table of numbers; a first row that is no numbers is labels, and then the first column is too."""
    lines = [line.split(separator) for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if not lines:
        raise InputFileError(f"{path} is empty.")
    try:
        [float(cell) for cell in lines[0]]
    except ValueError:
        lines = [line[1:] for line in lines[1:]]
    return np.array([[float(cell) for cell in line] for line in lines])
