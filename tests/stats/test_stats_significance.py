"""Crossed tests against their level, paired rows, and bootstraps of stimuli."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from brainsim.core.errors import InvalidValueError
from brainsim.rsa.compare import COMPARISONS, spearman
from brainsim.stats.intervals import crossed_interval, crossed_spread
from brainsim.stats.sign_flip import sign_flip_p
from brainsim.stats.significance import compare_rows, crossed_p, score_rows
from brainsim.stats.stimulus_bootstrap import draw_units, errors_of, pairs_of, similarity_draws


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def test_crossed_test_holds_its_level_where_subjects_share_a_movie_and_flips_over_subjects_do_not(
    rng: np.random.Generator,
) -> None:
    crossed, flips = [], []
    for _ in range(400):
        values = rng.standard_normal(8) + rng.standard_normal((6, 8))  # runs differ for all subjects alike
        crossed.append(crossed_p(values) <= 0.05)
        flips.append(sign_flip_p(values.mean(axis=1)) <= 0.05)
    assert 0.02 <= np.mean(crossed) <= 0.08
    assert np.mean(flips) > 0.15


@pytest.mark.parametrize("n_layers", [2, 6])
def test_scores_of_models_fitted_on_the_other_runs_need_their_own_error(
    rng: np.random.Generator, n_layers: int
) -> None:
    """What a run says about each layer is noise; a model takes the layers that did well in the other runs."""
    plain, corrected = [], []
    for _ in range(400):
        K = rng.standard_normal((1, 8, n_layers)) + 0.3 * rng.standard_normal((6, 8, n_layers))
        weights = np.clip(K.sum(axis=1, keepdims=True) - K, 0, None)  # (n_subjects, n_runs, n_layers), of other runs
        norm = np.linalg.norm(weights, axis=2)
        values = np.where(norm > 0, (K * weights).sum(axis=2) / np.where(norm > 0, norm, 1), 0)
        plain.append(crossed_p(values) <= 0.05)
        corrected.append(crossed_p(values, cross_validated=True) <= 0.05)
    assert np.mean(plain) > 0.06
    assert 0.005 <= np.mean(corrected) <= 0.065


def test_the_error_of_cross_validated_scores_is_nadeau_and_bengios(rng: np.random.Generator) -> None:
    values = rng.standard_normal((1, 8))
    _, error, freedom = crossed_spread(values, cross_validated=True)
    # One subject: s² (1 / n_folds + n_test / n_train).
    assert error**2 == pytest.approx(values.var(ddof=1) * (1 / 8 + 1 / 7))
    assert freedom == 7
    wide, narrow = (crossed_interval(rng.standard_normal((5, 6)) + 1, cross_validated=c) for c in (True, False))
    assert wide.high - wide.low > narrow.high - narrow.low


def test_p_and_interval_agree(rng: np.random.Generator) -> None:
    values = rng.standard_normal((5, 4)) + 0.5
    interval = crossed_interval(values, level=0.9)
    p = crossed_p(values)
    assert (interval.low > 0) == (p < 0.05)
    assert crossed_p(-values) == pytest.approx(1 - p)
    assert crossed_p(values, alternative="two-sided") == pytest.approx(2 * min(p, 1 - p))


def test_rows_of_systems_and_of_their_differences(rng: np.random.Generator) -> None:
    scores = rng.standard_normal((3, 5, 6)) * 0.1 + np.array([0.5, 0.5, 0.0])[:, None, None]
    rows = score_rows(scores)
    assert [row["q"] < 0.05 for row in rows[:2]] == [True, True]
    assert rows[0]["q"] >= rows[0]["p"]
    compared = {(row["a"], row["b"]): row for row in compare_rows(scores, ("x", "y", "z"))}
    assert compared["x", "z"]["mean"] == pytest.approx((scores[0] - scores[2]).mean())
    assert compared["x", "z"]["q"] < 0.01 < compared["x", "y"]["q"]
    one = score_rows(scores[:, :1])  # one subject: runs are all there is
    assert one[0]["p"] is None  # over the runs of one subject alone it would speak of nobody else
    assert one[0]["p_subjects"] is None


def test_drawn_pairs_are_never_of_one_stimulus_with_itself(rng: np.random.Generator) -> None:
    first, second = np.triu_indices(12, k=1)
    counts = np.zeros(66)
    for _ in range(300):
        pairs = pairs_of(np.sort(rng.integers(12, size=12)), n_stimuli=12)
        assert (first[pairs] != second[pairs]).all()
        assert len(pairs) < 66
        np.add.at(counts, pairs, 1)
    assert counts.min() > 0.7 * counts.mean()


def test_bootstrap_of_unrelated_rdms_is_not_inflated_and_errors_are_about_right(rng: np.random.Generator) -> None:
    n = 20
    pairs = n * (n - 1) // 2
    models, subjects = rng.random((2, pairs)), rng.random((5, pairs))
    counts, who = draw_units(n, 5, 200, seed=0)
    errors = errors_of(similarity_draws(models, subjects, spearman, counts), who, spearman(models, subjects))
    assert (errors.both >= np.maximum(errors.stimuli, errors.subjects)).all()
    # Entries are independent here: the mean of 5 correlations over 190 pairs has an error of 1 / sqrt(5 x 190).
    assert errors.subjects.mean() == pytest.approx(1 / np.sqrt(5 * pairs), rel=0.5)
    drawn = similarity_draws(models, subjects[:1], spearman, counts)
    alone = errors_of(drawn, who[:, :1] * 0, spearman(models, subjects[:1]))
    assert np.isnan(alone.subjects).all()
    np.testing.assert_array_equal(alone.both, alone.stimuli)
    with pytest.raises(InvalidValueError, match="9 stimuli"):
        draw_units(9, 5, 100, seed=0)


@pytest.mark.parametrize("name", ["pearson", "cosine"])
def test_all_draws_at_once_give_what_each_by_itself_does(
    rng: np.random.Generator, name: Literal["pearson", "cosine"]
) -> None:
    models, subjects = rng.random((2, 15 * 14 // 2)), rng.random((3, 15 * 14 // 2)) + 0.5
    counts, _ = draw_units(15, 3, 40, seed=0)
    one, all_at_once = (
        similarity_draws(models, subjects, COMPARISONS[name], counts, weighted=weighted) for weighted in (None, name)
    )
    np.testing.assert_allclose(all_at_once, one, rtol=1e-9)
