"""False discovery rates: equal to the definition, and what was not tested takes no part."""

from __future__ import annotations

import numpy as np
import pytest

from brainsim.core.errors import InvalidValueError, UnknownNameError
from brainsim.stats.fdr import false_discovery_rates


def test_q_values_are_those_of_the_definition() -> None:
    p = np.random.default_rng(0).uniform(size=(3, 40)) ** 3
    q = false_discovery_rates(p)
    for row in range(3):
        order = np.argsort(p[row])
        scaled = p[row][order] * 40 / np.arange(1, 41)
        expected = np.minimum.accumulate(scaled[::-1])[::-1].clip(max=1)
        np.testing.assert_allclose(q[row][order], expected)
    assert (false_discovery_rates(p, method="by") >= q).all()


def test_what_was_not_tested_stays_nan_and_does_not_count() -> None:
    p = np.array([0.01, np.nan, 0.04, 0.03, np.nan])
    q = false_discovery_rates(p)
    np.testing.assert_array_equal(np.isnan(q), np.isnan(p))
    np.testing.assert_allclose(q[[0, 2, 3]], false_discovery_rates(p[[0, 2, 3]]))
    assert np.isnan(false_discovery_rates(np.full(3, np.nan))).all()


def test_of_null_tests_few_are_found_in_any_family_of_tests() -> None:
    p = np.random.default_rng(1).uniform(size=(400, 50))
    found = (false_discovery_rates(p) <= 0.05).any(axis=1).mean()
    assert 0.02 < found < 0.085  # where all are null, the rate is the chance of finding any: 5 %


def test_numbers_that_are_no_p_values_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="0 to 1"):
        false_discovery_rates(np.array([0.5, 1.2]))
    with pytest.raises((InvalidValueError, UnknownNameError), match="method"):
        false_discovery_rates(np.array([0.5]), method="bonferroni")  # type: ignore[arg-type]  # what is tested
