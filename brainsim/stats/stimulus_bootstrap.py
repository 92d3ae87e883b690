"""Turn RDMs of stimuli into intervals, by drawing stimuli, subjects or both anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from brainsim.core.errors import InvalidValueError
from brainsim.core.seeds import named_rng

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


def _draw(n_stimuli: int, rng: np.random.Generator) -> np.ndarray:
    return np.sort(rng.integers(n_stimuli, size=n_stimuli))


def pairs_of(drawn: np.ndarray) -> np.ndarray:
    """Return the pairs of a draw of stimuli with replacement, as places in the upper triangle.

    A stimulus that is drawn twice makes pairs with itself, of dissimilarity 0 in every RDM: they are left out, because
    they would make unrelated RDMs alike (a true similarity of 0.02 came out at 0.90).

    Parameters
    ----------
    drawn : ndarray of int, (n_stimuli,)
        Ascending.
    """
    n_stimuli = len(drawn)
    first, second = np.triu_indices(n_stimuli, k=1)
    i, j = drawn[first], drawn[second]
    i, j = i[i != j], j[i != j]
    places: np.ndarray = i * n_stimuli - i * (i + 1) // 2 + j - i - 1
    return places


def bootstrap_similarity(
    models: np.ndarray,
    subjects: np.ndarray,
    compare: Callable[[np.ndarray, np.ndarray], np.ndarray],
    *,
    n_stimuli: int,
    weighted: Literal["pearson", "cosine"] | None = None,
    squared: bool = False,
    n_draws: int = 1000,
    seed: int = 0,
) -> BootstrapErrors:
    """Return standard errors of each model's mean similarity to subjects.

    Drawing both factors at once counts the noise of single RDMs once too often; the variance of both is
    ``2 (v_stimuli + v_subjects) - v_both`` where that is between its parts and their sum (Schütt et al. 2023).

    Parameters
    ----------
    models, subjects : ndarray, (n_models, n_pairs), (n_subjects, n_pairs)
        RDMs of the same stimuli.
    compare : callable
        From two sets of RDMs to (n_models, n_subjects); it must work on any pairs.
    n_stimuli : int
        Stimuli; at least 10.
    weighted : {"pearson", "cosine"}, optional
        What `compare` is, where it is one of these: the same numbers for all draws at once (`_weighted_tables`).
    squared : bool
        Square each similarity.
    n_draws : int
        Draws.
    seed : int
        Seed of the draws.

    Raises
    ------
    InvalidValueError
        Fewer than 10 stimuli.

    References
    ----------
    Schütt, Kipnis, Diedrichsen and Kriegeskorte 2023, eLife 12.
    """
    if n_stimuli < MIN_UNITS:
        raise InvalidValueError(
            f"{n_stimuli} stimuli; a bootstrap over stimuli needs at least {MIN_UNITS}.", hint="--n-bootstraps 0"
        )
    n_subjects = len(subjects)
    rng = named_rng(seed, "bootstrap over stimuli")
    drawn = [(_draw(n_stimuli, rng), rng.integers(n_subjects, size=n_subjects)) for _ in range(n_draws)]
    if weighted is None:
        places = (pairs_of(stimuli) for stimuli, _ in drawn)
        tables: Iterable[np.ndarray] = (compare(models[:, pairs], subjects[:, pairs]) for pairs in places)
    else:
        counts = np.stack([np.bincount(stimuli, minlength=n_stimuli) for stimuli, _ in drawn]).astype(np.float64)
        tables = _weighted_tables(models, subjects, counts, centred=weighted == "pearson")
    by_stimuli = np.empty((n_draws, len(models)))
    by_both = np.empty((n_draws, len(models)))
    for draw, (table, (_, who)) in enumerate(zip(tables, drawn, strict=True)):
        similar = table**2 if squared else table
        by_stimuli[draw] = similar.mean(axis=1)
        by_both[draw] = similar[:, who].mean(axis=1)
    v_stimuli = np.nanvar(by_stimuli, axis=0, ddof=1)
    if n_subjects < 2:
        return BootstrapErrors(np.sqrt(v_stimuli), np.full(len(models), np.nan), np.sqrt(v_stimuli))
    whole = compare(models, subjects)
    v_subjects = np.var(whole**2 if squared else whole, axis=1, ddof=1) / n_subjects
    v_drawn = np.nanvar(by_both, axis=0, ddof=1)
    v_both = np.clip(2 * (v_stimuli + v_subjects) - v_drawn, np.maximum(v_stimuli, v_subjects), v_stimuli + v_subjects)
    return BootstrapErrors(np.sqrt(v_stimuli), np.sqrt(v_subjects), np.sqrt(v_both))


def _weighted_tables(models: np.ndarray, subjects: np.ndarray, counts: np.ndarray, *, centred: bool) -> np.ndarray:
    """Return the correlation, or cosine, of RDMs over the pairs of every draw, (n_draws, n_models, n_subjects).

    Where stimulus i was drawn w_i times, pair (i, j) counts w_i w_j times, so that the sum of its values over a draw is
    ``w' M w / 2`` with M the square of values: one matrix product serves all draws, and no pair is gathered.

    Parameters
    ----------
    counts : ndarray of float64, (n_draws, n_stimuli)
        How often each stimulus was drawn.
    """
    n_stimuli = counts.shape[1]
    i, j = np.triu_indices(n_stimuli, k=1)
    square = np.zeros((n_stimuli, n_stimuli))

    def sums(pairs: np.ndarray) -> np.ndarray:
        square[i, j] = square[j, i] = pairs
        total: np.ndarray = np.einsum("di,di->d", counts @ square, counts) / 2
        return total

    # About their mean, so that no digits are lost when that of a draw is taken away.
    A, B = (X - X.mean(axis=1, keepdims=True, dtype=np.float64) if centred else X for X in (models, subjects))
    n_pairs = (counts.sum(axis=1) ** 2 - np.square(counts).sum(axis=1)) / 2
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
