"""Parts of explained variance: sums, brute force, and a case with a closed form."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from brainsim.core.errors import InvalidValueError
from brainsim.variance.lattice import (
    commonality_parts,
    shapley_values,
    subset_masks,
    subset_names,
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
