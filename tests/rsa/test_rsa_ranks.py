"""Ranks, concordance and correlations of long rows against SciPy and NumPy, where short cuts are taken."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau, rankdata

from brainsim.rsa.compare import COMPARISONS, pearson, spearman, whitened_cosine
from brainsim.rsa.discordance import GRID_COLUMNS, GRID_LEVELS, DiscordantPairs
from brainsim.rsa.ranks import LONG_ROW, rank_rows, tau_a
from brainsim.rsa.sorting import PACKED_ROW


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(23)


# How values lie: what is told apart by low bits alone, or not at all, or is no ordinary number.
ROWS = {
    "spread": lambda rng, n: rng.standard_normal(n),
    "positive": lambda rng, n: rng.random(n),
    "float32": lambda rng, n: rng.random(n, dtype=np.float32),
    "widened": lambda rng, n: rng.random(n, dtype=np.float32).astype(np.float64),
    "rounded": lambda rng, n: rng.standard_normal(n).round(3),
    "two values": lambda rng, n: (rng.random(n) > 0.3).astype(np.float64),
    "one value": lambda rng, n: np.full(n, 0.1),
    "whole numbers": lambda rng, n: rng.integers(-n, n, n),
    "low bits alone": lambda rng, n: 1 + rng.permutation(n) * np.finfo(np.float64).eps,
    "low bits and ties": lambda rng, n: -1 - rng.integers(0, n // 2 + 1, n) * np.finfo(np.float64).eps,
    "denormal": lambda rng, n: rng.integers(-n, n, n) * 5e-324,
    "huge": lambda rng, n: rng.standard_normal(n) * 1e308,
    "zeros of both signs": lambda rng, n: np.where(rng.random(n) > 0.5, -0.0, 0.0) + (rng.random(n) > 0.9) * 0.0,
    "zeros among others": lambda rng, n: rng.standard_normal(n) * rng.choice([0.0, -0.0, 1.0, 1.0], n),
    "infinite": lambda rng, n: np.where(rng.random(n) > 0.999, rng.choice([-np.inf, np.inf], n), rng.random(n)),
    "half NaN": lambda rng, n: np.where(rng.random(n) > 0.5, np.nan, 1.0),
}


@pytest.mark.parametrize("n", [0, 1, 2, 3, 50, PACKED_ROW - 1, PACKED_ROW, 4096, 4097, 9001])
@pytest.mark.parametrize("kind", ROWS)
def test_ranks_are_scipys_however_values_lie(rng: np.random.Generator, kind: str, n: int) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        X = np.stack([ROWS[kind](rng, n) for _ in range(3)])
    before = X.copy()
    expected = rankdata(X, axis=1) if n else np.empty((3, 0))
    np.testing.assert_array_equal(rank_rows(X), expected)
    np.testing.assert_array_equal(X, before)


def test_ranks_of_few_ties_among_many_values_are_scipys(rng: np.random.Generator) -> None:
    X = rng.standard_normal((20, 5000))
    for row in X:
        copied, near = rng.choice(5000, (2, 40))
        row[copied] = row[copied[::-1]]
        row[near] = np.nextafter(row[near[::-1]], np.inf)
    np.testing.assert_array_equal(rank_rows(X), rankdata(X, axis=1))
    np.testing.assert_array_equal(rank_rows(X[:, ::3]), rankdata(X[:, ::3], axis=1))  # not contiguous


@pytest.mark.parametrize("name", ["spearman", "kendall"])
def test_any_number_of_threads_gives_the_same_bits(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    A, B = rng.random((3, LONG_ROW)), rng.random((2, LONG_ROW)).round(4)
    found = []
    for n_threads in (1, 3):
        monkeypatch.setattr("brainsim.rsa.ranks.n_cores", lambda n=n_threads: n)
        found.append(COMPARISONS[name](A, B))
    np.testing.assert_array_equal(*found)


def slow_inversions(z: np.ndarray) -> int:
    return sum(int(np.count_nonzero(z[i + 1 :] < z[i])) for i in range(len(z)))


@pytest.mark.parametrize("n", [2, 3, 31, 33, 64, 65, 500, 4095, 4096, 4097])
def test_the_grid_counts_inversions(rng: np.random.Generator, n: int) -> None:
    pairs = DiscordantPairs(n)  # its arrays serve more than one count
    for z in (rng.permutation(n), np.arange(n), np.arange(n)[::-1], np.roll(np.arange(n), n // 3)):
        w = np.argsort(z)
        assert pairs.count_inversions(z.astype(np.uint32), w.astype(np.uint32)) == slow_inversions(z)


def test_the_grid_counts_inversions_of_longer_rows_as_the_tree_does(rng: np.random.Generator) -> None:
    n = 140_000  # chunks of 512: their places take more than 16 bits with that of the value
    z = rng.permutation(n)
    counter = DiscordantPairs(n)
    assert counter.tree is not None
    tree = counter.tree(np.arange(n), z + 1)
    assert counter.count_inversions(z.astype(np.uint32), np.argsort(z).astype(np.uint32)) == tree


@pytest.mark.parametrize("levels_a", [0, 8, 2000, 200_000])
@pytest.mark.parametrize("levels_b", [0, 2, 2000, 200_000])
def test_tau_a_of_long_rows_is_scipys(rng: np.random.Generator, levels_a: int, levels_b: int) -> None:
    n = GRID_COLUMNS + 500
    common = rng.standard_normal(n)
    a, b = common + rng.standard_normal(n), common + rng.standard_normal(n)
    a, b = (np.floor(x * levels / 8) if levels else x for x, levels in ((a, levels_a), (b, levels_b)))
    n_pairs = n * (n - 1) / 2
    tied_a, tied_b = (float((c * (c - 1) / 2).sum()) for c in (np.unique(x, return_counts=True)[1] for x in (a, b)))
    expected = kendalltau(a, b).statistic * np.sqrt((n_pairs - tied_a) * (n_pairs - tied_b)) / n_pairs
    assert tau_a(a[None], b[None])[0, 0] == pytest.approx(expected, abs=1e-13)
    assert GRID_LEVELS < 2000  # both the tree and the grid are tried


def test_rows_with_a_nan_have_no_tau(rng: np.random.Generator) -> None:
    A = rng.random((2, 50))
    A[1, 7] = np.nan
    assert np.isnan(tau_a(A, A)).tolist() == [[False, True], [True, True]]


@pytest.mark.parametrize("name", COMPARISONS)
def test_a_set_against_itself_is_that_against_its_copy(rng: np.random.Generator, name: str) -> None:
    A = rng.random((4, 12_720)).astype(np.float32)
    np.testing.assert_allclose(COMPARISONS[name](A, A), COMPARISONS[name](A, A.copy()), atol=1e-14)
    np.testing.assert_allclose(COMPARISONS[name](A, A).diagonal(), 1, atol=1e-6)


@pytest.mark.parametrize("offset", [0, 1e2, 1e4, 1e6])
def test_pearson_keeps_its_digits_where_the_mean_is_large(rng: np.random.Generator, offset: float) -> None:
    common = rng.random(20_000)
    A, B = common + rng.random((3, 20_000)), common + rng.random((2, 20_000))
    expected = np.corrcoef(A, B)[:3, 3:]
    np.testing.assert_allclose(pearson(A + offset, B - 2 * offset), expected, atol=1e-9)
    np.testing.assert_allclose(pearson(A + offset, B), expected, atol=1e-9)


def test_constant_rows_have_no_correlation(rng: np.random.Generator) -> None:
    A = np.stack([np.full(2000, 0.5), rng.random(2000)])
    for comparison in (pearson, spearman, tau_a):
        assert np.isnan(comparison(A, A)).tolist() == [[True, True], [True, False]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_whitened_cosine_of_many_blocks_is_that_of_the_whole(rng: np.random.Generator, dtype: type) -> None:
    n = 200
    i, j = np.triu_indices(n, k=1)
    A, B = rng.random((2, len(i))).astype(dtype), rng.random((3, len(i))).astype(dtype)

    def whitened(x: np.ndarray, y: np.ndarray) -> float:
        r, s = (np.bincount(i, v, n) + np.bincount(j, v, n) for v in (x, y))
        return float(x.astype(np.float64) @ y - (r @ s - r.sum() * s.sum() / (2 * n)) / n)

    expected = [[whitened(a, b) / np.sqrt(whitened(a, a) * whitened(b, b)) for b in B] for a in A]
    np.testing.assert_allclose(whitened_cosine(A, B), expected, atol=1e-12)


@pytest.mark.parametrize("n_rows", [2, 3, 4])
def test_whitened_cosine_of_few_conditions(rng: np.random.Generator, n_rows: int) -> None:
    x = rng.random((1, n_rows * (n_rows - 1) // 2)) + 0.1
    assert whitened_cosine(x, 3 * x)[0, 0] == pytest.approx(1)
