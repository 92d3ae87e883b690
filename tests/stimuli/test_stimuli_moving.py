"""The demo's film moves, is repeatable, and its motion says nothing about its pictures."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from brainsim.core.errors import InvalidValueError
from brainsim.core.seeds import named_rng
from brainsim.stimuli import moving
from brainsim.stimuli.moving import render_moving_photographs


def render(seed: int = 0, run: int = 1, duration_s: float = 4.0) -> np.ndarray:
    return np.stack(list(render_moving_photographs(seed, run, duration_s=duration_s)))


def test_a_run_has_the_frames_asked_for_and_repeats_by_seed() -> None:
    film = render()
    assert film.shape == (96, 96, 128, 3)
    assert film.dtype == np.uint8
    np.testing.assert_array_equal(film, render())
    assert (film != render(seed=1)).mean() > 0.5
    assert (film != render(run=2)).mean() > 0.5


def test_the_film_holds_cuts_movement_and_stillness() -> None:
    film = render(duration_s=60).astype(np.float32)
    change = np.abs(np.diff(film, axis=0)).mean(axis=(1, 2, 3))
    assert (change == 0).mean() > 0.005  # nothing moves
    assert np.quantile(change, 0.9) > 4
    cuts = np.flatnonzero(change > 25)
    assert len(cuts) >= 8
    assert film.std() > 30


def test_motion_does_not_depend_on_what_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """With other photographs the same seed gives the same paths, and with other paths the same shots."""
    options = {"n_frames": 240, "fps_hz": 24.0, "scale": 1.0}
    first = moving._draw_motion(named_rng(0, "motion", 1), **options)  # type: ignore[arg-type]  # by keyword
    list(itertools.islice(render_moving_photographs(0, 1), 24))
    again = moving._draw_motion(named_rng(0, "motion", 1), **options)  # type: ignore[arg-type]  # by keyword
    np.testing.assert_array_equal(first.camera, again.camera)
    still = moving._Motion(np.zeros((96, 2)), np.zeros(96), np.zeros((3, 96, 2)))
    with monkeypatch.context() as patch:
        patch.setattr(moving, "_draw_motion", lambda *_, **__: still)
        frozen = render()
    moved = render()
    cuts_frozen = np.flatnonzero(np.abs(np.diff(frozen.astype(int), axis=0)).any(axis=(1, 2, 3)))
    jumps = np.abs(np.diff(moved.astype(int), axis=0)).mean(axis=(1, 2, 3))
    assert len(cuts_frozen) >= 1  # without motion, only cuts change the picture
    assert (jumps[cuts_frozen] > 10).all()


def test_speed_is_unrelated_to_contrast_over_many_runs() -> None:
    speeds, contrasts = [], []
    for run in range(12):
        motion = moving._draw_motion(named_rng(0, "motion", run), n_frames=240, fps_hz=24.0, scale=1.0)
        speed = np.linalg.norm(np.diff(motion.camera, axis=0), axis=1)
        film = list(itertools.islice(render_moving_photographs(0, run, duration_s=10), 0, 240, 24))
        speeds.append(speed[23::24][: len(film)])
        contrasts.append([f.std() for f in film][: len(speeds[-1])])
    r = np.corrcoef(np.concatenate(speeds), np.concatenate(contrasts))[0, 1]
    assert abs(r) < 0.27  # n = 120: 3 standard errors


@pytest.mark.parametrize("options", [{"duration_s": 0.0}, {"fps_hz": -1.0}, {"width": 4}])
def test_films_that_cannot_be_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InvalidValueError):
        next(render_moving_photographs(0, 1, **options))  # type: ignore[arg-type]  # wrong on purpose
