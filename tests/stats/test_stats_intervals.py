"""Intervals over subjects: known answers, coverage, missing subjects."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from brainsim.core.errors import BrainsimError
from brainsim.stats.intervals import crossed_interval, crossed_row, interval_row, mean_interval


def test_t_interval_equals_scipys() -> None:
    values = np.array([0.1, 0.3, 0.2, 0.5, 0.15])
    interval = mean_interval(values)
    low, high = stats.t.interval(0.95, 4, loc=values.mean(), scale=stats.sem(values))
    assert (interval.mean, interval.low, interval.high) == pytest.approx((values.mean(), low, high))
    assert interval.method == "t"


def test_nominal_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    hits = [
        interval.low <= 0 <= interval.high
        for interval in (mean_interval(rng.standard_normal(5), method="t") for _ in range(2000))
    ]
    assert stats.binomtest(sum(hits), 2000, 0.95).pvalue > 0.001


def test_bootstrap_is_seeded_and_taken_for_many_subjects() -> None:
    values = np.random.default_rng(0).standard_normal(40)
    first, second = mean_interval(values, seed=1), mean_interval(values, seed=1)
    assert first == second
    assert first.method == "bootstrap"
    assert first.low < values.mean() < first.high


def test_missing_subjects_are_left_out_and_counted() -> None:
    row = interval_row(np.array([0.2, np.nan, 0.4]))
    assert row["n_subjects"] == 2
    assert row["mean"] == pytest.approx(0.3)
    assert row["subjects"][1] is None


def test_one_subject_has_a_mean_and_no_interval() -> None:
    row = interval_row(np.array([0.2]))
    assert (row["mean"], row["low"], row["high"]) == (0.2, None, None)


@pytest.mark.parametrize("options", [{"level": 1.5}, {"method": "magic"}])
def test_wrong_options_are_named(options: dict[str, object]) -> None:
    with pytest.raises(BrainsimError):
        mean_interval(np.zeros(3), **options)  # type: ignore[arg-type]  # wrong on purpose


def test_crossed_interval_covers_where_runs_are_shared_and_subjects_alone_do_not() -> None:
    """Subjects and runs both vary; an interval over subjects alone misses what the runs share."""
    rng = np.random.default_rng(1)
    crossed, alone = 0, 0
    for _ in range(1000):
        table = rng.standard_normal((5, 1)) + rng.standard_normal((1, 8)) * 2 + rng.standard_normal((5, 8))
        interval = crossed_interval(table)
        crossed += interval.low <= 0 <= interval.high
        subjects = mean_interval(table.mean(axis=1), method="t")
        alone += subjects.low <= 0 <= subjects.high
    assert 0.92 < crossed / 1000 < 0.99
    assert alone < crossed


def test_crossed_interval_leaves_subjects_without_values_out() -> None:
    table = np.random.default_rng(2).standard_normal((4, 6))
    table[1] = np.nan
    row = crossed_row(table)
    assert row["n_subjects"] == 3
    assert row["subjects"][1] is None
    assert row["mean"] == pytest.approx(np.nanmean(table))


def test_crossed_interval_of_one_run_is_that_over_subjects() -> None:
    table = np.random.default_rng(2).standard_normal((4, 1))
    assert crossed_interval(table) == mean_interval(table[:, 0], method="t")
