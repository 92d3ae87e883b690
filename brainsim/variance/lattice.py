"""Turn scores of subsets of families into what each explains alone, what they share, and fair shares.

Subsets are bit masks: bit g is set where family g is in the subset. Scores are arrays (n_subsets, ...) in the order of
a `SubsetPlan`; the empty subset explains nothing. Not every plan allows every quantity: the plan says which, and what
it does not allow is an error, never a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import comb

import numpy as np

from brainsim.core.errors import InvalidValueError

SPECS = ("all", "leave-one-out", "singles", "max-order=K")

# Ten families have 1,023 subsets; far beyond that they are neither computed in reasonable time nor read by anyone.
MAX_SUBSETS = 1023

# Values are made float64 for so many targets at once: 511 subsets of them take 32 MiB.
BLOCK = 8192


def subset_masks(n_families: int, *, sizes: Sequence[int] | None = None) -> list[int]:
    """Return subsets as bit masks: small ones first, then in the order of the families.

    Parameters
    ----------
    n_families : int
        Number of families.
    sizes : sequence of int, optional
        Sizes of the subsets, increasing; all but the empty one by default.
    """
    return [
        sum(1 << g for g in members)
        for size in (range(1, n_families + 1) if sizes is None else sizes)
        for members in combinations(range(n_families), size)
    ]


def mask_members(mask: int) -> tuple[int, ...]:
    """Return the families of a subset."""
    return tuple(g for g in range(mask.bit_length()) if mask >> g & 1)


def subset_names(families: Sequence[str], masks: Sequence[int] | None = None) -> list[list[str]]:
    """Return the families of each subset by name; of all subsets in the order of `subset_masks` by default."""
    masks = subset_masks(len(families)) if masks is None else masks
    return [[families[g] for g in mask_members(mask)] for mask in masks]


@dataclass(frozen=True)
class SubsetPlan:
    """The subsets of families whose joint score is wanted, and what follows from them.

    Parameters
    ----------
    n_families : int
        Number of families, m.
    spec : str
        What was asked for.
    masks : tuple of int
        The subsets: small ones first, then in the order of the families; all families together come last.
    """

    n_families: int
    spec: str
    masks: tuple[int, ...]

    @property
    def full(self) -> int:
        """The subset of all families."""
        return (1 << self.n_families) - 1

    @property
    def is_complete(self) -> bool:
        """Whether every non-empty subset is there, as Shapley values need."""
        return len(self.masks) == self.full

    @cached_property
    def max_order(self) -> int:
        """The largest K such that every subset that leaves out at most K families is there: parts up to it follow."""
        known = {0, *self.masks}
        for order in range(1, self.n_families + 1):
            if any(self.full & ~lost not in known for lost in subset_masks(self.n_families, sizes=[order])):
                return order - 1
        return self.n_families

    @property
    def has_unique(self) -> bool:
        """Whether unique parts follow."""
        return self.max_order >= 1

    @cached_property
    def part_masks(self) -> tuple[int, ...]:
        """The subsets whose part follows: those of at most `max_order` families, ordered as subsets are."""
        return tuple(subset_masks(self.n_families, sizes=range(1, self.max_order + 1)))

    def row(self, mask: int) -> int:
        """Return which row of the scores holds a subset."""
        if mask not in self._rows:
            raise InvalidValueError(
                f"subset {mask:b} is not among the {len(self.masks)} subsets of plan {self.spec!r}."
            )
        return self._rows[mask]

    @cached_property
    def _rows(self) -> dict[int, int]:
        return {mask: row for row, mask in enumerate(self.masks)}


def subset_plan(n_families: int, spec: str = "all") -> SubsetPlan:
    """Return the subsets that a word asks for.

    Parameters
    ----------
    n_families : int
        Number of families, at least 1.
    spec : {"all", "leave-one-out", "singles", "max-order=K"}
        All subsets; the joint and each subset that lacks one family (unique parts follow); each family alone and the
        joint; the joint and all subsets that lack at most K families (parts that at most K families share follow).

    Raises
    ------
    InvalidValueError
        Another word, a K below 1, more subsets than anyone can read.
    """
    if n_families < 1:
        raise InvalidValueError(f"{n_families} families; a plan of subsets needs at least 1.")
    if spec == "singles":
        sizes = sorted({1, n_families})
    else:
        sizes = [size for size in range(n_families - _order_of(spec, n_families), n_families + 1) if size > 0]
    n_subsets = sum(comb(n_families, size) for size in sizes)
    if n_subsets > MAX_SUBSETS:
        raise InvalidValueError(
            f"{n_families} families have {n_subsets:,} subsets with {spec!r}; at most {MAX_SUBSETS:,} can be scored.",
            hint="merge families with --family NAME=GLOB,GLOB, or choose --subsets leave-one-out",
        )
    return SubsetPlan(n_families, spec, tuple(subset_masks(n_families, sizes=sizes)))


def _order_of(spec: str, n_families: int) -> int:
    """Return how many families the subsets of a plan may lack."""
    if spec == "all":
        return n_families
    if spec == "leave-one-out":
        return 1
    word, _, order = spec.partition("=")
    if word != "max-order" or not order.isdecimal() or int(order) < 1:
        raise InvalidValueError(f"subsets are {spec!r}; they must be one of {', '.join(SPECS)}, with K of at least 1.")
    return int(order)


def plan_of_all(scores: np.ndarray) -> SubsetPlan:
    """Return the plan of all subsets that has as many rows as these scores."""
    n_families = (len(scores) + 1).bit_length() - 1
    if len(scores) != 2**n_families - 1 or n_families < 1:
        raise InvalidValueError(
            f"{len(scores)} subset scores; all subsets of m families are 2^m - 1 (1, 3, 7, 15, 31, …)."
        )
    return SubsetPlan(n_families, "all", tuple(subset_masks(n_families)))


def unique_parts(scores: np.ndarray, plan: SubsetPlan | None = None) -> np.ndarray:
    """Return what is lost without each family: ``R2(all) - R2(all but f)``.

    Parameters
    ----------
    scores : ndarray, (n_subsets, ...)
        Score of each subset of the plan.
    plan : SubsetPlan, optional
        All subsets by default.

    Returns
    -------
    ndarray of float64, (m, ...)

    Raises
    ------
    InvalidValueError
        The plan lacks the joint without some family.
    """
    plan = _checked(scores, plan)
    if not plan.has_unique:
        raise InvalidValueError(
            f"unique parts need all families together and without each one; subsets are {plan.spec!r}.",
            hint="choose --subsets leave-one-out, max-order=K or all",
        )
    joint = np.asarray(scores[plan.row(plan.full)], dtype=np.float64)
    values = np.empty((plan.n_families, *scores.shape[1:]))
    for g in range(plan.n_families):
        rest = plan.full & ~(1 << g)
        values[g] = joint - scores[plan.row(rest)] if rest else joint
    return values


def alone_scores(scores: np.ndarray, plan: SubsetPlan) -> np.ndarray | None:
    """Return the score of each family alone, (n_families, ...); None where those subsets were not scored."""
    singles = [1 << family for family in range(plan.n_families)]
    return np.stack([scores[plan.row(mask)] for mask in singles]) if set(singles) <= set(plan.masks) else None


def commonality_parts(scores: np.ndarray, plan: SubsetPlan | None = None) -> np.ndarray:
    """Return the part that belongs to exactly the families of a subset and to no other.

    What is lost without a set S, ``v(all) - v(all without S)``, is the sum of the parts of the subsets that lie inside
    S; the parts are that relation's Moebius inverse,
    ``part(S) = sum over T in S of (-1)^(|T| + 1) v(all without S, and T)``. So the parts of at most K families need the
    subsets that lack at most K. All parts sum to the joint score; a part of one family is its unique part; a part of
    several can be negative (suppression). Source: Mood 1971, commonality analysis.

    Parameters
    ----------
    scores : ndarray, (n_subsets, ...)
        Score of each subset of the plan.
    plan : SubsetPlan, optional
        All subsets by default.

    Returns
    -------
    ndarray of float64, (n_parts, ...)
        In the order of ``plan.part_masks``: every part that follows; all of them where the plan is complete.

    Raises
    ------
    InvalidValueError
        The plan allows not even the parts of single families.
    """
    plan = _checked(scores, plan)
    if not plan.part_masks:
        raise InvalidValueError(
            f"shared parts need all families together and without each one; subsets are {plan.spec!r}.",
            hint="choose --subsets max-order=K or all",
        )
    # Sets lost, ordered by size: dropping a member of one gives an earlier one.
    place = {mask: row for row, mask in enumerate(plan.part_masks)}
    steps = []
    for g in range(plan.n_families):
        pairs = [(place[mask], place[mask & ~(1 << g)]) for mask in place if mask >> g & 1 and mask != 1 << g]
        if pairs:  # without any family nothing is lost: single families stay as they are
            steps.append(np.asarray(pairs).T)
    rest = [plan.full & ~mask for mask in plan.part_masks]
    kept = [row for row, mask in enumerate(rest) if mask]
    sources = [plan.row(rest[row]) for row in kept]
    joint = plan.row(plan.full)

    def invert(values: np.ndarray) -> np.ndarray:
        parts = np.repeat(values[[joint]], len(rest), axis=0)
        parts[kept] -= values[sources]
        for with_g, without_g in steps:
            parts[with_g] -= parts[without_g]
        return parts

    return _by_blocks(scores, len(rest), invert)


def shapley_values(scores: np.ndarray, plan: SubsetPlan | None = None) -> np.ndarray:
    """Return each family's mean gain over all orders in which families can enter; they sum to the joint score.

    Source: Shapley 1953; Lindeman, Merenda and Gold 1980 for R2.

    Parameters
    ----------
    scores : ndarray, (2^m - 1, ...)
        Score of each non-empty subset.
    plan : SubsetPlan, optional
        All subsets, the only plan that allows it.

    Returns
    -------
    ndarray of float64, (m, ...)

    Raises
    ------
    InvalidValueError
        Subsets are missing.
    """
    plan = _checked(scores, plan)
    if not plan.is_complete:
        raise InvalidValueError(
            f"Shapley values need all {plan.full:,} subsets; subsets are {plan.spec!r}, {len(plan.masks):,} of them.",
            hint="choose --subsets all",
        )
    # A subset of size s counts for each of its members as often as orders begin with the others, 1 / (m C(m-1, s-1)),
    # and against every other family as often as orders begin with it, 1 / (m C(m-1, s)).
    m = plan.n_families
    masks = np.asarray(plan.masks)
    size = np.array([mask.bit_count() for mask in plan.masks])
    gain = np.array([1 / (m * comb(m - 1, s - 1)) for s in size])
    cost = np.array([1 / (m * comb(m - 1, s)) if s < m else 0.0 for s in size])
    weights = np.stack([np.where(masks >> g & 1, gain, -cost) for g in range(m)])  # (m, n_subsets)
    return _by_blocks(scores, m, lambda values: weights @ values)


def _checked(scores: np.ndarray, plan: SubsetPlan | None) -> SubsetPlan:
    if plan is None:
        return plan_of_all(scores)
    if len(scores) != len(plan.masks):
        raise InvalidValueError(
            f"{len(scores)} subset scores; plan {plan.spec!r} of {plan.n_families} families has {len(plan.masks)}."
        )
    return plan


def _by_blocks(scores: np.ndarray, n_out: int, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Apply a function of (n_subsets, n) float64 to blocks of all further axes, (n_out, ...)."""
    flat = scores.reshape(len(scores), -1)
    values = np.empty((n_out, flat.shape[1]))
    for block in _blocks(flat.shape[1]):
        values[:, block] = function(np.asarray(flat[:, block], dtype=np.float64))
    return values.reshape(n_out, *scores.shape[1:])


def _blocks(n: int) -> Iterator[slice]:
    for start in range(0, n, BLOCK):
        yield slice(start, start + BLOCK)
