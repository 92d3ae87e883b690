"""Turn clips into shuffled batches of windows: every clip decoded once per epoch, memory bounded, the order seeded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from queue import Queue
from threading import Event, Thread

import numpy as np

from brainsim.stimuli.frames import Size, iter_frames
from brainsim.stimuli.stimulus import Stimulus

# Clips decoded side by side, whose windows take turns; and windows that wait to be drawn at random. Neighbouring
# windows share their frames, so that a waiting window costs about one frame (0.2 MB at 256 px).
N_OPEN = 32
N_WAITING = 1024
# Windows that a thread decodes before it looks for other work.
N_AHEAD = 16
# Batches made while the network learns from an earlier one.
N_READY = 3


@dataclass(frozen=True)
class Source:
    """One clip, opened.

    Parameters
    ----------
    stimulus : Stimulus
        Its frames and their times.
    label : int
        Number of its action.
    name : str
        Name of the clip.
    """

    stimulus: Stimulus
    label: int
    name: str

    def count_windows(self, n_frames: int, step: int) -> int:
        """Return how many windows it has."""
        return max((self.stimulus.n_frames - n_frames) // step + 1, 0)


@dataclass(frozen=True)
class Window:
    """Consecutive frames of one clip.

    Parameters
    ----------
    frames : tuple of ndarray of uint8, (height, width, 3)
        RGB; arrays are shared with neighbouring windows.
    source : Source
        The clip.
    start : int
        Number of its first frame.
    """

    frames: tuple[np.ndarray, ...]
    source: Source
    start: int


@dataclass(frozen=True)
class Batch:
    """Windows of one size.

    Parameters
    ----------
    frames : ndarray of uint8, (n, n_frames, height, width, 3)
        RGB.
    labels : ndarray of int64, (n,)
        Numbers of their actions.
    windows : tuple of Window
        What they are; their frames are not kept.
    """

    frames: np.ndarray
    labels: np.ndarray
    windows: tuple[Window, ...]


@dataclass(frozen=True)
class WindowSpec:
    """What a window is.

    Parameters
    ----------
    n_frames : int
        Consecutive frames.
    step : int
        Frames from one window of a clip to the next.
    size : (int, int)
        Height and width to which frames are brought (the centre, in this aspect ratio), px.
    """

    n_frames: int
    step: int
    size: Size


def iter_windows(source: Source, spec: WindowSpec, *, starts: Sequence[int] | None = None) -> Iterator[Window]:
    """Decode a clip once and yield its windows in order of time.

    Parameters
    ----------
    source : Source
        The clip.
    spec : WindowSpec
        What a window is.
    starts : sequence of int, optional
        First frames of the windows wanted; default: every `spec.step` frames.
    """
    n_windows = source.count_windows(spec.n_frames, spec.step)
    wanted = set(range(0, n_windows * spec.step, spec.step) if starts is None else starts)
    needed = np.zeros(source.stimulus.n_frames, bool)
    for start in wanted:
        needed[start : start + spec.n_frames] = True
    recent: deque[tuple[int, np.ndarray]] = deque(maxlen=spec.n_frames)
    for index, frames in iter_frames(source.stimulus, {spec.size: needed}):
        recent.append((index, frames[spec.size]))
        start = index - spec.n_frames + 1
        if start in wanted and recent[0][0] == start and len(recent) == spec.n_frames:
            yield Window(tuple(frame for _, frame in recent), source, start)


def spread_starts(source: Source, n_frames: int, n_windows: int) -> list[int]:
    """Return the first frames of at most `n_windows` windows spread evenly over a clip."""
    last = source.stimulus.n_frames - n_frames
    return sorted({round(start) for start in np.linspace(0, last, min(n_windows, last + 1))})


def stack(windows: Sequence[Window]) -> Batch:
    """Make a batch of windows."""
    frames = np.stack([np.stack(window.frames) for window in windows])
    labels = np.array([window.source.label for window in windows], np.int64)
    return Batch(frames, labels, tuple(Window((), window.source, window.start) for window in windows))


def iter_batches(
    sources: Sequence[Source], spec: WindowSpec, *, batch_size: int, rng: np.random.Generator, n_workers: int
) -> Iterator[Batch]:
    """Yield every window of every clip once, in an order drawn from `rng`, in whole batches.

    What is left over at the end and fills no batch is not shown; another epoch leaves out others. The order is that of
    `rng` alone: it does not depend on the number of threads.

    Parameters
    ----------
    sources : sequence of Source
        Clips.
    spec : WindowSpec
        What a window is.
    batch_size : int
        Windows per batch.
    rng : numpy.random.Generator
        Order of clips, and which waiting window is drawn.
    n_workers : int
        Decoding threads.
    """
    with ThreadPoolExecutor(n_workers) as pool:
        windows = _iter_shuffled(_iter_interleaved(sources, spec, pool, rng), rng)
        while len(chosen := list(islice(windows, batch_size))) == batch_size:
            yield stack(chosen)


def read_ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Make batches in a thread of its own, a few ahead of whoever takes them."""
    ready: Queue[Batch | BaseException | None] = Queue(maxsize=N_READY)
    is_over = Event()

    def make() -> None:
        try:
            for batch in batches:
                if is_over.is_set():
                    return
                ready.put(batch)
            ready.put(None)
        except BaseException as error:  # whatever it is belongs to whoever takes the batches
            ready.put(error)

    maker = Thread(target=make, daemon=True)
    maker.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        is_over.set()
        while maker.is_alive():
            if not ready.empty():
                ready.get()
            maker.join(timeout=0.05)


def _iter_interleaved(
    sources: Sequence[Source], spec: WindowSpec, pool: ThreadPoolExecutor, rng: np.random.Generator
) -> Iterator[Window]:
    """Yield the windows of `N_OPEN` clips in turns; the next clip takes the place of one that has ended."""
    order = iter([sources[i] for i in rng.permutation(len(sources))])
    slots: deque[tuple[Iterator[Window], Future[list[Window]]]] = deque()

    def begin() -> None:
        source = next(order, None)
        if source is not None:
            windows = iter_windows(source, spec)
            slots.append((windows, pool.submit(_take, windows)))

    for _ in range(N_OPEN):
        begin()
    while slots:
        windows, future = slots.popleft()
        taken = future.result()
        if len(taken) == N_AHEAD:
            slots.append((windows, pool.submit(_take, windows)))
        else:
            begin()
        yield from taken


def _take(windows: Iterator[Window]) -> list[Window]:
    return list(islice(windows, N_AHEAD))


def _iter_shuffled(windows: Iterator[Window], rng: np.random.Generator) -> Iterator[Window]:
    """Yield windows in random order: each is drawn from those that wait."""
    waiting: list[Window] = []
    for window in windows:
        waiting.append(window)
        if len(waiting) >= N_WAITING:
            yield _draw(waiting, rng)
    while waiting:
        yield _draw(waiting, rng)


def _draw(waiting: list[Window], rng: np.random.Generator) -> Window:
    index = int(rng.integers(len(waiting)))
    waiting[index], waiting[-1] = waiting[-1], waiting[index]
    return waiting.pop()
