"""Turn the score of every subset of families into what each explains alone, what they share, and fair shares.

Subsets are bit masks: bit g is set where family g is in the subset. Scores are arrays (n_subsets, ...) over the
non-empty subsets in the order of `subset_masks`; the empty subset explains nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import factorial

import numpy as np

from brainsim.core.errors import InvalidValueError


def subset_masks(n_families: int) -> list[int]:
    """Return all non-empty subsets as bit masks: small ones first, then in the order of the families."""
    return [
        sum(1 << g for g in members)
        for size in range(1, n_families + 1)
        for members in combinations(range(n_families), size)
    ]


def mask_members(mask: int) -> tuple[int, ...]:
    """Return the families of a subset."""
    return tuple(g for g in range(mask.bit_length()) if mask >> g & 1)


def subset_names(families: Sequence[str]) -> list[list[str]]:
    """Return the families of each subset by name, in the order of `subset_masks`."""
    return [[families[g] for g in mask_members(mask)] for mask in subset_masks(len(families))]


def _indexed(scores: np.ndarray) -> np.ndarray:
    """Return scores indexed by mask, the empty subset first, in float64."""
    n_families = (len(scores) + 1).bit_length() - 1
    if len(scores) != 2**n_families - 1 or n_families < 1:
        raise InvalidValueError(
            f"{len(scores)} subset scores; all subsets of m families are 2^m - 1 (1, 3, 7, 15, 31, …)."
        )
    by_mask = np.zeros((2**n_families, *scores.shape[1:]))
    by_mask[subset_masks(n_families)] = scores
    return by_mask


def unique_parts(scores: np.ndarray) -> np.ndarray:
    """Return what is lost without each family: ``R2(all) - R2(all but f)``.

    Parameters
    ----------
    scores : ndarray, (2^m - 1, ...)
        Score of each non-empty subset, in the order of `subset_masks`.

    Returns
    -------
    ndarray of float64, (m, ...)
    """
    by_mask = _indexed(scores)
    full = len(by_mask) - 1
    return np.stack([by_mask[full] - by_mask[full & ~(1 << g)] for g in range(full.bit_length())])


def commonality_parts(scores: np.ndarray) -> np.ndarray:
    """Return the part that belongs to exactly the families of each subset and to no other.

    What is lost without a set S, ``v(all) - v(all without S)``, is the sum of the parts of the subsets that lie inside
    S; the parts are that relation's Moebius inverse. They sum to the joint score; a part of one family is its unique
    part; a part of several can be negative (suppression). Source: Mood 1971, commonality analysis.

    Parameters
    ----------
    scores : ndarray, (2^m - 1, ...)
        Score of each non-empty subset.

    Returns
    -------
    ndarray of float64, (2^m - 1, ...)
    """
    by_mask = _indexed(scores)
    full = len(by_mask) - 1
    # lost[S]: what is lost without S. It is the sum of the parts of all subsets that lie inside S.
    parts = by_mask[full] - by_mask[full & ~np.arange(full + 1)]
    for g in range(full.bit_length()):
        with_g = np.flatnonzero(np.arange(full + 1) >> g & 1)
        parts[with_g] -= parts[with_g & ~(1 << g)]
    ordered: np.ndarray = parts[subset_masks(full.bit_length())]
    return ordered


def shapley_values(scores: np.ndarray) -> np.ndarray:
    """Return each family's mean gain over all orders in which families can enter; they sum to the joint score.

    Source: Shapley 1953; Lindeman, Merenda and Gold 1980 for R2.

    Parameters
    ----------
    scores : ndarray, (2^m - 1, ...)
        Score of each non-empty subset.

    Returns
    -------
    ndarray of float64, (m, ...)
    """
    by_mask = _indexed(scores)
    m = (len(by_mask) - 1).bit_length()
    values = np.zeros((m, *by_mask.shape[1:]))
    for g in range(m):
        for mask in range(len(by_mask)):
            if mask >> g & 1:
                continue
            size = mask.bit_count()
            weight = factorial(size) * factorial(m - size - 1) / factorial(m)
            values[g] += weight * (by_mask[mask | 1 << g] - by_mask[mask])
    return values
