"""Parts of explained variance: sums, brute force, and a case with a closed form."""

from __future__ import annotations

from itertools import permutations
from math import comb

import numpy as np
import pytest

from brainsim.core.errors import InvalidValueError
from brainsim.variance import lattice
from brainsim.variance.lattice import (
    SubsetPlan,
    commonality_parts,
    mask_members,
    shapley_values,
    subset_masks,
    subset_names,
    subset_plan,
    unique_parts,
)


@pytest.fixture
def scores() -> np.ndarray:
    return np.random.default_rng(0).random((15, 6))


def test_subsets_are_ordered_by_size_then_family() -> None:
    assert subset_names("abc") == [["a"], ["b"], ["c"], ["a", "b"], ["a", "c"], ["b", "c"], ["a", "b", "c"]]


def test_parts_sum_to_every_subset(scores: np.ndarray) -> None:
    """The score of a subset is the sum of all parts that any of its families has a share in."""
    parts = commonality_parts(scores)
    masks = subset_masks(4)
    for row, mask in enumerate(masks):
        touching = [i for i, other in enumerate(masks) if other & mask]
        np.testing.assert_allclose(parts[touching].sum(axis=0), scores[row], atol=1e-12)


def test_unique_parts_are_the_parts_of_one_family(scores: np.ndarray) -> None:
    np.testing.assert_allclose(unique_parts(scores), commonality_parts(scores)[:4], atol=1e-12)


def test_shapley_values_are_the_mean_gain_over_all_orders(scores: np.ndarray) -> None:
    row = {mask: i for i, mask in enumerate(subset_masks(4))}
    expected = np.zeros((4, 6))
    for order in permutations(range(4)):
        mask, before = 0, np.zeros(6)
        for family in order:
            mask |= 1 << family
            expected[family] += (scores[row[mask]] - before) / 24
            before = scores[row[mask]]
    np.testing.assert_allclose(shapley_values(scores), expected, atol=1e-12)
    np.testing.assert_allclose(expected.sum(axis=0), scores[-1], atol=1e-12)


def test_closed_form_of_two_families_that_share_a_signal() -> None:
    """y = a + b + s + noise; family 1 holds (a, s), family 2 (b, s): unique 0.2 and 0.1, shared 0.3."""
    scores = np.array([[0.2 + 0.3], [0.1 + 0.3], [0.2 + 0.1 + 0.3]])
    np.testing.assert_allclose(commonality_parts(scores)[:, 0], [0.2, 0.1, 0.3])
    np.testing.assert_allclose(shapley_values(scores)[:, 0], [0.35, 0.25])


def test_an_incomplete_lattice_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="5 subset scores"):
        unique_parts(np.zeros((5, 2)))


def scores_of(plan: SubsetPlan, scores: np.ndarray) -> np.ndarray:
    """Return the rows of a plan out of the scores of all subsets."""
    row = {mask: i for i, mask in enumerate(subset_masks(plan.n_families))}
    return scores[[row[mask] for mask in plan.masks]]


@pytest.mark.parametrize(
    ("n_families", "spec", "n_subsets", "max_order"),
    [
        (5, "all", 31, 5),
        (9, "all", 511, 9),
        (9, "leave-one-out", 10, 1),
        (9, "singles", 10, 0),
        (9, "max-order=1", 10, 1),
        (9, "max-order=3", 1 + 9 + 36 + 84, 3),
        (20, "leave-one-out", 21, 1),
        (4, "max-order=3", 15, 4),
        (4, "max-order=7", 15, 4),
        (2, "singles", 3, 2),
        (3, "singles", 4, 0),
        (1, "singles", 1, 1),
        (1, "leave-one-out", 1, 1),
    ],
)
def test_plans_hold_what_their_words_say(n_families: int, spec: str, n_subsets: int, max_order: int) -> None:
    plan = subset_plan(n_families, spec)
    assert len(plan.masks) == n_subsets
    assert plan.max_order == max_order
    assert plan.masks[-1] == plan.full
    assert list(plan.masks) == sorted(set(plan.masks), key=lambda mask: (mask.bit_count(), mask_members(mask)))
    assert plan.has_unique == (max_order > 0)
    assert len(plan.part_masks) == sum(comb(n_families, k) for k in range(1, max_order + 1))


@pytest.mark.parametrize("spec", ["everything", "max-order", "max-order=0", "max-order=x", "max-order=-1", ""])
def test_other_words_are_refused(spec: str) -> None:
    with pytest.raises(InvalidValueError, match="leave-one-out"):
        subset_plan(4, spec)


def test_more_subsets_than_can_be_read_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="11 families have 2,047 subsets"):
        subset_plan(11)
    with pytest.raises(InvalidValueError, match="0 families"):
        subset_plan(0)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_parts_of_few_families_follow_from_the_subsets_that_lack_few(order: int) -> None:
    """As the complete inversion gives them, and as the alternating sum over subsets does."""
    scores = np.random.default_rng(1).random((63, 2, 3)).astype(np.float32)
    plan = subset_plan(6, f"max-order={order}")
    parts = commonality_parts(scores_of(plan, scores), plan)
    complete = commonality_parts(scores)
    row = {mask: i for i, mask in enumerate(subset_masks(6))}
    np.testing.assert_allclose(parts, complete[[row[mask] for mask in plan.part_masks]], atol=1e-12)
    np.testing.assert_allclose(parts[:6], unique_parts(scores_of(plan, scores), plan), atol=1e-12)
    for part, mask in zip(parts, plan.part_masks, strict=True):
        expected = np.zeros((2, 3))
        for inside in range(64):
            kept = plan.full & ~mask | inside
            if inside & mask == inside and kept:
                expected += (-1) ** (inside.bit_count() + 1) * scores[row[kept]].astype(np.float64)
        np.testing.assert_allclose(part, expected, atol=1e-12)


def test_two_singles_and_their_joint_are_all_there_is(scores: np.ndarray) -> None:
    plan = subset_plan(2, "singles")
    np.testing.assert_array_equal(shapley_values(scores[:3], plan), shapley_values(scores[:3]))


def test_one_family_explains_what_it_explains() -> None:
    scores = np.array([[0.3, -0.1]])
    for function in (unique_parts, commonality_parts, shapley_values):
        np.testing.assert_array_equal(function(scores), scores)


def test_what_a_plan_does_not_allow_is_refused() -> None:
    singles, few = subset_plan(4, "singles"), subset_plan(4, "max-order=2")
    with pytest.raises(InvalidValueError, match="unique parts need"):
        unique_parts(np.zeros((5, 1)), singles)
    with pytest.raises(InvalidValueError, match="shared parts need"):
        commonality_parts(np.zeros((5, 1)), singles)
    with pytest.raises(InvalidValueError, match="all 15 subsets; subsets are 'max-order=2', 11"):
        shapley_values(np.zeros((11, 1)), few)
    with pytest.raises(InvalidValueError, match="plan 'max-order=2' of 4 families has 11"):
        unique_parts(np.zeros((15, 1)), few)
    with pytest.raises(InvalidValueError, match="subset 1 is not"):
        few.row(1)


def test_blocks_of_targets_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.random.default_rng(2).random((31, 23)).astype(np.float32)
    functions = (unique_parts, commonality_parts, shapley_values)
    whole = [function(scores) for function in functions]
    monkeypatch.setattr(lattice, "BLOCK", 5)
    for function, expected in zip(functions, whole, strict=True):
        np.testing.assert_allclose(function(scores), expected, atol=1e-15)
