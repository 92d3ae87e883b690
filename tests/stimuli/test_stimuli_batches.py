"""One decoding pass serves every model's clips, and holds no more frames than it must."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainsim.stimuli import ClipRequest, Stimulus, batches, iter_clip_batches, open_stimulus, plan_clips


@pytest.fixture
def movie(tmp_path: Path) -> Stimulus:
    values = np.random.default_rng(0).integers(0, 256, (120, 8, 12, 3), np.uint8)
    np.save(tmp_path / "m.npy", values)
    return open_stimulus(tmp_path / "m.npy", frame_s=0.04)


@pytest.mark.parametrize("window", ["trailing", "centred"])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_batches_equal_indexing_the_whole_movie(movie: Stimulus, window: str, batch_size: int) -> None:
    values = np.load(movie.path)
    requests = {
        "one": ClipRequest(plan_clips(movie, n_frames=1, step_s=0.5, window=window), (8, 12), batch_size),
        "many": ClipRequest(plan_clips(movie, n_frames=16, step_s=0.2, window=window), (8, 12), batch_size),
        "wide": ClipRequest(plan_clips(movie, n_frames=8, frame_stride=4, window=window), (8, 12), batch_size),
    }
    got: dict[str, list[np.ndarray]] = {name: [] for name in requests}
    for batch in iter_clip_batches(movie, requests):
        assert batch.first == sum(len(b) for b in got[batch.request])
        assert len(batch.frames) <= batch_size
        got[batch.request].append(batch.frames)
    for name, request in requests.items():
        np.testing.assert_array_equal(np.concatenate(got[name]), values[request.plan.frame_index])


def test_each_frame_is_decoded_once_and_let_go(movie: Stimulus, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    inner = batches.iter_frames

    def count(*args: Any, **options: Any) -> Iterator[tuple[int, Mapping[Any, np.ndarray]]]:
        for index, frames in inner(*args, **options):
            seen.append(index)
            yield index, frames

    monkeypatch.setattr(batches, "iter_frames", count)
    plan = plan_clips(movie, n_frames=10, step_s=0.2)
    most = 0
    requests = {"a": ClipRequest(plan, (4, 6), 2), "b": ClipRequest(plan, (4, 6), 1)}
    for batch in iter_clip_batches(movie, requests):
        most = max(most, batch.frames.shape[0] * batch.frames.shape[1])
    assert len(seen) == len(set(seen)) == len(np.unique(plan.frame_index))
    assert most == 20
