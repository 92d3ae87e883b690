"""Turn rows into the lower triangle of their inner products, with a BLAS call during which other threads run.

NumPy computes a symmetric product and mirrors it, which is a twentieth more for a block of features; SciPy's own
wrapper does not mirror, but keeps Python's lock, so that blocks would be multiplied one after the other. SciPy offers
the bare routine to Cython, as a pointer that ctypes can call without the lock.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import POINTER, byref, c_char, c_float, c_int, c_void_p

import numpy as np
from scipy.linalg import cython_blas


def lower_product(X: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """Return the lower triangle of ``X X'``; what is above the diagonal may be anything.

    Parameters
    ----------
    X : ndarray of float32, (n_rows, n_columns)
        Rows lie one after the other, each without gaps.
    out : ndarray of float32, (n_rows, n_rows), optional
        Memory that may be used for the result: new memory of this size costs as much as a twentieth of the product.

    Returns
    -------
    ndarray of float32, (n_rows, n_rows)
    """
    n_rows, n_columns = X.shape
    if _SSYRK is None or not X.flags.c_contiguous or X.dtype != np.float32 or X.size == 0:
        return np.asarray(X @ X.T)
    if out is None:
        out = np.empty((n_rows, n_rows), np.float32)
    n, k, one, zero = c_int(n_rows), c_int(n_columns), c_float(1), c_float(0)
    # To Fortran X is its transpose, and the lower triangle the upper one.
    _SSYRK(
        byref(c_char(b"U")), byref(c_char(b"T")), byref(n), byref(k), byref(one), X.ctypes.data, byref(k), byref(zero),
        out.ctypes.data, byref(n),
    )  # fmt: skip
    return out


def _find_ssyrk() -> Callable[..., None] | None:
    """Return BLAS's `ssyrk`; None where SciPy offers it otherwise than as of version 1.13 (64-bit integers)."""
    capsule = getattr(cython_blas, "__pyx_capi__", {}).get("ssyrk")
    if capsule is None:
        return None
    name_of, pointer_of = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer_of.restype, pointer_of.argtypes = c_void_p, [ctypes.py_object, ctypes.c_char_p]
    signature = name_of(capsule)
    kinds = [argument.split()[0] for argument in signature.partition(b"(")[2].rstrip(b")").split(b",")]
    if [kind for kind in kinds if kind in (b"char", b"int")] != [b"char"] * 2 + [b"int"] * 4 or len(kinds) != 10:
        return None
    words, numbers, single = POINTER(c_char), POINTER(c_int), POINTER(c_float)
    call = ctypes.CFUNCTYPE(
        None, words, words, numbers, numbers, single, c_void_p, numbers, single, c_void_p, numbers
    )  # fmt: skip
    return call(pointer_of(capsule, signature))


_SSYRK = _find_ssyrk()
