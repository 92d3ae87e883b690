"""The pool of candidates: on the simplex, seeded, covering every subset, closed under dropping a family."""

from __future__ import annotations

import numpy as np
import pytest

from brainsim.core.errors import InvalidValueError
from brainsim.encoding.candidates import CandidatePool, default_pool_size, draw_pool, single_bands
from brainsim.variance.lattice import subset_plan


@pytest.mark.parametrize(("groups", "n"), [([0, 1], 5), ([0, 0, 1, 1, 2], 60), (list(range(5)), 211), ([0] * 6, 40)])
def test_pool_lies_on_the_simplex_and_covers_every_subset(groups: list[int], n: int) -> None:
    pool = draw_pool(groups, n_candidates=n)
    assert pool.n_candidates >= min(n, 5)
    np.testing.assert_allclose(pool.gammas.sum(axis=1), 1, atol=1e-6)
    assert pool.gammas.min() >= 0
    n_groups = max(groups) + 1
    assert set(pool.supports.tolist()) == set(range(1, 2**n_groups))
    for gamma, support in zip(pool.gammas, pool.supports, strict=True):
        used = {groups[band] for band in np.flatnonzero(gamma)}
        assert used == {g for g in range(n_groups) if support >> g & 1}


def rows_of(pool: CandidatePool) -> set[tuple[float, ...]]:
    return {tuple(np.round(gamma.astype(float), 5)) for gamma in pool.gammas}


@pytest.mark.parametrize(("n_groups", "n", "spec"), [(4, 300, "all"), (7, 400, "all"), (7, 250, "leave-one-out")])
def test_dropping_a_family_from_a_pattern_gives_another_pattern(n_groups: int, n: int, spec: str) -> None:
    """Also where the pool ends in the midst of the patterns; but for the even mixtures of planned subsets."""
    masks = subset_plan(n_groups, spec).masks
    pool = draw_pool(range(n_groups), n_candidates=n, subsets=masks)
    there = rows_of(pool)
    is_pattern = [len(set(np.round(g[g > 0] / g[g > 0].min(), 3)) - {1.0, 5.0}) == 0 for g in pool.gammas]
    for gamma in pool.gammas[np.array(is_pattern)]:
        if spec != "all" and (gamma > 0).sum() >= n_groups - 1:
            continue
        for band in np.flatnonzero(gamma):
            rest = gamma.astype(float)
            rest[band] = 0
            if rest.sum() > 0:
                assert tuple(np.round(rest / rest.sum(), 5)) in there


def test_a_pool_of_all_patterns_has_each_once() -> None:
    pool = draw_pool(range(4), n_candidates=15 + round((3**4 - 2**4 - 15) / 0.75))
    patterns = [tuple(np.round(g / g[g > 0].min(), 3)) for g in pool.gammas]
    whole = [p for p in patterns if set(p) <= {0.0, 1.0, 5.0}]
    assert len(whole) == len(set(whole)) == 3**4 - 2**4


def test_leaving_one_out_of_nine_needs_no_511_subsets_but_lets_useless_families_go() -> None:
    masks = subset_plan(9, "leave-one-out").masks
    pool = draw_pool(range(9), n_candidates=400, subsets=masks)
    assert pool.n_candidates == 400
    supports = set(pool.supports.tolist())
    assert set(masks) < supports
    assert {1 << g for g in range(9)} < supports
    assert len(supports) < 511


def test_supports_lie_inside_the_planned_subsets() -> None:
    pool = draw_pool(range(4), n_candidates=60, subsets=[0b0011, 0b1100])
    assert set(pool.supports.tolist()) == {0b0001, 0b0010, 0b0011, 0b0100, 0b1000, 0b1100}


def test_random_mixtures_are_hierarchical_and_of_every_pool() -> None:
    groups = np.array([0, 0, 0, 1, 1, 2])
    pool = draw_pool(groups.tolist(), n_candidates=60, concentration=(1.0,))
    drawn = pool.gammas[-10:]
    assert len(rows_of(pool)) == 60
    for gamma, support in zip(drawn, pool.supports[-10:], strict=True):
        assert all((gamma[groups == g] > 0).all() for g in range(3) if support >> g & 1)


@pytest.mark.parametrize(
    ("n_groups", "n_bands", "spec", "expected"),
    [(5, 9, "all", 280), (9, 108, "all", 1387), (9, 108, "leave-one-out", 1058), (20, 200, "leave-one-out", 1008)],
)
def test_default_sizes_follow_from_the_plan(n_groups: int, n_bands: int, spec: str, expected: int) -> None:
    masks = subset_plan(n_groups, spec).masks
    n = default_pool_size(n_groups, n_bands, masks)
    assert n == expected
    assert draw_pool(sorted(i % n_groups for i in range(n_bands)), n_candidates=n, subsets=masks).n_candidates == n


def test_pool_is_seeded() -> None:
    a, b, c = (draw_pool([0, 0, 1], n_candidates=50, seed=s).gammas for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_nine_families_have_511_subsets_and_a_pool_of_the_asked_size() -> None:
    pool = draw_pool(range(9), n_candidates=1500)
    assert pool.n_candidates == 1500
    assert len(set(pool.supports.tolist())) == 511


def test_single_bands_do_not_compete() -> None:
    pool = single_bands(7)
    assert len(set(pool.supports.tolist())) == 7


@pytest.mark.parametrize(
    ("groups", "options"),
    [
        ([0, 2], {}),
        (list(range(11)), {}),
        ([0, 1], {"concentration": (0.0,)}),
    ],
)
def test_impossible_pools_are_named(groups: list[int], options: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(InvalidValueError):
        draw_pool(groups, n_candidates=10, **options)  # type: ignore[arg-type]  # options are keywords of one type
