"""The rsa room against SciPy, against a peer's numbers on real data, and against planted truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import nnls
from scipy.spatial.distance import pdist
from scipy.stats import kendalltau, spearmanr

from brainsim.core.errors import InvalidValueError, NumericalError
from brainsim.features.hrf import canonical_hrf, hrf_matrix
from brainsim.rsa.combine import combine_layers, standardise
from brainsim.rsa.compare import COMPARISONS, noise_ceiling
from brainsim.rsa.rdm import correlation_rdm, correlation_rdm_from_gram, distant_pairs, upper


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_rdm_equals_scipys_pdist(rng: np.random.Generator) -> None:
    X = rng.standard_normal((30, 50)) + 5
    np.testing.assert_allclose(correlation_rdm(X, name="X"), pdist(X, "correlation"), atol=1e-12)


def test_rdm_from_streamed_sums_equals_that_of_the_whole(rng: np.random.Generator) -> None:
    X = rng.standard_normal((20, 64))
    gram = sum(X[:, a : a + 16] @ X[:, a : a + 16].T for a in range(0, 64, 16))
    sums = sum(X[:, a : a + 16].sum(axis=1) for a in range(0, 64, 16))
    np.testing.assert_allclose(
        correlation_rdm_from_gram(np.asarray(gram), np.asarray(sums), 64, name="X"), pdist(X, "correlation"), atol=1e-12
    )


def test_constant_pattern_is_refused_with_its_count(rng: np.random.Generator) -> None:
    X = rng.standard_normal((6, 9))
    X[2] = 3.0
    with pytest.raises(NumericalError, match=r"1 of 6 TRs of early"):
        correlation_rdm(X, name="early")


@pytest.mark.parametrize("ties", [False, True])
def test_comparisons_equal_scipy(rng: np.random.Generator, ties: bool) -> None:
    A, B = rng.standard_normal((3, 40)), rng.standard_normal((2, 40))
    if ties:
        A, B = A.round(0), B.round(0)
    for i in range(3):
        for j in range(2):
            assert COMPARISONS["spearman"](A, B)[i, j] == pytest.approx(spearmanr(A[i], B[j]).statistic, abs=1e-12)
            assert COMPARISONS["pearson"](A, B)[i, j] == pytest.approx(np.corrcoef(A[i], B[j])[0, 1], abs=1e-12)
            sign = np.sign(np.subtract.outer(A[i], A[i])) * np.sign(np.subtract.outer(B[j], B[j]))
            assert COMPARISONS["kendall"](A, B)[i, j] == pytest.approx(sign.sum() / (40 * 39), abs=1e-12)
            if not ties:
                assert COMPARISONS["kendall"](A, B)[i, j] == pytest.approx(kendalltau(A[i], B[j]).statistic, abs=1e-12)


def test_only_pairs_far_enough_apart_are_kept() -> None:
    kept = distant_pairs(6, min_lag=3)
    lags = upper(np.abs(np.subtract.outer(np.arange(6), np.arange(6))))
    np.testing.assert_array_equal(kept, lags >= 3)


def test_combined_layers_equal_nnls_on_the_other_runs(rng: np.random.Generator) -> None:
    layers = [rng.random((4, 60)) for _ in range(3)]
    target = [0.7 * run[1] + 0.2 * run[3] + 0.3 * rng.random(60) for run in layers]
    predictions = combine_layers(layers, target)
    for held in range(3):
        others = [r for r in range(3) if r != held]
        A = np.concatenate([standardise(layers[r]).T for r in others])
        y = np.concatenate([standardise(target[r][None])[0] for r in others])
        np.testing.assert_allclose(predictions[held], nnls(A, y)[0] @ standardise(layers[held]), atol=1e-6)


def test_weights_never_see_the_run_that_is_scored(rng: np.random.Generator) -> None:
    layers = [rng.random((4, 60)) for _ in range(3)]
    target = [rng.random(60) for _ in range(3)]
    before = combine_layers(layers, target)[1]
    target[1] = rng.random(60)
    np.testing.assert_array_equal(combine_layers(layers, target)[1], before)


def test_null_model_scores_zero_and_planted_one_is_found(rng: np.random.Generator) -> None:
    scores = {"null": [], "planted": []}
    for _ in range(40):
        layers = [rng.random((5, 300)) for _ in range(4)]
        for kind, weight in (("null", 0.0), ("planted", 1.0)):
            target = [weight * run[2] + rng.random(300) for run in layers]
            predictions = combine_layers(layers, target)
            r = [COMPARISONS["spearman"](p[None], t[None])[0, 0] for p, t in zip(predictions, target, strict=True)]
            scores[kind].append(np.nanmean(np.nan_to_num(r)))
    assert abs(np.mean(scores["null"])) < 0.02
    assert np.mean(scores["planted"]) > 0.6


def test_layers_of_one_run_cannot_be_combined(rng: np.random.Generator) -> None:
    with pytest.raises(InvalidValueError, match=r"1 run\(s\)"):
        combine_layers([rng.random((2, 10))], [rng.random(10)])


def test_hrf_matrix_is_the_convolution_of_constant_trs() -> None:
    tr_s, n, fine = 2.0, 20, 0.01
    rng = np.random.default_rng(0)
    x = rng.standard_normal(n)
    steps = round(tr_s / fine)
    time_s = np.arange(0, 32, fine) + fine / 2
    response = canonical_hrf(time_s)
    slow = np.convolve(np.repeat(x, steps), response)[: n * steps] / response.sum()
    middle = slow[steps // 2 - 1 :: steps]  # a volume is taken in the middle of its TR
    np.testing.assert_allclose(hrf_matrix(n, tr_s) @ x, middle, atol=2e-3)


def test_hrf_never_looks_into_the_future() -> None:
    assert np.triu(hrf_matrix(15, 1.5), k=1).max() == 0
    assert hrf_matrix(40, 1.0)[-1].sum() == pytest.approx(1.0, abs=1e-6)


def test_peer_rdm_of_real_features(shared_dir: Path) -> None:
    folder = shared_dir / "data" / "image78"
    features = np.load(folder / "resnet18_layer4_features.npz")["features"]
    peer = np.load(folder / "resnet18_layer4_rdm_pearson.npy")
    np.testing.assert_allclose(correlation_rdm(features.reshape(78, -1), name="layer4"), peer, atol=1e-4)


@pytest.mark.parametrize(
    ("roi", "squared", "lower", "upper_ceiling"),
    [
        ("EVC", 0.0006886062445416333, 0.006817660885847111, 0.06397469419484077),
        ("IT", 0.0018402013413235168, 0.002784925615650058, 0.0647332511659806),
    ],
)
def test_peer_scores_and_ceilings_of_real_brains(
    shared_dir: Path, roi: str, squared: float, lower: float, upper_ceiling: float
) -> None:
    folder = shared_dir / "data" / "image78"
    brains = np.stack([upper(rdm) for rdm in np.load(folder / f"fmri_{roi}_RDMs.npz")["rdms"]])
    model = upper(np.load(folder / "case1_layer4.1.bn2_rdm.npy"))
    spearman = COMPARISONS["spearman"]
    assert np.mean(spearman(brains, model[None]) ** 2) == pytest.approx(squared, abs=1e-6)
    # The peer averages RDMs as they are, and squares each subject's correlation.
    to_all = spearman(brains, brains.mean(axis=0)[None])
    to_others = [
        spearman(brain[None], np.delete(brains, i, axis=0).mean(axis=0)[None])[0, 0] for i, brain in enumerate(brains)
    ]
    assert np.mean(to_all**2) == pytest.approx(upper_ceiling, abs=1e-6)
    assert np.mean(np.square(to_others)) == pytest.approx(lower, abs=1e-6)


def test_ceiling_orders_and_needs_two_subjects(rng: np.random.Generator) -> None:
    common = rng.random(200)
    rdms = np.stack([common + 0.5 * rng.random(200) for _ in range(5)])
    low, high = noise_ceiling(rdms, COMPARISONS["pearson"])
    assert 0 < low < high < 1
    assert np.isnan(noise_ceiling(rdms[:1], COMPARISONS["pearson"])).all()


@pytest.mark.parametrize("name", ["spearman", "pearson", "cosine"])
def test_no_rdm_is_more_like_all_subjects_than_the_upper_ceiling(rng: np.random.Generator, name: str) -> None:
    rdms = np.exp(rng.standard_normal((4, 60)) * 2) * np.array([[1], [2], [5], [20]])
    comparison = COMPARISONS[name]
    _, high = noise_ceiling(rdms, comparison)
    tried = np.concatenate([rdms, rdms.mean(axis=0)[None], np.log(rdms).mean(axis=0)[None], rng.random((50, 60))])
    assert comparison(tried, rdms).mean(axis=1).max() <= high + 1e-12
