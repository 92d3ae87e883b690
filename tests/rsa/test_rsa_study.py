"""The study's scores against a slow, independent way: scikit-learn and NumPy on the pairs themselves."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, Ridge

from brainsim.core.errors import InvalidValueError
from brainsim.rsa.combine import other_subjects_weights, pooled_weights, standardise
from brainsim.rsa.moments import pair_moments
from brainsim.rsa.scores import (
    best_layer_scores,
    explained,
    residual_scores,
    score_sets,
    score_systems,
    weigh_pooled,
)
from brainsim.variance.lattice import mask_members, subset_plan, unique_parts

SYSTEMS = [[0, 1, 2], [3, 4], [5, 6, 7]]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.fixture
def runs(rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Four runs of 8 layers and 2 targets, layers much alike, as those of a network are."""
    found = []
    for n in (190, 171, 210, 153):
        common = rng.random(n)
        A = common + 0.2 * rng.random((8, n)) + np.arange(8)[:, None]
        Y = np.stack([A[1] + 0.5 * A[4] + 0.2 * rng.random(n), A[6] + 0.3 * rng.random(n)])
        found.append((A, Y))
    return found


def fit(A: np.ndarray, y: np.ndarray) -> np.ndarray:
    return LinearRegression(positive=True).fit(A.T, y).coef_


def slow_score(runs: list[tuple[np.ndarray, np.ndarray]], columns: list[int], target: int) -> float:
    folds = []
    for held, (A, Y) in enumerate(runs):
        w = np.mean([fit(a[columns], y[target]) for r, (a, y) in enumerate(runs) if r != held], axis=0)
        folds.append(np.corrcoef(w @ A[columns], Y[target])[0, 1])
    return float(np.mean(folds))


