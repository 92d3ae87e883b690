"""Turn numbers into the bits of bfloat16, rounded to nearest even, and back into float32 without loss.

bfloat16 is the upper half of a float32: all of its range, and 8 bits of its digits. NumPy has no such type: bits are
uint16.
"""

from __future__ import annotations

import numpy as np

BFLOAT16 = "bfloat16"
# The largest finite number, (2 - 2**-7) * 2**127, and the bits of the NaN that Zarr's fill value "NaN" stands for.
LARGEST = 2.0**128 - 2.0**120
NAN_BITS = 0x7FC0
INFINITY_BITS, MAGNITUDE = 0x7F80, 0x7FFF

# Numbers that are rounded at once: what is computed between stays in the cache.
BLOCK = 2**14


def round_to_bfloat16(values: np.ndarray) -> np.ndarray:
    """Return the bits of the nearest bfloat16 of each number; of two that are as near, the even one.

    Parameters
    ----------
    values : ndarray of float, integer or bool, any shape
        Numbers. Those beyond the range become infinities, as in every rounding to nearest; NaN stays NaN, -0 stays -0.

    Returns
    -------
    ndarray of uint16, same shape
    """
    flat = np.ascontiguousarray(values).reshape(-1)
    bits = np.empty(flat.shape, np.uint16)
    for start in range(0, len(flat), BLOCK):
        _round_block(flat[start : start + BLOCK], bits[start : start + BLOCK])
    return bits.reshape(np.shape(values))


def _round_block(values: np.ndarray, out: np.ndarray) -> None:
    wide = values.view(np.uint32) if values.dtype == np.float32 else _round_to_odd(values)
    rounded = wide >> np.uint32(16)
    rounded &= np.uint32(1)
    rounded += np.uint32(0x7FFF)  # half of the last digit, and one more where that digit is odd
    rounded += wide
    rounded >>= np.uint32(16)
    out[...] = rounded
    nan = (wide & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
    if nan.any():
        out[nan] = NAN_BITS


def _round_to_odd(values: np.ndarray) -> np.ndarray:
    """Return the bits of float32 numbers that still tell on which side of every bfloat16 tie the values lie.

    Rounding to nearest twice would take a number just beside a tie first to the tie and then to the wrong side. Cutting
    off instead, and setting the last bit where anything was cut off, does not (Boldo & Melquiond 2008).
    """
    exact = values.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        near = exact.astype(np.float32)
    bits: np.ndarray = near.view(np.uint32)
    back = near.astype(np.float64)
    inexact = (back != exact) & ~np.isnan(exact)
    bits -= np.abs(back) > np.abs(exact)
    bits |= inexact.astype(np.uint32)
    return bits


def widen_bfloat16(bits: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return the numbers of bfloat16 bits as float32: each is one, exactly.

    Parameters
    ----------
    bits : ndarray of uint16, any shape
        Bits.
    out : ndarray of float32, same shape, optional
        Where they are put.
    """
    if out is None:
        out = np.empty(bits.shape, np.float32)
    np.left_shift(bits, np.uint32(16), out=out.view(np.uint32), dtype=np.uint32, casting="unsafe")
    return out


def overflows(bits: np.ndarray, values: np.ndarray) -> bool:
    """Return whether any finite number was rounded to an infinity."""
    at = (bits & MAGNITUDE) == INFINITY_BITS
    return bool(at.any() and np.isfinite(values[at]).any())
