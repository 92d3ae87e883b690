"""Turn bands and their groups into one seeded pool of kernel mixtures that serves every subset of groups.

A candidate is a point gamma of the simplex over bands: the weights of the groups (families) times the weights of the
bands within each group. Its support, the groups with weight, says in which subsets it may compete: in every one that
contains it.

Subsets are compared with one another, so their pools must be equally good, or the difference of two scores is the
difference of two searches. Group weights therefore come from a lattice first: patterns of 0, 1 and STRONG, those of
few groups before those of more. Setting a weight of such a pattern to 0 gives a pattern of fewer groups, so whatever
wins in a subset, its shadow on each smaller subset is in the pool too, also where the pool ends in the midst of a
size. (On planted data, with 100 flat Dirichlet draws a family without any unique variance came out at up to +0.06 R2;
with the 211 patterns of five families at 0.002 or less. Of seven families with 2,059 patterns, the 379 that are even or
of at most three families gave unique parts within 0.0035 R2 of those of all patterns, target by target, root mean
square; 727 drawn by chance within 0.0075. Of nine families with as many candidates, 1,279, patterns drawn by chance
gave what the 511 even mixtures give, a planted 0.05 as 0.020 to 0.046; these give 0.033 to 0.053, as do twice as many.)
Dirichlet draws follow, as in himalaya.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import ceil, comb

import numpy as np

from brainsim.core.checks import check_number
from brainsim.core.errors import InvalidValueError
from brainsim.core.seeds import named_rng

# Nine systems have 511 subsets; far beyond that a lattice is neither computed in reasonable time nor read by anyone.
MAX_SUBSETS = 1023

# A strong group weighs this many times a weak one. R2 is flat in gamma: a factor of 2 off costs little, and patterns of
# 1 and 5 leave no ratio up to 10 further off than that.
STRONG = 5.0

# Of what even mixtures and single bands leave of a pool, patterns get at most this share, random mixtures the rest.
PATTERN_SHARE = 0.75

# How many patterns a pool has by default: those of up to three groups, which is what a target's model usually needs,
# where these are not more than the second number (ten groups); those of more groups too, where all of them together
# are not more than the first.
FEW_PATTERNS, MANY_PATTERNS = 200, 1000

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
    allowed : ndarray of bool, (n_candidates, n_folds), optional
        Folds in which each candidate may compete; all by default.
    """

    gammas: np.ndarray
    supports: np.ndarray
    n_groups: int
    allowed: np.ndarray | None = None

    @property
    def n_candidates(self) -> int:
        """Number of candidates."""
        return len(self.gammas)


def single_bands(n_bands: int) -> CandidatePool:
    """Return a pool of single bands, each with a support of its own: nobody competes, every band gets its score."""
    return CandidatePool(np.eye(n_bands, dtype=np.float32), np.arange(n_bands, dtype=np.int64), 1)


def _within(rng: np.random.Generator, n: int, concentration: float) -> np.ndarray:
    weights = rng.dirichlet(np.full(n, concentration)) if n > 1 else np.ones(1)
    # A Dirichlet of small concentration can underflow to 0/0: then one band takes all.
    return weights if np.isfinite(weights).all() else np.eye(n)[rng.integers(n)]


def default_pool_size(n_groups: int, n_bands: int, masks: Sequence[int]) -> int:
    """Return how many candidates give a plan of subsets of two groups or more unbiased parts at the least cost.

    Parameters
    ----------
    n_groups, n_bands : int
        Families and bands.
    masks : sequence of int
        Subsets planned, as bit masks.

    Returns
    -------
    int
        Even mixtures, single bands, the patterns of few groups, and a third of their number of random mixtures: 280 for
        all subsets of 5 families with 9 bands, 1,387 for all subsets of 9 with 108, 1,058 for leave-one-out of these.
    """
    n_vertices = n_bands if n_bands > n_groups else 0
    n_patterns = 0
    for size in range(1, n_groups + 1):
        more = n_patterns + _n_patterns(size, n_groups, masks)
        if more > (FEW_PATTERNS if size > 3 else MANY_PATTERNS) and size > 2:
            break
        n_patterns = more
    return len(masks) + n_vertices + ceil(n_patterns / PATTERN_SHARE)


