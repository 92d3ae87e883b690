"""Turn a movie's frame times into clips: which frames each row of features sees, found by time, never by count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from brainsim.core.checks import check_choice, check_count, check_number
from brainsim.core.errors import InvalidValueError
from brainsim.core.timing import SAME_TIME_S
from brainsim.stimuli.stimulus import Stimulus

ClipWindow = Literal["trailing", "centred"]
CLIP_WINDOWS = ("trailing", "centred")
PADS = ("repeat", "drop", "error")
# A frame that stays this long on screen, and ten times as long as is usual, is a gap in the recording, or a still.
HELD_S, HELD_FRAMES = 1.0, 10


@dataclass(frozen=True)
class ClipPlan:
    """Which frames each clip holds.

    Parameters
    ----------
    time_s : ndarray of float64, (n_clips,)
        Reference time: the end of the window when trailing, its middle when centred.
    window_s : ndarray of float64, (n_clips, 2)
        Begin and end of the window in stimulus seconds, as planned (a begin below 0: padded).
    frame_index : ndarray of int64, (n_clips, n_frames)
        Frames of each clip, in order of time.
    is_padded : ndarray of bool, (n_clips,)
        Clips whose window reaches beyond the movie: its first (last) frame is repeated there.
    is_held : ndarray of bool, (n_clips,)
        Clips with a frame that stays on screen for much longer than is usual in this movie: a gap, or a still.
    n_dropped : int
        Clips that `pad="drop"` left out.
    """

    time_s: np.ndarray
    window_s: np.ndarray
    frame_index: np.ndarray
    is_padded: np.ndarray
    is_held: np.ndarray
    n_dropped: int = 0

    @property
    def n_clips(self) -> int:
        """Number of clips."""
        return len(self.time_s)

    @property
    def n_padded(self) -> int:
        """Number of clips with a repeated first or last frame."""
        return int(self.is_padded.sum())

    @property
    def n_held(self) -> int:
        """Number of clips with a frame that stays on screen for much longer than is usual."""
        return int(self.is_held.sum())


def plan_clips(
    stimulus: Stimulus,
    *,
    n_frames: int,
    frame_stride: int = 1,
    frame_rate_hz: float | None = None,
    step_s: float = 1.0,
    window: str = "trailing",
    pad: str = "repeat",
) -> ClipPlan:
    """Plan one clip per `step_s` seconds of movie.

    Frame k is on screen during [t_k, t_k+1). Clip i, trailing, has the reference time (i + 1) step_s: its last frame is
    the one on screen just before, so that no clip sees its future. Centred, the reference time is (i + 1/2) step_s and
    the window lies around it. Frames of a clip are `frame_stride / frame_rate_hz` seconds apart. A clip exists where
    its reference time is not more than half a frame beyond the movie's end. Images are rows of their own: one clip per
    image, which fills all its frames.

    Parameters
    ----------
    stimulus : Stimulus
        What is shown.
    n_frames : int
        Frames per clip.
    frame_stride : int
        Distance of neighbouring frames of a clip, counted in frames of `frame_rate_hz`.
    frame_rate_hz : float, optional
        Rate in which the stride counts; default: the movie's own.
    step_s : float
        Seconds from one clip to the next.
    window : {"trailing", "centred"}
        Where the window lies.
    pad : {"repeat", "drop", "error"}
        What becomes of clips whose window reaches beyond the movie, or into a gap of it: "repeat" keeps them, with the
        frame that is nearest, or on screen, as often as it takes, and marks them; "drop" leaves them out; "error"
        refuses them. Images have neither.

    Raises
    ------
    InvalidValueError
        An option that is not allowed, a movie shorter than one step, or no clip that is left.
    """
    check_count("n_frames", n_frames)
    check_count("frame_stride", frame_stride)
    check_choice("clip_window", window, CLIP_WINDOWS)
    check_choice("pad", pad, PADS)
    if stimulus.kind == "images":
        return _plan_images(stimulus, n_frames=n_frames)
    check_number("step_s", step_s, above=0, unit="s", hint="--step-s is in seconds")
    rate_hz = stimulus.fps_hz
    if frame_rate_hz is not None:
        rate_hz = check_number("frame_rate_hz", frame_rate_hz, above=0, unit="Hz")
    spacing_s = frame_stride / rate_hz
    first_s = step_s if window == "trailing" else step_s / 2
    tolerance_s = min(stimulus.frame_interval_s, step_s) / 2
    n_clips = int(np.floor((stimulus.duration_s + tolerance_s - first_s) / step_s + 1e-9)) + 1
    if n_clips < 1:
        raise InvalidValueError(
            f"{stimulus.name} lasts {stimulus.duration_s:.3f} s, less than one step of {step_s:g} s; no clip fits.",
            hint=f"--step-s {stimulus.duration_s:.3g} or less",
        )
    time_s = first_s + np.arange(n_clips) * step_s
    shown_s = min(1.0 / stimulus.fps_hz, spacing_s)
    span_s = (n_frames - 1) * spacing_s
    if window == "trailing":
        # The frame on screen just before the reference time; the others are counted back from it.
        last = _frame_at(stimulus, time_s - SAME_TIME_S)
        anchor_s = _anchor(stimulus, last, np.minimum(time_s, stimulus.duration_s))
        query_s = anchor_s[:, None] + (np.arange(n_frames) - (n_frames - 1)) * spacing_s
        frame_index = np.minimum(_frame_at(stimulus, query_s), last[:, None])
        end_s = time_s
    else:
        begin_s = time_s - span_s / 2
        first = _frame_at(stimulus, begin_s + SAME_TIME_S)
        since_s = begin_s - stimulus.frame_time_s[first]
        steady = (since_s >= -SAME_TIME_S) & (since_s < stimulus.frame_interval_s)
        anchor_s = np.where(steady, stimulus.frame_time_s[first] + stimulus.frame_interval_s / 2, begin_s)
        query_s = anchor_s[:, None] + np.arange(n_frames) * spacing_s
        frame_index = _frame_at(stimulus, query_s)
        end_s = time_s + (span_s + shown_s) / 2
    window_s = np.stack([end_s - span_s - shown_s, end_s], axis=1)
    outside = (query_s < -SAME_TIME_S) | (query_s >= stimulus.duration_s + SAME_TIME_S)
    held = _held_frames(stimulus)[frame_index].any(axis=1)
    return _apply_pad(ClipPlan(time_s, window_s, frame_index, outside.any(axis=1), held), stimulus, pad)


def _held_frames(stimulus: Stimulus) -> np.ndarray:
    """Return which frames, bool (n_frames,), stay on screen for much longer than is usual."""
    shown_s = np.diff(np.append(stimulus.frame_time_s, stimulus.duration_s))
    held: np.ndarray = shown_s > max(HELD_S, HELD_FRAMES * stimulus.frame_interval_s) + SAME_TIME_S
    return held


def _apply_pad(plan: ClipPlan, stimulus: Stimulus, pad: str) -> ClipPlan:
    is_touched = plan.is_padded | plan.is_held
    if pad == "repeat" or not is_touched.any():
        return plan
    keep = ~is_touched
    if pad == "error" or not keep.any():
        first = int(np.flatnonzero(is_touched)[0])
        begin_s, end_s = plan.window_s[first]
        what = "all of them" if not keep.any() else f"the first at {plan.time_s[first]:.3f} s"
        raise InvalidValueError(
            f"{stimulus.name} lasts {stimulus.duration_s:.3f} s; {plan.n_padded} of {plan.n_clips} clips reach beyond "
            f"it and {plan.n_held} into gaps ({what}: {begin_s:.3f} to {end_s:.3f} s).",
            hint="--pad repeat keeps them and says so" + ("" if not keep.any() else "; --pad drop leaves them out"),
        )
    return ClipPlan(
        plan.time_s[keep],
        plan.window_s[keep],
        plan.frame_index[keep],
        plan.is_padded[keep],
        plan.is_held[keep],
        n_dropped=int(is_touched.sum()),
    )


def _plan_images(stimulus: Stimulus, *, n_frames: int) -> ClipPlan:
    edges_s = np.append(stimulus.frame_time_s, stimulus.duration_s)
    frame_index = np.repeat(np.arange(stimulus.n_frames)[:, None], n_frames, axis=1)
    window_s = np.stack([edges_s[:-1], edges_s[1:]], axis=1)
    never = np.zeros(stimulus.n_frames, bool)
    return ClipPlan(edges_s[1:].copy(), window_s, frame_index, never, never)


def _frame_at(stimulus: Stimulus, time_s: np.ndarray) -> np.ndarray:
    """Return the frame on screen at each time; the first before the movie, the last after it."""
    index = np.searchsorted(stimulus.frame_time_s, time_s, side="right") - 1
    return np.clip(index, 0, stimulus.n_frames - 1).astype(np.int64)


def _anchor(stimulus: Stimulus, frame: np.ndarray, now_s: np.ndarray) -> np.ndarray:
    """Return the time from which a clip's other frames are counted: the middle of the frame that is on screen.

    Counting from the middle keeps a constant rate constant where times are rounded (29.97 Hz in milliseconds). A frame
    that is held for longer than usual has been on screen until now, so then the count begins half a frame before now.
    """
    half_s = stimulus.frame_interval_s / 2
    anchor_s: np.ndarray = np.maximum(stimulus.frame_time_s[frame] + half_s, now_s - half_s)
    return anchor_s
