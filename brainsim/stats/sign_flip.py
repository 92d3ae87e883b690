"""Turn one number per subject into the chance of a mean so far from zero, by flipping signs of subjects."""

from __future__ import annotations

from typing import Literal

import numpy as np

from brainsim.core.checks import check_choice
from brainsim.core.errors import InvalidValueError
from brainsim.core.seeds import named_rng

ALTERNATIVES = ("greater", "less", "two-sided")

# Up to so many subjects every one of the 2^n flips is counted (65,536 of 16), and p is exact.
MAX_COUNTED = 16

N_FLIPS = 50_000


def sign_flip_p(
    values: np.ndarray,
    *,
    alternative: Literal["greater", "less", "two-sided"] = "greater",
    n_flips: int = N_FLIPS,
    seed: int = 0,
) -> np.ndarray:
    """Return how often the mean over subjects is as large when the sign of each subject is a coin's.

    Subjects are random effects. Where the mean is zero and deviations are symmetric, every flip is as likely as what
    was observed, so that the test holds its level with any number of subjects and any variance, also another one in
    each. With n subjects no p is below 2^-n (two-sided: 2^(1 - n)): five subjects cannot reach 0.03.

    Parameters
    ----------
    values : ndarray, (n_subjects, ...)
        One number per subject; NaN where a subject has none (left out, and not counted).
    alternative : {"greater", "less", "two-sided"}
        What the mean is against zero if not chance.
    n_flips : int
        Flips that are drawn above 16 subjects; up to there all are counted.
    seed : int
        Seed of the draws, the same for all columns.

    Returns
    -------
    ndarray of float64, (...)
        NaN where no subject has a value.

    References
    ----------
    Fisher 1935, The design of experiments; Winkler et al. 2014, NeuroImage 92; Phipson and Smyth 2010, Stat. Appl.
    Genet. Mol. Biol. 9 (for the draws: what was observed counts as one of them).
    """
    check_choice("the alternative", alternative, ALTERNATIVES)
    values = np.asarray(values, np.float64)
    if values.ndim == 0 or values.shape[0] == 0:
        raise InvalidValueError(f"values have the shape {values.shape}; the first axis must be that of subjects.")
    flat = values.reshape(len(values), -1)
    p = np.full(flat.shape[1], np.nan)
    for column in range(flat.shape[1]):
        known = flat[~np.isnan(flat[:, column]), column]
        if len(known):
            p[column] = _chance(-known if alternative == "less" else known, alternative == "two-sided", n_flips, seed)
    return p.reshape(values.shape[1:])


def least_p(n_subjects: int) -> float:
    """Return the least one-sided p that so many subjects can give."""
    return 2.0**-n_subjects if n_subjects <= MAX_COUNTED else 1 / (1 + N_FLIPS)


def _chance(values: np.ndarray, two_sided: bool, n_flips: int, seed: int) -> float:
    sums, is_exact = _flipped_sums(values, n_flips, seed)
    observed = float(values.sum())
    # Sums of the same numbers in another order differ in their last bits; they count as equal.
    slack = 1e-12 * float(np.abs(values).sum())
    reached = np.abs(sums) >= abs(observed) - slack if two_sided else sums >= observed - slack
    n_reached = int(reached.sum())
    return n_reached / len(sums) if is_exact else (1 + n_reached) / (1 + len(sums))


def _flipped_sums(values: np.ndarray, n_flips: int, seed: int) -> tuple[np.ndarray, bool]:
    """Return the sum over subjects of all flips, or of some, and whether they are all."""
    n = len(values)
    if n > MAX_COUNTED:
        signs = 1.0 - 2.0 * named_rng(seed, "sign flips", n).integers(2, size=(n_flips, n))
        return signs @ values, False
    sums = np.zeros(1)
    for value in values:  # each subject doubles the number of sums
        sums = np.concatenate([sums + value, sums - value])
    return sums, True
