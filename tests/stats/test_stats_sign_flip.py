"""Sign flips over subjects: exact against a slow count, level under the null, power, and what cannot be reached."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from brainsim.core.errors import InvalidValueError
from brainsim.stats.sign_flip import least_p, sign_flip_p


def slow(values: np.ndarray, alternative: str) -> float:
    means = [np.mean(np.array(signs) * values) for signs in product((1, -1), repeat=len(values))]
    observed = values.mean()
    if alternative == "greater":
        return float(np.mean([m >= observed - 1e-12 for m in means]))
    if alternative == "less":
        return float(np.mean([m <= observed + 1e-12 for m in means]))
    return float(np.mean([abs(m) >= abs(observed) - 1e-12 for m in means]))


@pytest.mark.parametrize("alternative", ["greater", "less", "two-sided"])
@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_every_flip_is_counted(n: int, alternative: str) -> None:
    values = np.random.default_rng(n).normal(0.3, 1, (n, 4))
    expected = [slow(column, alternative) for column in values.T]
    np.testing.assert_allclose(sign_flip_p(values, alternative=alternative), expected)  # type: ignore[arg-type]


def test_it_is_that_of_scipy() -> None:
    from scipy.stats import permutation_test

    values = np.random.default_rng(0).normal(0.4, 1, 12)
    found = permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert sign_flip_p(values, alternative="two-sided") == pytest.approx(found.pvalue)


def test_ties_count_as_reached() -> None:
    assert sign_flip_p(np.array([0.1, 0.2, 0.3])) == 1 / 8
    assert sign_flip_p(np.zeros(4)) == 1
    assert sign_flip_p(np.array([1.0, 1.0, -1.0, -1.0])) == pytest.approx(11 / 16)


def test_the_least_p_is_that_of_subjects_who_all_agree() -> None:
    for n in (1, 5, 14):
        assert sign_flip_p(np.arange(1.0, n + 1)) == least_p(n) == 2.0**-n


def test_many_subjects_are_drawn_near_the_t_test() -> None:
    from scipy.stats import ttest_1samp

    values = np.random.default_rng(1).normal(0.3, 1, 40)
    drawn = sign_flip_p(values)
    assert drawn == pytest.approx(ttest_1samp(values, 0, alternative="greater").pvalue, abs=0.01)
    assert drawn == sign_flip_p(values)
    assert sign_flip_p(np.full(40, 1.0)) == least_p(40)


def test_the_level_is_held_where_subjects_scatter_differently() -> None:
    rng = np.random.default_rng(2)
    scale = np.geomspace(0.1, 10, 10)[:, None]
    p = sign_flip_p(rng.standard_t(3, (10, 2000)) * scale)
    assert 0.038 < (p <= 0.05).mean() < 0.062


def test_subjects_without_a_value_are_left_out() -> None:
    values = np.array([[0.4, np.nan], [0.2, np.nan], [np.nan, np.nan]])
    np.testing.assert_equal(sign_flip_p(values), [0.25, np.nan])


def test_bad_values_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="first axis"):
        sign_flip_p(np.zeros((0, 3)))
    with pytest.raises(InvalidValueError, match="alternative"):
        sign_flip_p(np.zeros(3), alternative="larger")  # type: ignore[arg-type]
