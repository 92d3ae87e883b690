"""Turn bands and their groups into one seeded pool of kernel mixtures that serves every subset of groups.

A candidate is a point gamma of the simplex over bands. It is drawn in two steps (hierarchical Dirichlet): the weights
of the groups (families) in its support, then the weights of the bands within each group. Its support, the groups with
weight, says in which subsets it may compete: in every one that contains it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from brainsim.core.checks import check_number
from brainsim.core.errors import InvalidValueError
from brainsim.core.seeds import named_rng

# Nine systems have 511 subsets; far beyond that a lattice is neither computed in reasonable time nor read by anyone.
MAX_GROUPS = 10

# Sparse and flat draws in turn, as in himalaya's random search: sparse ones find the few bands that matter.
DEFAULT_CONCENTRATION = (0.1, 1.0)


@dataclass(frozen=True)
class CandidatePool:
    """Kernel mixtures to try.

    Parameters
    ----------
    gammas : ndarray of float32, (n_candidates, n_bands)
        Non-negative rows that sum to 1.
    supports : ndarray of int64, (n_candidates,)
        Bit g is set where group g has weight.
    n_groups : int
        Number of groups.
    """

    gammas: np.ndarray
    supports: np.ndarray
    n_groups: int

    @property
    def n_candidates(self) -> int:
        """Number of candidates."""
        return len(self.gammas)


def _within(rng: np.random.Generator, n: int, concentration: float) -> np.ndarray:
    weights = rng.dirichlet(np.full(n, concentration)) if n > 1 else np.ones(1)
    # A Dirichlet of small concentration can underflow to 0/0: then one band takes all.
    return weights if np.isfinite(weights).all() else np.eye(n)[rng.integers(n)]


def draw_pool(
    band_groups: Sequence[int],
    *,
    n_candidates: int,
    concentration: Sequence[float] = DEFAULT_CONCENTRATION,
    seed: int = 0,
    subsets: Sequence[int] | None = None,
) -> CandidatePool:
    """Draw a pool of candidates whose supports cover the subsets.

    Parameters
    ----------
    band_groups : sequence of int
        Group (family) of each band, numbered from 0 without gaps.
    n_candidates : int
        Size of the pool; raised to the number of subsets where it is smaller, since each gets its even mixture.
    concentration : sequence of float
        Dirichlet concentrations, used in turn; small ones give sparse mixtures.
    seed : int
        Seed of the draws.
    subsets : sequence of int, optional
        Bit masks of the supports to draw; all non-empty ones by default.

    Returns
    -------
    CandidatePool
        The even mixture of each subset first, then the vertices (single bands), then random mixtures; larger subsets
        get more of them, in proportion to the dimension of their simplex.
    """
    groups = np.asarray(band_groups)
    n_groups = int(groups.max()) + 1
    if sorted(set(groups.tolist())) != list(range(n_groups)):
        raise InvalidValueError(
            f"groups are numbered {sorted(set(groups.tolist()))}; they must be 0 to {n_groups - 1}."
        )
    if subsets is None and n_groups > MAX_GROUPS:
        raise InvalidValueError(
            f"{n_groups} families have {2**n_groups - 1:,} subsets; at most {MAX_GROUPS} families can be partitioned.",
            hint="merge families with --family NAME=GLOB,GLOB",
        )
    for value in concentration:
        check_number("concentration", value, above=0)
    masks = list(range(1, 2**n_groups)) if subsets is None else list(subsets)
    members = {mask: [np.flatnonzero(groups == g) for g in range(n_groups) if mask >> g & 1] for mask in masks}
    rng = named_rng(seed, "candidates")

    rows: list[np.ndarray] = []

    def mix(mask: int, family_weights: np.ndarray, inner: Sequence[np.ndarray]) -> None:
        gamma = np.zeros(len(groups))
        for weight, bands, share in zip(family_weights, members[mask], inner, strict=True):
            gamma[bands] = weight * share
        rows.append(gamma)

    for mask in masks:
        parts = members[mask]
        mix(mask, np.full(len(parts), 1 / len(parts)), [np.full(len(b), 1 / len(b)) for b in parts])
    for band, group in enumerate(groups):
        if (1 << int(group)) in members and (groups == group).sum() > 1:
            rows.append(np.eye(len(groups))[band])
    dimension = np.array([sum(len(b) for b in members[mask]) - 1 for mask in masks], dtype=float)
    if dimension.sum() > 0:
        # Largest remainders, so that the same call always gives each subset the same number.
        share = dimension / dimension.sum() * max(n_candidates - len(rows), 0)
        counts = np.floor(share).astype(int)
        counts[np.argsort(counts - share, kind="stable")[: max(n_candidates - len(rows), 0) - counts.sum()]] += 1
        for mask, count in zip(masks, counts, strict=True):
            for draw in range(count):
                level = concentration[draw % len(concentration)]
                # Families are mixed flatly: a family with a vanishing weight would be another subset's candidate.
                family_weights = rng.dirichlet(np.ones(len(members[mask])))
                mix(mask, family_weights, [_within(rng, len(b), level) for b in members[mask]])
    gammas = np.asarray(rows)
    in_group = np.stack([gammas[:, groups == g].sum(axis=1) > 0 for g in range(n_groups)], axis=1)
    supports = (in_group * (1 << np.arange(n_groups))).sum(axis=1).astype(np.int64)
    return CandidatePool(gammas.astype(np.float32), supports, n_groups)
