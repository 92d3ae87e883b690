"""Turn scores of subjects and runs into chances: sign flips, and tests with subjects and runs as random effects."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Literal, get_args

import numpy as np

from brainsim.core.checks import check_choice
from brainsim.stats.fdr import false_discovery_rates
from brainsim.stats.intervals import crossed_row, crossed_spread
from brainsim.stats.sign_flip import sign_flip_p

Alternative = Literal["greater", "two-sided"]


def crossed_p(values: np.ndarray, *, alternative: Alternative = "greater", cross_validated: bool = False) -> float:
    """Return the chance of so large a mean over subjects and runs, both as random effects.

    Subjects who saw the same movie share what is peculiar to its runs. A test over subjects alone asks about these very
    runs; this one asks about other runs too (`crossed_interval`).

    Parameters
    ----------
    values : ndarray, (n_subjects, n_runs)
        Subjects with a NaN are left out.
    alternative : {"greater", "two-sided"}
        Whether only means above zero count.
    cross_validated : bool
        Whether a run's score is that of a model that was fitted on the other runs (`crossed_spread`).

    Returns
    -------
    float
        NaN with fewer than 2 values to spread over.
    """
    from scipy.stats import t

    check_choice("the alternative", alternative, get_args(Alternative))
    mean, error, freedom = crossed_spread(values, cross_validated=cross_validated)
    if not np.isfinite(error):
        return float("nan")
    if error == 0:
        return float(mean <= 0) if alternative == "greater" else float(mean == 0)
    statistic = mean / error
    return float(t.sf(statistic, freedom) if alternative == "greater" else 2 * t.sf(abs(statistic), freedom))


def score_rows(
    scores: np.ndarray, *, cross_validated: Sequence[bool] | None = None, tested: bool = True, seed: int = 0
) -> list[dict[str, Any]]:
    """Return mean, interval, p and q of each system: whether it is like the brain at all.

    Parameters
    ----------
    scores : ndarray, (n_rows, n_subjects, n_runs)
        NaN where a subject has none.
    cross_validated : sequence of bool, optional
        Which rows' scores of a run are those of a model that was fitted on the other runs; none by default.
    tested : bool
        Whether unrelated systems score 0 on average. Where not, a test against 0 says nothing: p and q are null.

    Returns
    -------
    list of dict
        `crossed_row`, and ``p`` (subjects and runs as random effects), ``p_subjects`` (sign flips over subjects: for
        these runs alone), and their false discovery rates over all rows, ``q`` and ``q_subjects``; null where unknown.
    """
    fitted = cross_validated or [False] * len(scores)
    rows = [_row(values, "greater", seed, own) for values, own in zip(scores, fitted, strict=True)]
    return with_q(rows if tested else [{**row, "p": None, "p_subjects": None} for row in rows])


def compare_rows(
    scores: np.ndarray, names: Sequence[str], *, cross_validated: Sequence[bool] | None = None, seed: int = 0
) -> list[dict[str, Any]]:
    """Return every two systems' difference: which one is more like the brain.

    Parameters
    ----------
    scores : ndarray, (n_systems, n_subjects, n_runs)
        Of the same subjects and runs.
    names : sequence of str
        The systems.
    cross_validated : sequence of bool, optional
        As in `score_rows`; a difference is, where one of the two is.

    Returns
    -------
    list of dict
        As `score_rows`, of ``a`` less ``b``, two-sided.
    """
    fitted = cross_validated or [False] * len(names)
    rows = []
    for i, j in combinations(range(len(names)), 2):
        row = _row(scores[i] - scores[j], "two-sided", seed, fitted[i] or fitted[j])
        rows.append({"a": names[i], "b": names[j], **row})
    return with_q(rows)


def _row(values: np.ndarray, alternative: Alternative, seed: int, cross_validated: bool) -> dict[str, Any]:
    known = values[np.isfinite(values).all(axis=1)]
    by_subject = known.mean(axis=1) if len(known) > 1 else None
    flips = None if by_subject is None else float(sign_flip_p(by_subject, alternative=alternative, seed=seed))
    p = crossed_p(values, alternative=alternative, cross_validated=cross_validated)
    row = crossed_row(values, cross_validated=cross_validated)
    return {
        **row,
        # Over the runs of one subject a chance can be counted, but it would speak of nobody else.
        "p": p if np.isfinite(p) and row["low"] is not None else None,
        "p_subjects": flips,
    }


def with_q(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows with false discovery rates over all of them: ``q`` of ``p``, ``q_subjects`` of ``p_subjects``."""
    for name in ("p", "p_subjects"):
        p = np.array([np.nan if row[name] is None else row[name] for row in rows])
        for row, q in zip(rows, false_discovery_rates(p) if len(p) else [], strict=True):
            row[name.replace("p", "q", 1)] = float(q) if np.isfinite(q) else None
    return rows
