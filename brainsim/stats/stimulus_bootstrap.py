"""Turn RDMs of stimuli into intervals, by drawing stimuli, subjects or both anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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


def draw_pairs(n_stimuli: int, rng: np.random.Generator) -> np.ndarray:
    """Return the pairs of a draw of stimuli with replacement, as places in the upper triangle.

    A stimulus that is drawn twice makes pairs with itself, of dissimilarity 0 in every RDM: they are left out, because
    they would make unrelated RDMs alike (a true similarity of 0.02 came out at 0.90).
    """
    drawn = np.sort(rng.integers(n_stimuli, size=n_stimuli))
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
    by_stimuli = np.empty((n_draws, len(models)))
    by_both = np.empty((n_draws, len(models)))
    for draw in range(n_draws):
        pairs = draw_pairs(n_stimuli, rng)
        table = compare(models[:, pairs], subjects[:, pairs])
        by_stimuli[draw] = table.mean(axis=1)
        by_both[draw] = table[:, rng.integers(n_subjects, size=n_subjects)].mean(axis=1)
    v_stimuli = np.nanvar(by_stimuli, axis=0, ddof=1)
    if n_subjects < 2:
        return BootstrapErrors(np.sqrt(v_stimuli), np.full(len(models), np.nan), np.sqrt(v_stimuli))
    v_subjects = np.var(compare(models, subjects), axis=1, ddof=1) / n_subjects
    v_drawn = np.nanvar(by_both, axis=0, ddof=1)
    v_both = np.clip(2 * (v_stimuli + v_subjects) - v_drawn, np.maximum(v_stimuli, v_subjects), v_stimuli + v_subjects)
    return BootstrapErrors(np.sqrt(v_stimuli), np.sqrt(v_subjects), np.sqrt(v_both))
