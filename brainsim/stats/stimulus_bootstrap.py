"""Turn RDMs of stimuli into intervals, by drawing stimuli, subjects or both anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from brainsim.core.errors import InvalidValueError
from brainsim.core.seeds import named_rng
from brainsim.stats.pair_sums import PairSums

# With fewer units a bootstrap says nothing.
MIN_UNITS = 10


@dataclass(frozen=True)
class BootstrapErrors:
    """Standard errors of mean similarities, (n_rows,) each.

    Parameters
    ----------
    stimuli : ndarray
        Over stimuli, for these subjects.
    subjects : ndarray
        Over subjects, for these stimuli; NaN with one subject.
    both : ndarray
        Over both; that of stimuli with one subject.
    """

    stimuli: np.ndarray
    subjects: np.ndarray
    both: np.ndarray


def draw_units(n_stimuli: int, n_subjects: int, n_draws: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return how often each draw has each stimulus, and which subjects it has, both with replacement.

    Returns
    -------
    counts : ndarray of int, (n_draws, n_stimuli)
    who : ndarray of int, (n_draws, n_subjects)

    Raises
    ------
    InvalidValueError
        Fewer than 10 stimuli.
    """
    if n_stimuli < MIN_UNITS:
        raise InvalidValueError(
            f"{n_stimuli} stimuli; a bootstrap over stimuli needs at least {MIN_UNITS}.", hint="--n-bootstraps 0"
        )
    rng = named_rng(seed, "bootstrap over stimuli")
    counts = np.zeros((n_draws, n_stimuli), np.int64)
    who = np.zeros((n_draws, n_subjects), np.int64)
    for draw in range(n_draws):
        counts[draw] = np.bincount(rng.integers(n_stimuli, size=n_stimuli), minlength=n_stimuli)
        who[draw] = rng.integers(n_subjects, size=n_subjects)
    return counts, who


def pairs_of(drawn: np.ndarray, *, n_stimuli: int) -> np.ndarray:
    """Return the pairs of a draw of stimuli with replacement, as places in the upper triangle of all stimuli.

    A stimulus that is drawn twice makes pairs with itself, of dissimilarity 0 in every RDM: they are left out, because
    they would make unrelated RDMs alike (a true similarity of 0.02 came out at 0.90).

    Parameters
    ----------
    drawn : ndarray of int, (n_drawn,)
        Ascending.
    n_stimuli : int
        Stimuli that there are.
    """
    first, second = np.triu_indices(len(drawn), k=1)
    i, j = drawn[first], drawn[second]
    i, j = i[i != j], j[i != j]
    places: np.ndarray = i * n_stimuli - i * (i + 1) // 2 + j - i - 1
    return places


def errors_of(tables: np.ndarray, who: np.ndarray, whole: np.ndarray) -> BootstrapErrors:
    """Return standard errors of mean similarities from their values in draws of stimuli.

    Drawing both factors at once counts the noise of single RDMs once too often; the variance of both is
    ``2 (v_stimuli + v_subjects) - v_both`` where that is between its parts and their sum (Schütt et al. 2023).

    Parameters
    ----------
    tables : ndarray, (n_draws, n_rows, n_subjects)
        Similarity of each row with each subject in each draw of stimuli; differences of two similarities as well.
    who : ndarray of int, (n_draws, n_subjects)
        Subjects of each draw.
    whole : ndarray, (n_rows, n_subjects)
        Similarities with all stimuli.

    References
    ----------
    Schütt, Kipnis, Diedrichsen and Kriegeskorte 2023, eLife 12.
    """
    n_subjects = whole.shape[1]
    v_stimuli = np.nanvar(tables.mean(axis=2), axis=0, ddof=1)
    if n_subjects < 2:
        return BootstrapErrors(np.sqrt(v_stimuli), np.full(len(whole), np.nan), np.sqrt(v_stimuli))
    v_subjects = np.var(whole, axis=1, ddof=1) / n_subjects
    v_drawn = np.nanvar(np.take_along_axis(tables, who[:, None], axis=2).mean(axis=2), axis=0, ddof=1)
    v_both = np.clip(2 * (v_stimuli + v_subjects) - v_drawn, np.maximum(v_stimuli, v_subjects), v_stimuli + v_subjects)
    return BootstrapErrors(np.sqrt(v_stimuli), np.sqrt(v_subjects), np.sqrt(v_both))


def similarity_draws(
    models: np.ndarray,
    subjects: np.ndarray,
    compare: Callable[[np.ndarray, np.ndarray], np.ndarray],
    counts: np.ndarray,
    *,
    weighted: Literal["pearson", "cosine"] | None = None,
) -> np.ndarray:
    """Return each model's similarity to each subject in every draw of stimuli, (n_draws, n_models, n_subjects).

    Parameters
    ----------
    models, subjects : ndarray, (n_models, n_pairs), (n_subjects, n_pairs)
        RDMs of the same stimuli.
    compare : callable
        From two sets of RDMs to (n_models, n_subjects); it must work on any pairs.
    counts : ndarray of int, (n_draws, n_stimuli)
        How often each stimulus was drawn (`draw_units`).
    weighted : {"pearson", "cosine"}, optional
        What `compare` is, where it is one of these: the same numbers for all draws at once (`_weighted_tables`).
    """
    if weighted is not None:
        return _weighted_tables(models, subjects, counts.astype(np.float64), centred=weighted == "pearson")
    n_stimuli = counts.shape[1]
    drawn = (pairs_of(np.repeat(np.arange(n_stimuli), count), n_stimuli=n_stimuli) for count in counts)
    return np.stack([compare(models[:, pairs], subjects[:, pairs]) for pairs in drawn])


def _weighted_tables(models: np.ndarray, subjects: np.ndarray, counts: np.ndarray, *, centred: bool) -> np.ndarray:
    """Return the correlation, or cosine, of RDMs over the pairs of every draw, (n_draws, n_models, n_subjects).

    Parameters
    ----------
    counts : ndarray of float64, (n_draws, n_stimuli)
        How often each stimulus was drawn.
    """
    over_pairs = PairSums(counts, np.zeros(counts.shape[1], np.int64), n_parts=1)

    def sums(pairs: np.ndarray) -> np.ndarray:
        return over_pairs(pairs)[0, :, 0]

    # About their mean, so that no digits are lost when that of a draw is taken away.
    A, B = (X - X.mean(axis=1, keepdims=True, dtype=np.float64) if centred else X for X in (models, subjects))
    n_pairs = over_pairs.n_pairs[0, :, 0]
    first_a, first_b = ([sums(x) if centred else np.zeros(len(counts)) for x in X] for X in (A, B))
    power_a, power_b = (
        [sums(x**2) - one**2 / n_pairs for x, one in zip(X, first, strict=True)]
        for X, first in ((A, first_a), (B, first_b))
    )
    tables = np.empty((len(counts), len(A), len(B)))
    for a, x in enumerate(A):
        for b, y in enumerate(B):
            norm = np.sqrt(np.clip(power_a[a] * power_b[b], 0, None))
            with np.errstate(invalid="ignore", divide="ignore"):
                products = sums(x * y) - first_a[a] * first_b[b] / n_pairs
                tables[:, a, b] = np.where(norm > 0, products / norm, np.nan)
    return tables