def test_single_systems_pairs_and_all_layers_equal_the_slow_way(runs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    scores = score_systems([pair_moments(A, Y) for A, Y in runs], SYSTEMS)
    for t in range(2):
        for a, b in product(range(3), range(3)):
            columns = SYSTEMS[a] if a == b else SYSTEMS[a] + SYSTEMS[b]
            assert scores.pair[a, b, t].mean() == pytest.approx(slow_score(runs, columns, t), abs=1e-9)
        np.testing.assert_array_equal(scores.pair[0, 0, t], scores.single[0, t])
        assert scores.together[t].mean() == pytest.approx(slow_score(runs, list(range(8)), t), abs=1e-9)


def test_residual_control_equals_the_slow_way(runs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    scores = residual_scores([pair_moments(A, Y) for A, Y in runs], SYSTEMS)
    assert (scores[np.arange(3), np.arange(3)] == 0).all()  # a system leaves nothing that its own layers would take
    for a, b, t in product(range(3), range(3), range(2)):
        if a == b:
            continue
        own, on_rest = [], []
        for A, Y in runs:
            control = LinearRegression(positive=True).fit(A[SYSTEMS[a]].T, Y[t])
            own.append((control.coef_, control.intercept_))
            on_rest.append(fit(A[SYSTEMS[b]], Y[t] - control.predict(A[SYSTEMS[a]].T)))
        folds = []
        for held, (A, Y) in enumerate(runs):
            others = [r for r in range(len(runs)) if r != held]
            w, c = (np.mean([own[r][k] for r in others], axis=0) for k in range(2))
            rest = Y[t] - (w @ A[SYSTEMS[a]] + c)
            predicted = np.mean([on_rest[r] for r in others], axis=0) @ A[SYSTEMS[b]]
            folds.append(np.corrcoef(predicted, rest)[0, 1] if predicted.std() > 0 else 0.0)
        np.testing.assert_allclose(scores[a, b, t], folds, atol=1e-7)


def test_factors_of_chunks_are_those_of_the_whole(
    runs: list[tuple[np.ndarray, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = score_systems([pair_moments(A, Y) for A, Y in runs], SYSTEMS)
    monkeypatch.setattr("brainsim.rsa.moments.CHUNK_PAIRS", 37)
    chunked = score_systems([pair_moments(A, Y) for A, Y in runs], SYSTEMS)
    np.testing.assert_allclose(chunked.pair, whole.pair, atol=1e-10)


def test_a_system_without_positive_weight_scores_zero_and_is_counted(rng: np.random.Generator) -> None:
    runs = [(A := rng.random((2, 60)), -A[:1] - A[1:]) for _ in range(3)]
    scores = score_systems([pair_moments(A, Y) for A, Y in runs], [[0], [1]])
    assert scores.n_empty == 6
    assert (scores.single == 0).all()


def test_ridge_is_scikit_learns_at_the_penalty_that_leaving_out_blocks_chooses(
    runs: list[tuple[np.ndarray, np.ndarray]],
) -> None:
    from brainsim.rsa.combine import ALPHAS

    Z = [(standardise(A), standardise(Y)) for A, Y in runs]
    weights = pooled_weights([pair_moments(A, Y).standardised() for A, Y in runs], SYSTEMS[0], combine="ridge")

    def solve(which: list[int], alpha: float) -> np.ndarray:
        A = np.concatenate([Z[r][0][SYSTEMS[0]] for r in which], axis=1)
        y = np.concatenate([Z[r][1][0] for r in which])
        return Ridge(alpha=alpha * len(y), fit_intercept=False).fit(A.T, y).coef_

    train = [1, 2, 3]
    lost = []
    for alpha in ALPHAS:
        folds = [(solve([o for o in train if o != r], alpha), Z[r]) for r in train]
        lost.append(sum(np.square(y[0] - w @ A[SYSTEMS[0]]).sum() for w, (A, y) in folds))
    np.testing.assert_allclose(weights[0][0], solve(train, ALPHAS[np.argmin(lost)]), atol=1e-8)


def test_weights_of_a_subject_come_from_the_others(rng: np.random.Generator) -> None:
    runs = [(rng.random((3, 50)), rng.random((3, 50))) for _ in range(2)]
    subjects, streams = np.arange(3), np.zeros(3, int)

    def weigh(runs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        moments = [pair_moments(A, Y).standardised() for A, Y in runs]
        return other_subjects_weights(subjects, streams)(moments, [0, 1, 2])[0]

    before = weigh(runs)
    A = np.concatenate([standardise(A) for A, _ in runs], axis=1)
    y = np.concatenate([standardise(Y)[1:].mean(axis=0) for _, Y in runs])
    np.testing.assert_allclose(before[0], fit(A, y), atol=1e-9)
    for _, Y in runs:
        Y[0] = rng.random(50)
    np.testing.assert_allclose(weigh(runs)[0], before[0], atol=1e-12)
    with pytest.raises(InvalidValueError, match="stream of one subject"):
        other_subjects_weights(subjects, np.arange(3))


def test_best_layer_is_chosen_on_the_other_blocks() -> None:
    scores = np.zeros((3, 1, 3))
    scores[0] = 0.3
    scores[1, 0] = [0.9, 0.0, 0.0]  # best by one block alone
    best, layers = best_layer_scores(scores, {"m": [0, 1], "n": [2]})
    np.testing.assert_allclose(best[0, 0], [0.3, 0.0, 0.0])
    assert layers.ravel().tolist() == [0, 2]


def test_planted_unique_variance_is_recovered_and_a_useless_family_has_none(rng: np.random.Generator) -> None:
    n, families, runs = 4000, [[0, 1], [2, 3], [4, 5]], []
    for _ in range(5):
        A = rng.standard_normal((6, n))
        shared = rng.standard_normal(n)
        A[0] += shared  # families 0 and 1 share half of these layers' variance
        A[2] += shared
        # Variance 1 of layer 1 alone, 1 of what is shared, 0.5 of layer 3 alone, 1 of noise.
        y = A[1] + shared + np.sqrt(0.5) * A[3] + rng.standard_normal(n)
        runs.append((A, y[None]))
    moments = [pair_moments(A, Y).standardised() for A, Y in runs]
    plan = subset_plan(3)
    sets = [np.concatenate([families[g] for g in mask_members(mask)]) for mask in plan.masks]
    scores = explained(moments, sets, weigh_pooled("nnls")).mean(axis=2)
    unique = unique_parts(scores, plan)[:, 0]
    # Alone, layer 0 or 2 explains 1/2 of the shared part; both, 2/3.
    expected = [(1 + 2 / 3 - 1 / 2) / 3.5, (0.5 + 2 / 3 - 1 / 2) / 3.5, 0]
    np.testing.assert_allclose(unique, expected, atol=0.02)


def test_pooled_scores_of_sets_equal_the_slow_way(runs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    scores = score_sets([pair_moments(A, Y).standardised() for A, Y in runs], SYSTEMS, weigh_pooled("nnls"))
    Z = [(standardise(A), standardise(Y)) for A, Y in runs]
    for held in range(4):
        A = np.concatenate([Z[r][0][SYSTEMS[2]] for r in range(4) if r != held], axis=1)
        y = np.concatenate([Z[r][1][1] for r in range(4) if r != held])
        r = np.corrcoef(fit(A, y) @ Z[held][0][SYSTEMS[2]], Z[held][1][1])[0, 1]
        assert scores[2, 1, held] == pytest.approx(r, abs=1e-9)
