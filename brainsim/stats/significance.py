"""Turn scores of subjects and runs into chances: sign flips, and tests with subjects and runs as random effects."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from brainsim.core.checks import check_choice
from brainsim.core.errors import InvalidValueError
from brainsim.core.seeds import named_rng
from brainsim.stats.fdr import false_discovery_rates
from brainsim.stats.intervals import crossed_row, crossed_spread

ALTERNATIVES = ("greater", "two-sided")

# Up to so many values all flips are made (16,384 of 14) instead of some drawn by chance.
MAX_EXACT = 14


def sign_flip_p(
    values: np.ndarray, *, alternative: str = "greater", n_flips: int = 10_000, seed: int = 0
) -> np.ndarray:
    """Return how often a mean as large arises when the signs of values are flipped at random.

    Exact where values are symmetric about zero without an effect: scores of subjects, differences of two systems. With
    few values p cannot be small: n of them have 2^n flips.

    Parameters
    ----------
    values : ndarray, (..., n)
        One value per subject, or per run.
    alternative : {"greater", "two-sided"}
        Whether only means above zero count.
    n_flips : int
        Random flips, where there are too many to make all.
    seed : int
        Seed of the flips, the same for all rows.

    Returns
    -------
    ndarray of float64, (...)
        NaN where a value is.

    References
    ----------
    Nichols and Holmes 2002, Hum. Brain Mapp. 15.
    """
    check_choice("the alternative", alternative, ALTERNATIVES)
    values = np.asarray(values, np.float64)
    n = values.shape[-1]
    if n < 1:
        raise InvalidValueError("no values; a test needs at least 1.")
    exact = n <= MAX_EXACT
    if exact:
        bits = np.arange(2**n)[:, None] >> np.arange(n)[None, :] & 1
    else:
        bits = named_rng(seed, "sign flips", str(n)).integers(2, size=(n_flips, n))
    means = values @ (1.0 - 2.0 * bits).T / n  # (..., n_flips)
    observed = values.mean(axis=-1, keepdims=True)
    # Flips that differ from the observed mean by rounding are ties with it.
    slack = 1e-12 * np.abs(values).max(axis=-1, keepdims=True)
    hit = np.abs(means) >= np.abs(observed) - slack if alternative == "two-sided" else means >= observed - slack
    # Of all flips the observed one is the first; to drawn ones it is added.
    p: np.ndarray = hit.mean(axis=-1) if exact else (1 + hit.sum(axis=-1)) / (1 + len(bits))
    return np.where(np.isfinite(values).all(axis=-1), p, np.nan)


def crossed_p(values: np.ndarray, *, alternative: str = "greater") -> float:
    """Return the chance of so large a mean over subjects and runs, both as random effects.

    Subjects who saw the same movie share what is peculiar to its runs. A test over subjects alone asks about these very
    runs; this one asks about other runs too (`crossed_interval`).

    Parameters
    ----------
    values : ndarray, (n_subjects, n_runs)
        Subjects with a NaN are left out.
    alternative : {"greater", "two-sided"}
        Whether only means above zero count.

    Returns
    -------
    float
        NaN with fewer than 2 values to spread over.
    """
    from scipy.stats import t

    check_choice("the alternative", alternative, ALTERNATIVES)
    mean, error, freedom = crossed_spread(values)
    if not np.isfinite(error):
        return float("nan")
    if error == 0:
        return float(mean <= 0) if alternative == "greater" else float(mean == 0)
    statistic = mean / error
    return float(t.sf(statistic, freedom) if alternative == "greater" else 2 * t.sf(abs(statistic), freedom))


def score_rows(scores: np.ndarray, *, seed: int = 0) -> list[dict[str, Any]]:
    """Return mean, interval, p and q of each system: whether it is like the brain at all.

    Parameters
    ----------
    scores : ndarray, (n_rows, n_subjects, n_runs)
        NaN where a subject has none.

    Returns
    -------
    list of dict
        `crossed_row`, and ``p`` (subjects and runs as random effects), ``p_subjects`` (sign flips over subjects: for
        these runs alone), and their false discovery rates over all rows, ``q`` and ``q_subjects``; null where unknown.
    """
    return _with_q([_row(values, "greater", seed) for values in scores])


def compare_rows(scores: np.ndarray, names: Sequence[str], *, seed: int = 0) -> list[dict[str, Any]]:
    """Return every two systems' difference: which one is more like the brain.

    Parameters
    ----------
    scores : ndarray, (n_systems, n_subjects, n_runs)
        Of the same subjects and runs.
    names : sequence of str
        The systems.

    Returns
    -------
    list of dict
        As `score_rows`, of ``a`` less ``b``, two-sided.
    """
    rows = []
    for i, j in combinations(range(len(names)), 2):
        rows.append({"a": names[i], "b": names[j], **_row(scores[i] - scores[j], "two-sided", seed)})
    return _with_q(rows)


def _row(values: np.ndarray, alternative: str, seed: int) -> dict[str, Any]:
    known = values[np.isfinite(values).all(axis=1)]
    by_subject = known.mean(axis=1) if len(known) > 1 else None
    flips = None if by_subject is None else float(sign_flip_p(by_subject, alternative=alternative, seed=seed))
    p = crossed_p(values, alternative=alternative)
    return {**crossed_row(values), "p": p if np.isfinite(p) else None, "p_subjects": flips}


def _with_q(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for name in ("p", "p_subjects"):
        p = np.array([np.nan if row[name] is None else row[name] for row in rows])
        for row, q in zip(rows, false_discovery_rates(p) if len(p) else [], strict=True):
            row[name.replace("p", "q", 1)] = float(q) if np.isfinite(q) else None
    return rows
