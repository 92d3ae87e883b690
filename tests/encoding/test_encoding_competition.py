"""Candidates compete over the lattice: as merging one by one would decide it, and never worse with more groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch

from brainsim.core.errors import InvalidValueError
from brainsim.encoding import competition
from brainsim.encoding.best import SupportBest
from brainsim.encoding.competition import best_of_subsets, best_with_group, charge
from brainsim.variance.lattice import subset_masks, subset_plan

FIELDS = ("inner", "r2", "r", "candidate", "alpha")
SHAPE = (3, 40)


def random_bests(supports: Sequence[int], *, seed: int, n_levels: int = 0) -> dict[int, SupportBest]:
    """Draw scores of each support, on few levels where ties are wanted; candidates are numbered by support."""
    rng = np.random.default_rng(seed)
    bests = {}
    for number, support in enumerate(supports):
        inner = rng.normal(0, 0.2, SHAPE)
        if n_levels:
            inner = np.round(inner * n_levels) / n_levels
        inner[rng.random(SHAPE) < 0.05] = -np.inf
        inner[rng.random(SHAPE) < 0.02] = -0.0
        bests[support] = SupportBest(
            torch.tensor(inner, dtype=torch.float32),
            torch.tensor(rng.normal(0, 1, SHAPE), dtype=torch.float32),
            torch.tensor(rng.normal(0, 1, SHAPE), dtype=torch.float32),
            torch.full(SHAPE, number, dtype=torch.int32),
            torch.tensor(rng.integers(0, 20, SHAPE), dtype=torch.int32),
        )
    return bests


def merge_one_by_one(
    bests: dict[int, SupportBest], masks: Sequence[int], price: float
) -> Iterator[tuple[int, SupportBest]]:
    """Merge every support inside each mask, in the order of the supports; the first of equals stays."""
    for mask in masks:
        best = None
        for support in sorted(bests):
            if support & mask != support:
                continue
            other = bests[support]
            score = other.inner - price * support.bit_count() * (1 - other.inner)
            score = torch.where(torch.isneginf(other.inner), -torch.inf, score)
            if best is None:
                best, top = other.copy(), score
            else:
                better = score > top
                best.take(other, better)
                top = torch.where(better, score, top)
        assert best is not None
        yield mask, best


def assert_same(found: SupportBest, expected: SupportBest) -> None:
    for name in FIELDS:
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


@pytest.mark.parametrize("tile_bytes", [2**20, 8 * 2**6 * 7])
@pytest.mark.parametrize("price", [0.0, 0.01])
@pytest.mark.parametrize("n_levels", [0, 4])
@pytest.mark.parametrize("spec", ["all", "max-order=2", "singles"])
def test_winners_are_those_of_merging_one_by_one(
    spec: str, n_levels: int, price: float, tile_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(competition, "TILE_BYTES", tile_bytes)
    monkeypatch.setattr(competition, "BLOCK_BYTES", tile_bytes)
    bests = random_bests(range(1, 64), seed=n_levels, n_levels=n_levels)
    masks = subset_plan(6, spec).masks
    for found, expected in zip(
        best_of_subsets(bests, masks, price=price), merge_one_by_one(bests, masks, price), strict=True
    ):
        assert found[0] == expected[0]
        assert_same(found[1], expected[1])


def test_pools_without_some_supports_and_masks_in_any_order() -> None:
    bests = random_bests([1, 2, 4, 8, 5, 14, 64], seed=1, n_levels=3)
    masks = [15, 1, 10, 7, 15]
    for found, expected in zip(
        best_of_subsets(bests, masks, price=0.02), merge_one_by_one(bests, masks, 0.02), strict=True
    ):
        assert found[0] == expected[0]
        assert_same(found[1], expected[1])


@pytest.mark.parametrize("seed", range(5))
def test_the_score_competed_by_never_falls_with_more_groups(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_groups, price = int(rng.integers(2, 7)), float(rng.choice([0.0, 0.003, 0.2]))
    n_all = 2**n_groups
    more = rng.choice(np.arange(1, n_all), size=rng.integers(0, n_all), replace=False).tolist()
    supports = sorted({*(1 << g for g in range(n_groups)), *more})
    bests = random_bests(supports, seed=seed, n_levels=int(rng.integers(0, 5)))
    size = torch.tensor([support.bit_count() for support in supports])
    score = {}
    for mask, best in best_of_subsets(bests, subset_masks(n_groups), price=price):
        left = price * size[best.candidate] * (1 - best.inner)
        score[mask] = torch.where(torch.isneginf(best.inner), -torch.inf, best.inner - left)
    for mask, value in score.items():
        for group in range(n_groups):
            if mask >> group & 1 and mask != 1 << group:
                assert (value >= score[mask & ~(1 << group)] - 1e-6).all()


def test_what_could_not_be_scored_does_not_block_the_others() -> None:
    bests = random_bests([1, 2], seed=0)
    bests[1].inner[:] = -torch.inf
    bests[2].inner.clamp_(min=-1)
    ((_, best),) = best_of_subsets(bests, [3])
    assert_same(best, bests[2])


@pytest.mark.parametrize("price", [0.0, 0.05])
def test_the_best_with_a_group_is_the_best_of_the_supports_that_hold_it(price: float) -> None:
    bests = random_bests(range(1, 16), seed=3, n_levels=4)
    holding = {support: best for support, best in bests.items() if support & 0b0100}
    ((_, expected),) = merge_one_by_one(holding, [0b0111], price)
    assert_same(best_with_group(bests, 2, within=0b0111, price=price), expected)


def test_a_price_favours_fewer_groups() -> None:
    inner = torch.tensor([0.5])
    assert charge(inner, 3, 0.0) == inner
    assert charge(inner, 3, 0.01).item() == pytest.approx(0.5 - 0.03 * 0.5)


def test_subsets_without_candidates_are_named() -> None:
    bests = random_bests([1, 6], seed=0)
    with pytest.raises(InvalidValueError, match="inside subset 10"):
        best_of_subsets(bests, [1, 2])
    with pytest.raises(InvalidValueError, match="group 1 lies inside subset 11"):
        best_with_group(bests, 1, within=0b011)
