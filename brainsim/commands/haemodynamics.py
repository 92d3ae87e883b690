"""Turn --delays and --hrf into how features become responses: shifted by TRs, or convolved with a canonical one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from brainsim.core.checks import check_choice
from brainsim.core.errors import InvalidValueError

# The response is estimated: features enter at several delays.
FIR = "fir"

# 2 to 8 s at a TR of 2 s.
DEFAULT_DELAYS = (1, 2, 3, 4)


def read_haemodynamics(hrf: str, delays: Sequence[int] | None) -> tuple[int, ...]:
    """Return the delays: those that are given, or the usual ones; none where features are convolved.

    Parameters
    ----------
    hrf : str
        "fir", or the name of a canonical response.
    delays : sequence of int, optional
        In TRs.

    Raises
    ------
    InvalidValueError, UnknownNameError
        Another word; or delays beside a canonical response.
    """
    from brainsim.features.hrf import HRFS

    check_choice("--hrf", hrf, (FIR, *HRFS))
    if delays is None:
        return DEFAULT_DELAYS if hrf == FIR else ()
    own = tuple(np.asarray(delays).tolist())  # Python's own numbers, whatever array or range they came in
    if hrf != FIR:
        raise InvalidValueError(
            f"--delays is {','.join(map(str, own)) or 'empty'} and --hrf is {hrf}; a canonical response has a time "
            "course of its own, and takes no delays.",
            hint="leave --delays out, or --hrf fir",
        )
    return own


def haemodynamics(hrf: str, delays: Sequence[int]) -> dict[str, Any]:
    """Return what keys and results hold of it."""
    return {"delays": list(delays)} if hrf == FIR else {"hrf": hrf}
