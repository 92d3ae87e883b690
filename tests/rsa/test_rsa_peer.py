"""The rsa room against rsatoolbox, on its own distances and comparisons."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import rankdata

from brainsim.core.errors import InvalidValueError
from brainsim.rsa.compare import COMPARISONS, linear_cka, pearson, whitened_cosine
from brainsim.rsa.ranks import rank_rows, tau_a
from brainsim.rsa.rdm import from_square, gram_of_blocks, n_rows_of, pattern_rdm, square_rdm, to_square, upper
from brainsim.rsa.repeats import crossnobis_rdm, mahalanobis_rdm, noise_covariance, noise_precision


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest.fixture(scope="module")
def peer() -> SimpleNamespace:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rdm = pytest.importorskip("rsatoolbox.rdm", reason="rsatoolbox is not installed")
        data = pytest.importorskip("rsatoolbox.data", reason="rsatoolbox is not installed")
    return SimpleNamespace(Dataset=data.Dataset, calc=rdm.calc_rdm, compare=rdm.compare, RDMs=rdm.RDMs)


@pytest.mark.parametrize(("distance", "method"), [("correlation", "correlation"), ("sqeuclidean", "euclidean")])
def test_distances_equal_the_peers(peer: SimpleNamespace, rng: np.random.Generator, distance: str, method: str) -> None:
    X = rng.standard_normal((30, 200)) + 3
    expected = peer.calc(peer.Dataset(X.copy()), method=method).dissimilarities[0]
    np.testing.assert_allclose(pattern_rdm(X, distance=distance, name="X"), expected, atol=1e-10)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_distances_equal_scipys(rng: np.random.Generator, distance: str) -> None:
    X = rng.standard_normal((30, 200)) + 3
    np.testing.assert_allclose(pattern_rdm(X, distance=distance, name="X"), pdist(X, distance), atol=1e-10)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the peer casts NaN to whole numbers
def test_crossnobis_and_mahalanobis_equal_the_peers(peer: SimpleNamespace, rng: np.random.Generator) -> None:
    repeats = rng.standard_normal((4, 12, 9)) + rng.standard_normal((12, 9))
    P = noise_precision(repeats)
    rows = {"cond": np.tile(np.arange(12), 4), "rep": np.repeat(np.arange(4), 12)}
    data = peer.Dataset(repeats.reshape(48, 9), obs_descriptors=rows)
    ours = {"crossnobis": crossnobis_rdm(repeats, P), "mahalanobis": mahalanobis_rdm(repeats, P)}
    crossed = peer.calc(data, method="crossnobis", descriptor="cond", cv_descriptor="rep", noise=P)
    np.testing.assert_allclose(ours["crossnobis"], crossed.dissimilarities[0], atol=1e-10)
    plain = peer.calc(data, method="mahalanobis", descriptor="cond", noise=P)
    np.testing.assert_allclose(ours["mahalanobis"], plain.dissimilarities[0], atol=1e-10)


def test_crossnobis_of_equal_patterns_is_zero_on_average_and_mahalanobis_is_not(rng: np.random.Generator) -> None:
    means = {"cross": [], "plain": []}
    for _ in range(100):
        repeats = rng.standard_normal((6, 40, 5))
        means["cross"].append(crossnobis_rdm(repeats, np.eye(5)).mean())
        means["plain"].append(mahalanobis_rdm(repeats, np.eye(5)).mean())
    for kind, expected in (("cross", 0.0), ("plain", 2 / 6)):
        assert abs(np.mean(means[kind]) - expected) < 3 * np.std(means[kind]) / np.sqrt(100)


def test_shrinkage_runs_from_the_sample_covariance_to_its_diagonal(rng: np.random.Generator) -> None:
    repeats = rng.standard_normal((3, 50, 6))
    E = (repeats - repeats.mean(axis=0)).reshape(-1, 6)
    np.testing.assert_allclose(noise_covariance(repeats, shrinkage=0), E.T @ E / 100)
    np.testing.assert_allclose(noise_covariance(repeats, shrinkage=1), np.diag(np.square(E).sum(axis=0) / 100))
    few = noise_covariance(rng.standard_normal((2, 5, 30)))  # more channels than samples: still invertible
    assert np.linalg.eigvalsh(few).min() > 0
    with pytest.raises(InvalidValueError, match=r"1 repeat\(s\)"):
        noise_covariance(repeats[:1])


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("spearman", "spearman"),
        ("pearson", "corr"),
        ("kendall", "tau-a"),
        ("cosine", "cosine"),
        ("whitened-cosine", "cosine_cov"),
    ],
)
def test_comparisons_equal_the_peers(peer: SimpleNamespace, rng: np.random.Generator, name: str, method: str) -> None:
    A, B = rng.random((4, 190)), rng.random((3, 190)).round(1)  # B has ties
    expected = peer.compare(peer.RDMs(A.copy()), peer.RDMs(B.copy()), method=method)
    np.testing.assert_allclose(COMPARISONS[name](A, B), expected, atol=1e-10)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_ranks_are_scipys(rng: np.random.Generator, dtype: type) -> None:
    X = np.stack([rng.standard_normal(300), rng.standard_normal(300).round(1), np.zeros(300)]).astype(dtype)
    X[0, 7] = -0.0
    np.testing.assert_array_equal(rank_rows(X), rankdata(X, axis=1))
    X[1, 3] = np.nan
    np.testing.assert_array_equal(rank_rows(X), rankdata(X, axis=1))


def test_tau_a_counts_concordant_less_discordant_pairs(rng: np.random.Generator) -> None:
    A = np.stack([rng.random(60), rng.random(60).round(1), np.ones(60)])
    B = np.stack([rng.random(60), rng.random(60).round(1)])
    i, j = np.triu_indices(60, k=1)
    signs_a, signs_b = (np.sign(X[:, i] - X[:, j]) for X in (A, B))
    expected = signs_a @ signs_b.T / len(i)
    expected[2] = np.nan  # a constant row has no order
    np.testing.assert_allclose(tau_a(A, B), expected, atol=1e-14)


def test_discordant_pairs_are_also_found_without_scipys_counter(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    A, B = rng.random((2, 90)).round(1), rng.random((2, 90)).round(1)
    compiled = tau_a(A, B)
    monkeypatch.setattr("brainsim.rsa.discordance._tree_of_counts", lambda: None)
    np.testing.assert_allclose(tau_a(A, B), compiled, atol=1e-14)


def test_comparisons_in_chunks_are_those_of_the_whole(rng: np.random.Generator) -> None:
    A, B = rng.random((2, 20_000)) + 100, rng.random((3, 20_000)).astype(np.float32)
    np.testing.assert_allclose(pearson(A, B), np.corrcoef(A, B.astype(np.float64))[:2, 2:], atol=1e-12)


def test_whitened_cosine_is_that_of_the_full_covariance_of_pairs(rng: np.random.Generator) -> None:
    n = 9
    i, j = np.triu_indices(n, k=1)
    C = np.zeros((len(i), n))
    C[np.arange(len(i)), i], C[np.arange(len(i)), j] = 1, -1
    W = np.linalg.inv((C @ C.T) ** 2)
    A, B = rng.random((3, len(i))), rng.random((2, len(i)))
    norm = np.sqrt(np.outer(np.einsum("ai,ij,aj->a", A, W, A), np.einsum("ai,ij,aj->a", B, W, B)))
    np.testing.assert_allclose(whitened_cosine(A, B), A @ W @ B.T / norm, atol=1e-12)


def test_cka_of_squared_distances_is_that_of_the_features(rng: np.random.Generator) -> None:
    X, Y = rng.standard_normal((20, 30)), rng.standard_normal((20, 7))
    X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    expected = np.linalg.norm(X.T @ Y) ** 2 / np.linalg.norm(X.T @ X) / np.linalg.norm(Y.T @ Y)
    a, b = (pattern_rdm(Z, distance="sqeuclidean", name="Z")[None] for Z in (X, Y))
    assert linear_cka(a, b)[0, 0] == pytest.approx(expected, abs=1e-12)


def test_comparisons_that_need_all_pairs_refuse_some(rng: np.random.Generator) -> None:
    with pytest.raises(InvalidValueError, match="44 pairs"):
        whitened_cosine(rng.random((1, 44)), rng.random((1, 44)))


def test_streamed_inner_products_equal_those_of_the_whole(rng: np.random.Generator) -> None:
    X = rng.standard_normal((40, 90))
    W = rng.random((15, 40))
    gram, sums = gram_of_blocks((X[:, a : a + 32] for a in range(0, 90, 32)), 15, weights=W)
    np.testing.assert_allclose(gram, W @ X @ X.T @ W.T, atol=1e-10)
    np.testing.assert_allclose(sums, (W @ X).sum(axis=1), atol=1e-10)


def test_square_rdms_are_checked_and_come_back(rng: np.random.Generator) -> None:
    pairs = rng.random((2, 45))
    square = to_square(pairs)
    np.testing.assert_array_equal(upper(square[1]), pairs[1])
    np.testing.assert_array_equal(from_square(square[0], name="x"), pairs[0])
    assert n_rows_of(45) == 10
    for wrong, words in (
        (square[0] + np.eye(10), "diagonal"),
        (np.triu(square[0]), "symmetric"),
        (square[0, :5], "shape"),
    ):
        with pytest.raises(InvalidValueError, match=words):
            from_square(wrong, name="x")


def test_zero_rows_have_no_cosine(rng: np.random.Generator) -> None:
    X = rng.random((4, 5))
    X[1] = 0
    with pytest.raises(Exception, match="1 of 4 images of x are zero"):
        square_rdm(X @ X.T, X.sum(axis=1), 5, distance="cosine", name="x", rows="images")
