"""Turn words such as "fd>0.5,motion_outlier*" and a confounds table into the TRs of a run that fits must not see."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brainsim.core.checks import check_number
from brainsim.core.errors import InputFileError, InvalidValueError
from brainsim.datasets.confounds import DISPLACEMENT, Confounds

FD = "fd>"
NONE = "none"
_EXAMPLE = "--scrub 'fd>0.5', or columns of the confounds table that are 1 where a TR goes: --scrub 'motion_outlier*'"


def parse_scrub(scrub: str) -> tuple[str, ...]:
    """Return the words of a comma list; none for "none".

    Raises
    ------
    InvalidValueError
        An empty list, "none" beside others, or a threshold that is no number above 0.
    """
    words = tuple(word.strip().replace(" ", "") for word in scrub.split(",") if word.strip())
    if words == (NONE,):
        return ()
    if not words or NONE in words:
        raise InvalidValueError(f"scrub is {scrub!r}; none, fd>MM or column names are wanted.", hint=_EXAMPLE)
    for word in words:
        if word.startswith(FD):
            _threshold(word)
    return words


def scrub_columns(words: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of a confounds table that scrubbing needs, some as patterns."""
    return tuple(dict.fromkeys(DISPLACEMENT if word.startswith(FD) else word for word in words))


def find_scrubbed(confounds: Confounds, words: Sequence[str], *, where: str) -> np.ndarray:
    """Return which volumes of a run are scrubbed.

    Parameters
    ----------
    confounds : Confounds
        With the extra columns that `scrub_columns` names.
    words : sequence of str
        As `parse_scrub` gives them.
    where : str
        The run, for errors.

    Returns
    -------
    ndarray of bool, (n_volumes,)

    Raises
    ------
    InputFileError
        A column whose values are others than 0 and 1.
    """
    scrubbed = np.zeros(len(confounds.values), bool)
    for word in words:
        if word.startswith(FD):
            scrubbed |= np.nan_to_num(confounds.extra[DISPLACEMENT], nan=0.0) > _threshold(word)
    for name, column in confounds.extra.items():
        if name == DISPLACEMENT:
            continue
        if not np.isin(column, (0, 1)).all():
            raise InputFileError(
                f"column {name!r} of the confounds of {where} holds other values than 0 and 1, and is to say which TRs "
                "are scrubbed.",
                hint=_EXAMPLE,
            )
        scrubbed |= column == 1
    return scrubbed


def _threshold(word: str) -> float:
    try:
        value = float(word.removeprefix(FD))
    except ValueError:
        value = float("nan")
    return check_number("the displacement in --scrub", value, above=0, unit="mm", hint=_EXAMPLE)
