"""Turn MATLAB files, of version 7.3 (HDF5) and before, into the arrays of RDMs that they hold.

An RDM is an array (a square one, n x n x n_rdms, or vectors), or the field RDM of a struct or struct array, as the
MATLAB RSA toolbox writes it. Nothing in a file is run: functions and objects are not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainsim.core.errors import InputFileError

if TYPE_CHECKING:
    import h5py

# The variable that is taken where several are arrays, and the field of a struct that holds an RDM.
NAME, FIELD = "rdms", "RDM"

_HINT = "FILE.mat:VARIABLE names one"


def read_mat(path: Path, variable: str = "") -> np.ndarray:
    """Return the RDMs of a MATLAB file, with the axis of RDMs first where they are square.

    Parameters
    ----------
    path : Path
        An existing file.
    variable : str
        Which variable; by default the only struct with RDMs, or the array called rdms, or the only array.

    Returns
    -------
    ndarray, (n_rdms, n, n), (n, n), (n_rdms, n_pairs) or (n_pairs,)

    Raises
    ------
    InputFileError
        No MATLAB file; no such variable, or none or several that may be meant; RDMs of several sizes.
    """
    import h5py

    if h5py.is_hdf5(path):
        with h5py.File(path, "r") as file:
            return _squares_first(_choose(path, _hdf5_arrays(path, file), variable))
    from scipy.io import loadmat

    try:
        content = loadmat(path, variable_names=[variable] if variable else None, squeeze_me=False)
    # SciPy's reader of a file that is damaged, or none of MATLAB's, fails by whatever it stumbles over.
    except Exception as error:
        raise InputFileError(f"{path} cannot be read as a MATLAB file: {error}.") from error
    found = {name: _array(path, name, value) for name, value in content.items() if not name.startswith("__")}
    return _squares_first(_choose(path, {n: a for n, a in found.items() if a is not None}, variable))


def _choose(path: Path, arrays: Mapping[str, tuple[np.ndarray, bool]], variable: str) -> np.ndarray:
    """Return the array that is meant, of arrays and whether each is from a struct."""
    told = ", ".join(sorted(arrays)[:5]) or "none"
    if variable:
        if variable not in arrays:
            raise InputFileError(f"{path} has no RDMs called {variable!r}; it has {told}.")
        return arrays[variable][0]
    structs = [name for name, (_, is_struct) in arrays.items() if is_struct]
    names = structs or ([NAME] if NAME in arrays else list(arrays))
    if len(names) != 1:
        raise InputFileError(
            f"{path} holds {len(names)} variables that may be RDMs ({told}), and none is called {NAME!r}.", hint=_HINT
        )
    return arrays[names[0]][0]


def _array(path: Path, name: str, value: Any) -> tuple[np.ndarray, bool] | None:
    """Return a variable's numbers, and whether they are the RDMs of a struct; None of what has none."""
    values = np.asarray(value)
    if values.dtype.names is not None:
        if FIELD not in values.dtype.names:
            return None
        return _stack(path, name, [np.asarray(rdm) for rdm in values[FIELD].ravel(order="F")]), True
    return (values, False) if _is_numbers(values) else None


def _hdf5_arrays(path: Path, file: h5py.File) -> dict[str, tuple[np.ndarray, bool]]:
    """Return the arrays of a file of version 7.3; MATLAB's first axis is the last there."""
    import h5py

    found = {}
    for name in file:
        item = _own(path, file, name)
        if isinstance(item, h5py.Group) and not name.startswith("#") and FIELD in item:
            field = _own(path, item, FIELD)
            is_array = field.dtype == h5py.ref_dtype
            rdms = [file[place] for place in field[()].T.ravel(order="F")] if is_array else [field]
            found[name] = (_stack(path, name, [np.asarray(_checked(path, rdm)[()]).T for rdm in rdms]), True)
        elif isinstance(item, h5py.Dataset):
            values = np.asarray(item[()]).T
            if _is_numbers(values):
                found[name] = (values, False)
    return found


def _own(path: Path, group: h5py.Group, name: str) -> Any:
    """Return an item that lies in this very file: a link may lead to any other on this machine."""
    import h5py

    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise InputFileError(f"{name} of {path} is a link to elsewhere; RDMs must lie in the file itself.")
    return _checked(path, group[name])


def _checked(path: Path, item: Any) -> Any:
    import h5py

    if isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
        raise InputFileError(
            f"{item.name} of {path} keeps its values in another file; RDMs must lie in the file itself."
        )
    return item


def _stack(path: Path, name: str, rdms: list[np.ndarray]) -> np.ndarray:
    shapes = sorted({rdm.shape for rdm in rdms})
    if len(shapes) != 1:
        raise InputFileError(f"{name} of {path} has RDMs of the shapes {shapes or 'none'}; all must have one.")
    if not all(_is_numbers(rdm) for rdm in rdms):
        raise InputFileError(f"{name} of {path} has a field {FIELD} without numbers.")
    stacked = np.stack(rdms, axis=-1)
    # Vectors of pairs are one row each.
    return stacked if shapes[0][0] == shapes[0][1] else stacked.reshape(-1, len(rdms)).T


def _is_numbers(values: np.ndarray) -> bool:
    return bool(np.issubdtype(values.dtype, np.number)) and values.ndim in (2, 3)


def _squares_first(values: np.ndarray) -> np.ndarray:
    """Return the axis of RDMs first: MATLAB's squares are stacked along the third, and its vectors have two axes."""
    if values.ndim == 3 and values.shape[0] == values.shape[1]:
        values = np.moveaxis(values, 2, 0)
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
