"""Planted cohorts: signals with a known owner, noise of the asked kind, cleaning that is a projection."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge

from brainsim.core.runs import RunLayout
from brainsim.datasets.planted import (
    PlantedSignals,
    choose_signals,
    cleaning_matrix,
    draw_noise,
    draw_weights,
    residual_operator,
)
from brainsim.datasets.planted_scores import PlantedSubject, noise_covariance, score_planted

LAYOUT = RunLayout(tuple("abcd"), (50, 45, 55, 50))


@pytest.fixture(scope="module")
def kernels() -> dict[str, np.ndarray]:
    """Return two families of a few strong features each that have nothing in common."""
    made = {}
    for seed, name in enumerate(("one", "two")):
        X = np.random.default_rng(seed).standard_normal((LAYOUT.n_rows, 10))
        for rows in LAYOUT.slices:
            X[rows] -= X[rows].mean(axis=0)
        made[name] = X @ X.T / np.square(X).sum() * len(X)
    return made


def test_residuals_equal_those_of_refitted_models(kernels: dict[str, np.ndarray]) -> None:
    Y = np.random.default_rng(2).standard_normal((LAYOUT.n_rows, 3))
    E = residual_operator(kernels["one"], LAYOUT, alpha=0.3) @ Y
    rows = np.arange(LAYOUT.n_rows)
    for test in LAYOUT.slices:
        train = np.delete(rows, test)
        model = KernelRidge(alpha=0.3, kernel="precomputed").fit(kernels["one"][np.ix_(train, train)], Y[train])
        np.testing.assert_allclose(E[test], Y[test] - model.predict(kernels["one"][test][:, train]), atol=1e-8)


def test_a_familys_signals_are_predicted_by_it_alone(kernels: dict[str, np.ndarray]) -> None:
    signals = choose_signals(kernels, kernels, LAYOUT, n_signals=2)
    assert signals.names == ("one", "one", "two", "two", "shared", "shared")
    np.testing.assert_allclose(signals.courses.std(axis=0), 1)
    subject = PlantedSubject(signals.courses, np.eye(6), np.zeros(6), [np.zeros((n, n)) for n in LAYOUT.n_trs])
    noiseless, attainable = score_planted(kernels, [subject], LAYOUT, [["one"], ["two"], ["one", "two"]])
    assert noiseless.shape == attainable.shape == (3, 1, 6)
    only_one, only_two, both = noiseless[:, 0]
    assert only_one[:2].min() > 0.95
    assert only_two[2:4].min() > 0.95
    assert only_one[2:4].max() < 0.1
    assert only_two[:2].max() < 0.1
    assert (both >= np.maximum(only_one, only_two) - 1e-12).all()
    np.testing.assert_allclose(attainable, noiseless, atol=1e-12)  # where there is no noise


def test_what_noise_costs_is_what_simulations_find(kernels: dict[str, np.ndarray]) -> None:
    rng = np.random.default_rng(0)
    clean = cleaning_matrix([rng.standard_normal((n, 3)) for n in LAYOUT.n_trs], LAYOUT)
    signals = choose_signals(kernels, kernels, LAYOUT, n_signals=2)
    mix = rng.standard_normal((6, 1))
    courses = clean @ signals.courses
    subject = PlantedSubject(courses, mix, np.array([2.0]), noise_covariance(clean, LAYOUT, ar=0.4))
    for alpha in (0.1, 3.0):
        for family in kernels:
            noiseless, attainable = score_planted(kernels, [subject], LAYOUT, [[family]], alphas=[alpha])
            noise = clean @ draw_noise(rng, LAYOUT, 4000, ar=0.4, shared=0.0)
            Y = courses @ mix + np.sqrt(2.0) * noise
            E = residual_operator(kernels[family], LAYOUT, alpha=alpha) @ Y
            found = max(1 - np.square(E).sum() / np.square(Y).sum(), 0)
            assert attainable[0, 0, 0] == pytest.approx(found, abs=0.01)
            assert attainable[0, 0, 0] <= noiseless[0, 0, 0] + 1e-12


def test_noise_has_the_asked_variance_autocorrelation_and_shared_part() -> None:
    layout = RunLayout(("a", "b"), (400, 400))
    noise = draw_noise(np.random.default_rng(0), layout, 300, ar=0.4, shared=0.3)
    for rows in layout.slices:
        run = noise[rows]
        assert np.square(run).mean() == pytest.approx(1, abs=0.06)
        assert (run[1:] * run[:-1]).mean() == pytest.approx(0.4, abs=0.05)
        assert (run[:, ::2] * run[:, 1::2]).mean() == pytest.approx(0.3, abs=0.06)
    assert abs((noise[399] * noise[400]).mean()) < 0.2


def test_weights_give_the_asked_variance() -> None:
    courses = np.random.default_rng(1).standard_normal((200, 3))
    signals = PlantedSignals(("one", "one", "shared"), courses)
    weights = draw_weights(np.random.default_rng(0), signals, {"one": 0.2, "shared": 0.0}, 400)
    assert not weights[2].any()
    assert (courses @ weights).var(axis=0).mean() == pytest.approx(0.2, abs=0.01)


def test_cleaning_is_a_projection_and_what_it_leaves_of_noise_is_known() -> None:
    layout = RunLayout(("a", "b"), (60, 80))
    rng = np.random.default_rng(0)
    nuisances = [rng.standard_normal((n, 5)) for n in layout.n_trs]
    clean = cleaning_matrix(nuisances, layout)
    np.testing.assert_allclose(clean @ clean, clean, atol=1e-10)
    for rows, nuisance in zip(layout.slices, nuisances, strict=True):
        np.testing.assert_allclose(clean[rows, rows] @ nuisance, 0, atol=1e-10)
    noise = draw_noise(rng, layout, 4000, ar=0.3, shared=0.0)
    for rows, C in zip(layout.slices, noise_covariance(clean, layout, ar=0.3), strict=True):
        left = clean[rows, rows] @ noise[rows]
        np.testing.assert_allclose(left @ left.T / 4000, C, atol=0.1)
        assert np.square(left).mean() == pytest.approx(np.trace(C) / len(C), abs=0.01)
