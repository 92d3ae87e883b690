"""Clips are found by time, never see their future, and say where they were padded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from brainsim.core.errors import InvalidValueError
from brainsim.stimuli import Stimulus, plan_clips


def movie(times_s: np.ndarray, *, duration_s: float | None = None, kind: str = "video") -> Stimulus:
    times_s = np.asarray(times_s, np.float64)
    end_s = duration_s if duration_s is not None else float(times_s[-1] + np.median(np.diff(times_s)))
    return Stimulus("m", Path("m"), kind, times_s, end_s, 64, 48, "0" * 64)  # type: ignore[arg-type]  # str for a Literal


def constant(n: int, fps: float) -> Stimulus:
    return movie(np.arange(n) / fps)


def shown_at(stimulus: Stimulus, time_s: float) -> int:
    """The slow reference: walk over all frames."""
    on_screen = 0
    for index, begin_s in enumerate(stimulus.frame_time_s):
        if begin_s <= time_s:
            on_screen = index
    return on_screen


def test_a_trailing_clip_ends_with_the_frame_just_before_its_time() -> None:
    plan = plan_clips(constant(240, 24), n_frames=16, step_s=1.0)
    assert plan.n_clips == 10
    np.testing.assert_allclose(plan.time_s, np.arange(1, 11))
    for clip in range(10):
        np.testing.assert_array_equal(plan.frame_index[clip], 24 * (clip + 1) - 16 + np.arange(16))
    np.testing.assert_allclose(plan.window_s[3], [4 - 16 / 24, 4])
    assert plan.n_padded == 0


@pytest.mark.parametrize("fps", [23.976, 24, 25, 29.97, 50])
@pytest.mark.parametrize("step_s", [0.2, 0.5, 1.0, 1.317025, 2.0])
@pytest.mark.parametrize("stride", [1, 4])
def test_a_constant_rate_gives_evenly_spaced_frames_whatever_the_step(fps: float, step_s: float, stride: int) -> None:
    # Times rounded to milliseconds, as Matroska stores them, change nothing.
    exact = np.arange(round(40 * fps)) / fps
    for times in (exact, np.round(exact, 3)):
        plan = plan_clips(movie(times), n_frames=8, frame_stride=stride, step_s=step_s)
        whole = ~plan.is_padded
        assert whole.sum() > 10
        assert (np.diff(plan.frame_index[whole], axis=1) == stride).all()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("stride", [1, 3])
def test_no_clip_sees_its_future_and_frames_match_a_walk_over_all_times(seed: int, stride: int) -> None:
    rng = np.random.default_rng(seed)
    stimulus = movie(np.concatenate([[0], np.cumsum(rng.choice([0.02, 0.04, 0.04, 0.04, 0.3], 300))]))
    plan = plan_clips(stimulus, n_frames=5, frame_stride=stride, step_s=0.7)
    starts = stimulus.frame_time_s[plan.frame_index]
    assert (starts < plan.time_s[:, None]).all()
    assert (np.diff(plan.frame_index, axis=1) >= 0).all()
    spacing_s = stride * stimulus.frame_interval_s
    for clip in range(plan.n_clips):
        assert plan.frame_index[clip, -1] == shown_at(stimulus, plan.time_s[clip] - 1e-4)
        # Each earlier frame is on screen within one frame interval of the time it stands for.
        for back in range(5):
            wanted_s = plan.time_s[clip] - back * spacing_s
            begin = stimulus.frame_time_s[plan.frame_index[clip, -1 - back]]
            ends = np.append(stimulus.frame_time_s, stimulus.duration_s)[plan.frame_index[clip, -1 - back] + 1]
            if wanted_s > spacing_s:
                assert begin - stimulus.frame_interval_s <= wanted_s <= ends + stimulus.frame_interval_s


def test_a_held_frame_fills_the_clips_that_end_while_it_is_shown() -> None:
    stimulus = movie(np.concatenate([np.arange(25) * 0.04, 3 + np.arange(25) * 0.04]))  # frame 24 is shown for 2 s
    plan = plan_clips(stimulus, n_frames=4, step_s=0.5)
    held = np.flatnonzero((plan.time_s > 1.2) & (plan.time_s <= 3.0))
    assert (plan.frame_index[held] == 24).all()


def test_a_window_that_begins_before_the_movie_repeats_the_first_frame_and_is_counted() -> None:
    plan = plan_clips(constant(240, 24), n_frames=16, frame_stride=4, step_s=1.0)
    assert plan.n_padded == 2
    np.testing.assert_array_equal(plan.is_padded, np.arange(10) < 2)
    np.testing.assert_array_equal(plan.frame_index[0], [0] * 10 + [3, 7, 11, 15, 19, 23])
    assert plan.window_s[0, 0] < 0


def test_a_frame_that_is_held_for_seconds_marks_its_clips() -> None:
    times = np.concatenate([np.arange(50) / 25, 5.0 + np.arange(50) / 25])  # nothing new between 1.96 and 5 s
    plan = plan_clips(movie(times), n_frames=4, step_s=0.5)
    np.testing.assert_array_equal(plan.time_s[plan.is_held], [2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0])
    left = plan_clips(movie(times), n_frames=4, step_s=0.5, pad="drop")
    assert (left.n_clips, left.n_dropped, left.n_held) == (plan.n_clips - 7, 7, 0)
    np.testing.assert_array_equal(left.time_s, plan.time_s[~plan.is_held])
    np.testing.assert_array_equal(left.frame_index, plan.frame_index[~plan.is_held])
    with pytest.raises(
        InvalidValueError, match=r"0 of 14 clips reach beyond it and 7 into gaps \(the first at 2.000 s"
    ):
        plan_clips(movie(times), n_frames=4, step_s=0.5, pad="error")


def test_a_movie_too_short_for_any_clip_cannot_be_made_to_fit_by_leaving_clips_out() -> None:
    with pytest.raises(InvalidValueError, match=r"1 of 1 clips reach beyond it and 0 into gaps \(all of them") as error:
        plan_clips(constant(25, 25), n_frames=64, step_s=1.0, pad="drop")
    assert error.value.hint == "--pad repeat keeps them and says so"


def test_the_stride_counts_in_the_rate_that_a_model_was_trained_at() -> None:
    plan = plan_clips(constant(500, 50), n_frames=4, frame_stride=2, frame_rate_hz=25, step_s=1.0)
    assert (np.diff(plan.frame_index, axis=1) == 4).all()


@pytest.mark.parametrize(
    ("n_frames", "expected"), [(1, [[12], [36]]), (3, [[11, 12, 13], [35, 36, 37]]), (4, [[10, 11, 12, 13]])]
)
def test_a_centred_window_lies_around_its_time(n_frames: int, expected: list[list[int]]) -> None:
    plan = plan_clips(constant(48, 24), n_frames=n_frames, step_s=1.0, window="centred")
    np.testing.assert_allclose(plan.time_s, [0.5, 1.5])
    np.testing.assert_array_equal(plan.frame_index[: len(expected)], expected)
    np.testing.assert_allclose(plan.window_s.mean(axis=1), plan.time_s)


def test_a_centred_window_past_either_end_is_padded() -> None:
    plan = plan_clips(constant(24, 24), n_frames=30, step_s=1.0, window="centred")
    assert plan.n_padded == 1
    assert (plan.frame_index[0, 0], plan.frame_index[0, -1]) == (0, 23)


def test_clips_beyond_the_end_do_not_exist_but_half_a_frame_is_forgiven() -> None:
    assert plan_clips(constant(1438, 24), n_frames=1).n_clips == 59  # 59.917 s
    assert plan_clips(movie(np.arange(1440) / 24, duration_s=59.99), n_frames=1).n_clips == 60


def test_images_are_rows_of_their_own() -> None:
    plan = plan_clips(movie(np.arange(5.0), kind="images"), n_frames=16, frame_stride=4, step_s=0.3)
    np.testing.assert_array_equal(plan.frame_index, np.repeat(np.arange(5)[:, None], 16, axis=1))
    np.testing.assert_allclose(plan.time_s, np.arange(1, 6))
    assert plan.n_padded == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step_s": 20.0}, "lasts 10.000 s, less than one step of 20 s"),
        ({"step_s": 0.0}, "step_s is 0 s; it must be above 0 s"),
        ({"step_s": float("nan")}, "step_s is nan"),
        ({"n_frames": 0}, "n_frames is 0"),
        ({"frame_stride": 0}, "frame_stride is 0"),
        ({"window": "leading"}, "clip_window is 'leading'"),
        ({"frame_rate_hz": -1.0}, "frame_rate_hz is -1 Hz"),
    ],
)
def test_what_cannot_be_planned_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        plan_clips(constant(240, 24), **({"n_frames": 4} | options))  # type: ignore[arg-type]  # wrong on purpose
