"""Corrections over several tests: Holm by hand and against its definition, the others as they are elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from brainsim.core.errors import InvalidValueError
from brainsim.stats.corrections import correct, holm_adjusted
from brainsim.stats.fdr import false_discovery_rates


def test_holm_multiplies_by_the_tests_that_are_left() -> None:
    np.testing.assert_allclose(holm_adjusted(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])


def test_holm_rejects_what_its_steps_reject() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        p = rng.uniform(size=6) ** 3
        rejected = np.zeros(6, bool)
        for step, index in enumerate(np.argsort(p)):
            if p[index] > 0.05 / (6 - step):
                break
            rejected[index] = True
        np.testing.assert_array_equal(holm_adjusted(p) <= 0.05, rejected)


def test_tests_that_were_not_made_do_not_count() -> None:
    np.testing.assert_equal(holm_adjusted(np.array([0.01, np.nan, 0.02])), [0.02, np.nan, 0.02])
    assert np.isnan(holm_adjusted(np.full(3, np.nan))).all()


def test_the_method_is_the_one_that_was_named() -> None:
    p = np.array([0.001, 0.02, 0.03, 0.4])
    np.testing.assert_array_equal(correct(p, method="holm"), holm_adjusted(p))
    np.testing.assert_array_equal(correct(p, method="bh"), false_discovery_rates(p))
    np.testing.assert_array_equal(correct(p, method="by"), false_discovery_rates(p, method="by"))
    with pytest.raises(InvalidValueError, match="correction"):
        correct(p, method="none")


def test_bad_p_values_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="0 to 1"):
        holm_adjusted(np.array([0.2, 1.2]))
