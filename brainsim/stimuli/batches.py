"""Turn one decoding pass over a movie into the batches of clips of every model that watches it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from brainsim.stimuli.clips import ClipPlan
from brainsim.stimuli.frames import Size, iter_frames
from brainsim.stimuli.stimulus import Stimulus


@dataclass(frozen=True)
class ClipRequest:
    """What one model wants of a movie.

    Parameters
    ----------
    plan : ClipPlan
        Which frames each clip holds.
    size : (int, int)
        Height and width of its frames, px.
    batch_size : int
        Clips per batch; the last batch may be smaller.
    first : int
        First clip wanted; those before it are left out.
    """

    plan: ClipPlan
    size: Size
    batch_size: int
    first: int = 0


@dataclass(frozen=True)
class ClipBatch:
    """Neighbouring clips of one request.

    Parameters
    ----------
    request : str
        Whose.
    first : int
        Number of the first clip.
    frames : ndarray of uint8, (n_clips, n_frames, height, width, 3)
        RGB.
    """

    request: str
    first: int
    frames: np.ndarray


def iter_clip_batches(
    stimulus: Stimulus, requests: Mapping[str, ClipRequest], *, resize: str = "crop"
) -> Iterator[ClipBatch]:
    """Decode a stimulus once and yield every request's clips, batch by batch, in order within each request.

    A frame is decoded once and resized once per distinct size; overlapping clips and requests of one size share it, and
    it is let go when no coming clip needs it. Memory is bounded by the longest window and one batch per request.

    Parameters
    ----------
    stimulus : Stimulus
        What to decode.
    requests : mapping of str to ClipRequest
        What is wanted, under names that the batches carry.
    resize : {"crop", "stretch", "pad"}
        See `iter_frames`.
    """
    wanted: dict[Size, np.ndarray] = {}
    for request in requests.values():
        mask = wanted.setdefault(request.size, np.zeros(stimulus.n_frames, bool))
        mask[request.plan.frame_index[request.first :].ravel()] = True
    cursors = {name: _Cursor(name, request) for name, request in requests.items()}
    held: dict[Size, dict[int, np.ndarray]] = {size: {} for size in wanted}
    for index, frames in iter_frames(stimulus, wanted, resize=resize):
        for size, frame in frames.items():
            held[size][index] = frame
        for cursor in cursors.values():
            yield from cursor.advance(index, held[cursor.request.size])
        for size in frames:
            keep = min(c.oldest_needed for c in cursors.values() if c.request.size == size)
            for old in [i for i in held[size] if i < keep]:
                del held[size][old]


class _Cursor:
    """How far one request has been served."""

    def __init__(self, name: str, request: ClipRequest) -> None:
        self.name, self.request = name, request
        index = request.plan.frame_index
        self.newest = index.max(axis=1)  # (n_clips,) the frame that completes each clip
        # (n_clips,) the oldest frame that this clip or a later one needs
        self.oldest = np.minimum.accumulate(index.min(axis=1)[::-1])[::-1]
        self.next_clip = request.first

    @property
    def oldest_needed(self) -> int:
        """First frame that must be kept; beyond every frame when all clips are served."""
        if self.next_clip < len(self.oldest):
            return int(self.oldest[self.next_clip])
        return int(np.iinfo(np.int64).max)

    def advance(self, index: int, held: Mapping[int, np.ndarray]) -> Iterator[ClipBatch]:
        """Yield the batches that frame `index` completes."""
        n_clips, size = self.request.plan.n_clips, self.request.batch_size
        while self.next_clip < n_clips:
            end = min(self.next_clip + size, n_clips)
            if self.newest[self.next_clip : end].max() > index:
                return
            rows = self.request.plan.frame_index[self.next_clip : end]  # (n, n_frames)
            frames = np.stack([np.stack([held[int(i)] for i in row]) for row in rows])
            batch = ClipBatch(self.name, self.next_clip, frames)
            self.next_clip = end
            yield batch
