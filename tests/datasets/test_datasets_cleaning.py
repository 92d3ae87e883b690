"""Cleaning equals nilearn's, and masks what has no signal."""

from __future__ import annotations

import numpy as np
import pytest
from nilearn.signal import clean
from numpy.testing import assert_allclose

from brainsim.core.errors import InvalidValueError
from brainsim.datasets.cleaning import N_AT_ONCE, CleaningOptions, clean_signals, make_basis, make_drifts
from brainsim.datasets.quality import measure_quality

N_TRS, TR_S = 120, 1.5


def make_raw(n_targets: int = 30) -> np.ndarray:
    rng = np.random.default_rng(0)
    drift = np.cumsum(rng.normal(size=(N_TRS, n_targets)), axis=0)
    return (5000 + 3 * drift + rng.normal(0, 20, (N_TRS, n_targets))).astype(np.float32)


@pytest.mark.parametrize("standardize", ["zscore", "psc", "none"])
@pytest.mark.parametrize("n_confounds", [0, 6])
@pytest.mark.parametrize("high_pass_s", [None, 100.0, 128.0])
def test_cleaning_equals_nilearn(standardize: str, n_confounds: int, high_pass_s: float | None) -> None:
    raw = make_raw()
    confounds = np.random.default_rng(1).normal(3, 2, (N_TRS, n_confounds))
    basis = make_basis(confounds, make_drifts(N_TRS, tr_s=TR_S, high_pass_s=high_pass_s), where="run")

    ours = clean_signals(raw, basis, standardize=standardize).bold

    high_pass = {} if high_pass_s is None else {"filter": "cosine", "high_pass": 1 / high_pass_s}
    peer = clean(
        raw.astype(np.float64),
        detrend=False,
        standardize={"zscore": "zscore_sample", "psc": "psc", "none": None}[standardize],
        confounds=confounds if n_confounds else None,
        t_r=TR_S,
        **(high_pass or {"filter": False}),
    )
    if standardize == "zscore":
        peer = peer * np.sqrt(N_TRS / (N_TRS - 1))  # nilearn divides by n - 1
    elif standardize == "none":
        peer = peer - peer.mean(axis=0)
    assert_allclose(ours, peer, atol=1e-5 * np.abs(peer).max())


def test_zscores_have_mean_zero_and_deviation_one_in_float64_sums() -> None:
    cleaned = clean_signals(make_raw() + 1e5, np.empty((N_TRS, 0)))

    assert_allclose(cleaned.bold.astype(np.float64).mean(axis=0), 0, atol=1e-7)
    assert_allclose(cleaned.bold.astype(np.float64).std(axis=0), 1, atol=1e-6)


def test_a_confound_that_is_a_drift_counts_once() -> None:
    drifts = make_drifts(N_TRS, tr_s=TR_S, high_pass_s=100.0)
    alone = make_basis(np.empty((N_TRS, 0)), drifts, where="run")
    twice = make_basis(np.c_[drifts[:, :1] * 7 + 2, np.ones(N_TRS)], drifts, where="run")

    assert twice.shape == alone.shape
    assert_allclose(twice @ twice.T, alone @ alone.T, atol=1e-10)


def test_targets_without_signal_are_masked_for_their_reason_and_never_spread() -> None:
    raw = make_raw(6)
    drift = make_drifts(N_TRS, tr_s=TR_S, high_pass_s=100.0)
    raw[7, 1] = np.nan
    raw[9, 2] = np.inf
    raw[:, 3] = 4.0
    raw[:, 4] = 5000 + 10 * drift[:, 0]
    basis = make_basis(np.empty((N_TRS, 0)), drift, where="run")

    cleaned = clean_signals(raw, basis)

    assert cleaned.valid.tolist() == [True, False, False, False, False, True]
    assert {reason: np.flatnonzero(m).tolist() for reason, m in cleaned.masked.items()} == {
        "nan": [1, 2],
        "constant": [3],
        "explained": [4],
        "zero-mean": [],
    }
    assert np.isnan(cleaned.bold[:, ~cleaned.valid]).all()
    alone = clean_signals(raw[:, [0, 5]], basis)
    np.testing.assert_array_equal(cleaned.bold[:, cleaned.valid], alone.bold)


def test_blocks_of_targets_change_nothing() -> None:
    raw = np.tile(make_raw(10), (1, N_AT_ONCE // 10 + 2))
    basis = make_basis(np.empty((N_TRS, 0)), make_drifts(N_TRS, tr_s=TR_S, high_pass_s=128.0), where="run")

    whole = clean_signals(raw, basis).bold

    assert_allclose(whole, np.tile(whole[:, :10], (1, N_AT_ONCE // 10 + 2)), atol=1e-6)


def test_regressors_that_leave_nothing_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="8 volumes, and 7 confounds"):
        make_basis(np.random.default_rng(0).normal(size=(8, 7)), np.empty((8, 0)), where="run")


def test_variance_removed_is_what_a_regression_explains() -> None:
    raw = make_raw()
    basis = make_basis(np.empty((N_TRS, 0)), make_drifts(N_TRS, tr_s=TR_S, high_pass_s=100.0), where="run")
    X = np.c_[basis, np.ones(N_TRS)]
    residual = raw - X @ np.linalg.lstsq(X, raw.astype(np.float64), rcond=None)[0]

    assert_allclose(clean_signals(raw, basis).variance_removed, 1 - residual.var(axis=0) / raw.var(axis=0), atol=1e-4)


def test_quality_finds_the_planted_spike_and_leaves_centred_values_without_tsnr() -> None:
    raw = make_raw()
    raw[50] += 2000
    cleaned = clean_signals(raw, np.empty((N_TRS, 0)))
    displacement = np.r_[np.nan, np.full(N_TRS - 1, 0.25)]

    quality = measure_quality(cleaned, displacement_mm=displacement)

    assert quality["n_outlier_trs"] == 2  # into the spike and out of it
    assert quality["fd_mean"] == 0.25
    assert quality["tsnr_median"] == pytest.approx(np.median(raw.mean(axis=0) / raw.std(axis=0)), rel=1e-5)
    centred = clean_signals(raw - raw.mean(axis=0), np.empty((N_TRS, 0)))
    assert measure_quality(centred)["tsnr_median"] is None


def test_options_describe_themselves_for_keys() -> None:
    assert CleaningOptions(("a", "b"), None, 3, "psc").describe() == {
        "confounds": "a,b",
        "high_pass_s": None,
        "drop_volumes": 3,
        "standardize": "psc",
    }