def draw_pool(
    band_groups: Sequence[int],
    *,
    n_candidates: int,
    concentration: Sequence[float] = DEFAULT_CONCENTRATION,
    seed: int = 0,
    subsets: Sequence[int] | None = None,
) -> CandidatePool:
    """Draw a pool of candidates whose supports lie inside the subsets.

    Parameters
    ----------
    band_groups : sequence of int
        Group (family) of each band, numbered from 0 without gaps.
    n_candidates : int
        Size of the pool. Even mixtures and single bands are always in it, also where that makes more; one band alone
        makes one candidate.
    concentration : sequence of float
        Dirichlet concentrations of the bands within a group, used in turn; small ones give sparse mixtures.
    seed : int
        Seed of the draws.
    subsets : sequence of int, optional
        Bit masks of the subsets that will be compared; all non-empty ones by default. Smaller supports inside them are
        drawn too, so that a target can do without the groups that are of no use to it.

    Returns
    -------
    CandidatePool
        In this order, until there are `n_candidates`: the even mixture of each subset; the vertices (single bands);
        patterns of weak and strong groups with even bands, smallest supports first (as many of the last size as there
        is room for, by chance); random mixtures, hierarchically: flat group weights times band weights of the
        concentrations, more for larger supports.
    """
    groups = np.asarray(band_groups)
    n_groups = int(groups.max()) + 1
    if sorted(set(groups.tolist())) != list(range(n_groups)):
        raise InvalidValueError(
            f"groups are numbered {sorted(set(groups.tolist()))}; they must be 0 to {n_groups - 1}."
        )
    n_subsets = 2**n_groups - 1 if subsets is None else len(subsets)
    if n_subsets > MAX_SUBSETS:
        raise InvalidValueError(
            f"{n_groups} families with {n_subsets:,} subsets; at most {MAX_SUBSETS:,} can be scored.",
            hint="merge families with --family NAME=GLOB,GLOB, or choose --subsets leave-one-out",
        )
    for value in concentration:
        check_number("concentration", value, above=0)
    masks = list(range(1, 2**n_groups)) if subsets is None else list(subsets)
    bands = [np.flatnonzero(groups == g) for g in range(n_groups)]
    rng = named_rng(seed, "candidates")

    rows: list[np.ndarray] = []
    supports: list[int] = []

    def mix(support: int, group_weights: np.ndarray, inner: Sequence[np.ndarray] | None = None) -> None:
        gamma = np.zeros(len(groups))
        for index, g in enumerate(_members(support)):
            gamma[bands[g]] = group_weights[index] * (1 / len(bands[g]) if inner is None else inner[index])
        rows.append(gamma / gamma.sum())
        supports.append(support)

    for mask in masks:
        mix(mask, np.ones(mask.bit_count()))
    for band, group in enumerate(groups.tolist()):
        if len(bands[group]) > 1 and any(mask >> group & 1 for mask in masks):
            rows.append(np.eye(len(groups))[band])
            supports.append(1 << group)
    room = n_candidates - len(rows)
    for support, strong in _patterns(masks, n_groups, int(PATTERN_SHARE * room), rng):
        mix(support, np.array([STRONG if strong >> g & 1 else 1.0 for g in _members(support)]))
    drawn = sorted(set(supports), key=lambda support: (support.bit_count(), support))
    sizes = [sum(len(bands[g]) for g in _members(support)) for support in drawn]
    for draw, support in enumerate(_share_out(drawn, sizes, n_candidates - len(rows))):
        level = concentration[draw % len(concentration)]
        # Groups are mixed flatly: one with a vanishing weight would be another support's candidate.
        group_weights = rng.dirichlet(np.ones(support.bit_count()))
        mix(support, group_weights, [_within(rng, len(bands[g]), level) for g in _members(support)])
    return CandidatePool(np.asarray(rows, dtype=np.float32), np.asarray(supports, dtype=np.int64), n_groups)


def _members(mask: int) -> list[int]:
    return [g for g in range(mask.bit_length()) if mask >> g & 1]


def _supports(size: int, n_groups: int, masks: Sequence[int]) -> Iterator[int]:
    """Yield the supports of one size that lie inside some subset."""
    is_whole = (1 << n_groups) - 1 in masks
    for members in combinations(range(n_groups), size):
        support = sum(1 << g for g in members)
        if is_whole or any(support & mask == support for mask in masks):
            yield support


def _n_patterns(size: int, n_groups: int, masks: Sequence[int]) -> int:
    """Return at most how many patterns of one size there are: weak and strong, not all strong, the planned even not."""
    planned = sum(mask.bit_count() == size for mask in masks)
    n_strong = (1 << size) - 1
    return comb(n_groups, size) * n_strong - planned


def _patterns(masks: Sequence[int], n_groups: int, n: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Return up to `n` pairs (support, its strong members), smallest supports first, the last size by chance."""
    planned = set(masks)
    chosen: list[tuple[int, int]] = []
    for size in range(1, n_groups + 1):
        room = n - len(chosen)
        if room <= 0:
            break
        supports = list(_supports(size, n_groups, masks))
        starts = np.cumsum([0, *(2**size - 1 - (support in planned) for support in supports)])
        n_there = int(starts[-1])
        picks = np.arange(n_there) if n_there <= room else np.sort(rng.choice(n_there, size=room, replace=False))
        at = np.searchsorted(starts, picks, side="right") - 1
        for place, offset in zip(at.tolist(), (picks - starts[at]).tolist(), strict=True):
            support = supports[place]
            chosen.append((support, _spread_bits(offset + (support in planned), support)))
    return chosen


def _spread_bits(bits: int, mask: int) -> int:
    """Return the members of a mask that a smaller number picks out, bit by bit; none of them is the even mixture."""
    return sum(1 << g for index, g in enumerate(_members(mask)) if bits >> index & 1)


def _share_out(supports: Sequence[int], sizes: Sequence[int], n: int) -> list[int]:
    """Return `n` supports, each in proportion to the dimension of its simplex (largest remainders)."""
    dimension = np.array(sizes, dtype=float) - 1
    if n <= 0 or dimension.sum() == 0:
        return []
    share = dimension / dimension.sum() * n
    counts = np.floor(share).astype(int)
    counts[np.argsort(counts - share, kind="stable")[: n - counts.sum()]] += 1
    return [support for support, count in zip(supports, counts, strict=True) for _ in range(count)]
