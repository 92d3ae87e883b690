"""Kernels against the explicitly built design, and time: a feature moves only later TRs of its own run."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brainsim.core.errors import AlignmentError, InvalidValueError, NumericalError
from brainsim.core.runs import RunLayout
from brainsim.core.timing import TrGrid, average_weights
from brainsim.features.kernels import (
    centre_within_runs,
    delay_kernel,
    delayed_kernel,
    gram_from_blocks,
    normalise_kernel,
    scale_within_runs,
)

LAYOUT = RunLayout(("a", "b", "c"), (12, 9, 15))


@pytest.fixture
def X() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((36, 20)).astype(np.float32)


def delay_by_hand(X: np.ndarray, delays: tuple[int, ...]) -> np.ndarray:
    blocks = []
    for delay in delays:
        shifted = np.zeros_like(X)
        for rows in LAYOUT.slices:
            run = X[rows]
            shifted[rows][delay:] = run[: len(run) - delay]
        blocks.append(shifted)
    return np.concatenate(blocks, axis=1)


@pytest.mark.parametrize("delays", [(0,), (1, 2, 3, 4), (2, 6)])
def test_delayed_kernel_is_that_of_the_delayed_design(X: np.ndarray, delays: tuple[int, ...]) -> None:
    scaled = scale_within_runs(X, LAYOUT, scaling="zscore")
    design = delay_by_hand(scaled, delays).astype(np.float64)
    K = scaled.astype(np.float64) @ scaled.T
    np.testing.assert_allclose(delay_kernel(K, LAYOUT, delays=delays), design @ design.T, atol=1e-5)
    for rows in LAYOUT.slices:
        design[rows] -= design[rows].mean(axis=0)
    expected = design @ design.T
    np.testing.assert_allclose(centre_within_runs(delay_kernel(K, LAYOUT, delays=delays), LAYOUT), expected, atol=1e-5)
    np.testing.assert_allclose(
        delayed_kernel(K, LAYOUT, delays=delays, name="X"), expected / np.trace(expected) * 36, atol=1e-5
    )


def test_an_impulse_reaches_only_later_trs_of_its_run() -> None:
    X = np.zeros((36, 1))
    X[14] = 1  # the third TR of run b
    touched = np.flatnonzero(delay_kernel(X @ X.T, LAYOUT, delays=(1, 2, 3, 4)).diagonal())
    np.testing.assert_array_equal(touched, [15, 16, 17, 18])
    last = np.zeros((36, 1))
    last[20] = 1  # the last TR of run b: nothing leaks into run c
    assert not delay_kernel(last @ last.T, LAYOUT, delays=(1, 2, 3, 4)).any()


def test_blocks_of_features_give_the_kernel_of_the_whole(X: np.ndarray) -> None:
    def read(start: int, stop: int) -> list[np.ndarray]:
        return [X[rows, start:stop] for rows in LAYOUT.slices]

    whole = scale_within_runs(X, LAYOUT, scaling="zscore").astype(np.float64)
    for block in (1, 7, 20, 100):
        K = gram_from_blocks(read, n_features=20, layout=LAYOUT, block_features=block)
        np.testing.assert_allclose(K, whole @ whole.T, atol=1e-4)


def test_any_number_of_threads_gives_the_same_bits() -> None:
    layout = RunLayout(("a", "b"), (61, 70))
    X = np.random.default_rng(1).standard_normal((131, 500)).astype(np.float32)
    before, found = torch.get_num_threads(), []
    try:
        for n_threads in (1, 2, 5):
            torch.set_num_threads(n_threads)
            found.append(
                gram_from_blocks(
                    lambda a, b: [X[rows, a:b] for rows in layout.slices],
                    n_features=500,
                    layout=layout,
                    block_features=37,
                )
            )
            assert torch.get_num_threads() == n_threads
    finally:
        torch.set_num_threads(before)
    Z = scale_within_runs(X, layout, scaling="zscore").astype(np.float64)
    np.testing.assert_allclose(found[0], Z @ Z.T, atol=1e-3)  # of 500: 1e-5 of what is on the diagonal is 5e-3
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def test_scaling_is_within_runs_and_constant_features_stay_zero(X: np.ndarray) -> None:
    X[:, 3] = 7.1
    X[LAYOUT.slices[1], 4] = -2.5
    for scaling in ("zscore", "center"):
        scaled = scale_within_runs(X, LAYOUT, scaling=scaling)
        assert not scaled[:, 3].any() or abs(scaled[:, 3]).max() < 1e-5
        for rows in LAYOUT.slices:
            np.testing.assert_allclose(scaled[rows].mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(scale_within_runs(X, LAYOUT, scaling="zscore")[LAYOUT.slices[0], 0].std(), 1, atol=1e-6)


def test_features_that_never_vary_are_refused() -> None:
    with pytest.raises(NumericalError, match="mae/blocks"):
        normalise_kernel(np.zeros((4, 4)), name="mae/blocks.0")


def test_features_that_are_not_finite_are_refused(X: np.ndarray) -> None:
    X[5, 2] = np.nan
    with pytest.raises(NumericalError, match="not finite"):
        gram_from_blocks(lambda a, b: [X[rows, a:b] for rows in LAYOUT.slices], n_features=20, layout=LAYOUT)


@pytest.mark.parametrize("delays", [(), (-1,), (1, 1), (9,)])
def test_impossible_delays_are_named(delays: tuple[int, ...]) -> None:
    with pytest.raises(InvalidValueError, match="--delays"):
        delay_kernel(np.eye(36), LAYOUT, delays=delays)


def test_clips_are_averaged_into_the_tr_in_which_they_end() -> None:
    # Clips end every second; TR 2 s: TR k holds those that end in (2k, 2k + 2], never a later one.
    time_s = np.arange(1, 11, dtype=float)
    for grid, expected in (
        (TrGrid(5, 2.0), [1.5, 3.5, 5.5, 7.5, 9.5]),
        (TrGrid(3, 2.0, start_s=4.0), [5.5, 7.5, 9.5]),
        (TrGrid(1, 3.0, start_s=-1.0), [1.5]),
    ):
        trs, clips, weights = average_weights(time_s, grid)
        assert weights.dtype == np.float32
        np.testing.assert_allclose(np.bincount(trs, weights * time_s[clips]), expected, rtol=1e-6)
        np.testing.assert_allclose(np.bincount(trs, weights), 1, rtol=1e-6)


def test_a_tr_without_a_clip_is_named_with_its_time() -> None:
    with pytest.raises(AlignmentError, match=r"2 of 7 TRs .* TR 5, ending at 12\.000 s") as error:
        average_weights(np.arange(1, 11, dtype=float), TrGrid(7, 2.0))
    assert error.value.hint is not None
