"""The pool of candidates: on the simplex, seeded, covering every subset, closed under dropping a family."""

from __future__ import annotations

import numpy as np
import pytest

from brainsim.core.errors import InvalidValueError
from brainsim.encoding.candidates import draw_pool, single_bands


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


def test_dropping_a_family_from_a_pattern_gives_another_pattern() -> None:
    pool = draw_pool(range(4), n_candidates=3**4 - 2**4)
    patterns = {tuple(np.round(g, 5)) for g in pool.gammas}
    for gamma in pool.gammas:
        for band in range(4):
            rest = gamma.copy()
            rest[band] = 0
            if rest.sum() > 0:
                assert tuple(np.round(rest / rest.sum(), 5)) in patterns


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
