"""Turn an error that inner products may have into the number of random projections that keeps it."""

from __future__ import annotations

import math

from brainsim.core.checks import check_count
from brainsim.core.errors import InvalidValueError


def count_outputs(n_rows: int, error: float) -> int:
    """Return how many random projections keep all inner products of rows.

    Each is then within `error` of the product of the two rows' lengths, with high probability (Johnson-Lindenstrauss;
    the bound of Dasgupta & Gupta 2003, which scikit-learn's `johnson_lindenstrauss_min_dim` gives). The number of rows
    is taken up to the next power of two, so that one more movie seldom changes the answer.

    Parameters
    ----------
    n_rows : int
        Clips, over all movies whose features will meet in one kernel.
    error : float
        Above 0 and below 1.

    Raises
    ------
    InvalidValueError
        Another error.
    """
    check_count("n_rows", n_rows)
    if not 0 < error < 1:
        raise InvalidValueError(
            f"sketch_error is {error:g}; it must be above 0 and below 1.", hint="--sketch-error 0.1"
        )
    rounded = 2 ** math.ceil(math.log2(max(n_rows, 2)))
    return math.ceil(4 * math.log(rounded) / (error**2 / 2 - error**3 / 3))
