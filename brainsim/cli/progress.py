"""Turn progress calls into bars on a terminal, or into sparse lines where there is none; always on stderr."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Task as RichTask
from rich.text import Text

from brainsim.core.progress import SILENT, Task
from brainsim.core.resources import format_bytes

# Seconds between two lines of one task where there is no terminal: enough to see that it lives, few enough for a log.
LINE_INTERVAL_S = 10.0

# Seconds over which a rate is taken: long enough to be steady, short enough to forget steps that were found done.
RATE_WINDOW_S = 60.0

# Seconds that lie between two samples of a rate, so that thousands of steps a second keep few.
SAMPLE_INTERVAL_S = 0.25

# Warnings of one kind, which differ in numbers alone (of subjects, of targets), that are told one by one.
MAX_ALIKE = 3

BYTE_UNITS = ("B", "byte", "bytes")


@dataclass
class Speaker:
    """Notes and warnings, one line each, on stderr.

    Parameters
    ----------
    console : Console
        Where to.
    is_quiet : bool
        Leave notes out; warnings are always told.
    told : set of str
        Warnings so far: none is told twice.
    kinds : dict of str to int
        How often each kind of warning came: those that differ in numbers alone are of one kind.
    """

    console: Console
    is_quiet: bool = False
    told: set[str] = field(default_factory=set)
    kinds: dict[str, int] = field(default_factory=dict)

    def note(self, message: str) -> None:
        """Tell a line that a user should see."""
        if not self.is_quiet:
            self.console.print(Text(f"Note: {message}"), soft_wrap=True)

    def warn(self, message: str) -> None:
        """Tell a line that a user must see, once; of many that are alike only the first few."""
        if message in self.told:
            return
        self.told.add(message)
        kind = re.sub(r"\d[\d.,]*", "#", message)
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        if self.kinds[kind] == MAX_ALIKE + 1:
            message = "more like the last one, with other numbers; --json lists all, brainsim report sums them up."
        if self.kinds[kind] <= MAX_ALIKE + 1:
            self.console.print(Text(f"Warning: {message}", style="yellow"), soft_wrap=True)


class BarProgress(Speaker):
    """Bars with count, rate and time left, one below the other; drawn while at least one task is open."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._lock = threading.Lock()
        self._n_open = 0
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=12),
            _CountColumn(),
            _RateColumn(),
            TimeElapsedColumn(),
            _LeftColumn(),
            console=self.console,
            transient=True,
        )

    @contextmanager
    def task(self, label: str, *, total: float | None = None, unit: str = "") -> Iterator[Task]:
        """Open one bar for the length of a `with` block."""
        with self._lock:
            if self._n_open == 0:
                self._bars.start()
            self._n_open += 1
            pace = _Pace()
            identity = self._bars.add_task(label, total=total, unit=unit, pace=pace)
        try:
            yield _Bar(self._bars, identity, pace)
        finally:
            with self._lock:
                self._bars.remove_task(identity)
                self._n_open -= 1
                if self._n_open == 0:
                    self._bars.stop()


class LineProgress(Speaker):
    """A line when a task has gone on for a while, and one when it ends."""

    @contextmanager
    def task(self, label: str, *, total: float | None = None, unit: str = "") -> Iterator[Task]:
        """Open one series of lines for the length of a `with` block."""
        line = _Line(self.console, label, total, unit)
        yield line
        line.finish()


class QuietProgress(Speaker):
    """Warnings and notes, no progress."""

    @contextmanager
    def task(self, label: str, *, total: float | None = None, unit: str = "") -> Iterator[Task]:
        """Do nothing for the length of a `with` block."""
        with SILENT.task(label) as task:
            yield task


AnyProgress = BarProgress | LineProgress | QuietProgress


def choose_progress(console: Console, *, is_verbose: bool, is_quiet: bool) -> AnyProgress:
    """Return bars for a terminal, lines with --verbose elsewhere, else notes and warnings alone."""
    if is_quiet:
        return QuietProgress(console, is_quiet=True)
    if console.is_terminal:
        return BarProgress(console)
    return LineProgress(console) if is_verbose else QuietProgress(console)


class _Pace:
    """How fast work goes on: over the last minute, or over the last step where steps are longer than that."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._samples = deque([(self._began, 0.0)])
        self._lock = threading.Lock()

    @property
    def done(self) -> float:
        """Units that are done."""
        return self._samples[-1][1]

    @property
    def spent_s(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    def advance(self, n: float) -> None:
        """Count `n` more units."""
        now = time.monotonic()
        with self._lock:
            done = self.done + n
            if len(self._samples) > 2 and self._samples[-1][0] - self._samples[-2][0] < SAMPLE_INTERVAL_S:
                self._samples.pop()
            self._samples.append((now, done))
            while len(self._samples) > 2 and self._samples[1][0] <= now - RATE_WINDOW_S:
                self._samples.popleft()

    def rate(self) -> float | None:
        """Return units per second, None before the first one is done."""
        with self._lock:
            (since, before), (until, done) = self._samples[0], self._samples[-1]
        return (done - before) / (until - since) if until > since and done > before else None

    def mean_rate(self) -> float | None:
        """Return units per second since the beginning."""
        return self.done / max(self.spent_s, 1e-9) if self.done else None

    def left_s(self, total: float | None) -> float | None:
        """Return the seconds that are left, counted down between steps; None where that is not known."""
        rate = self.rate()
        if not total or rate is None or self.done >= total:
            return None
        with self._lock:
            until, done = self._samples[-1]
        return max((total - done) / rate - (time.monotonic() - until), 0.0)


class _Bar:
    def __init__(self, bars: Progress, identity: TaskID, pace: _Pace) -> None:
        self._bars, self._identity, self._pace = bars, identity, pace

    def advance(self, n: float = 1) -> None:
        self._pace.advance(n)
        self._bars.advance(self._identity, n)

    def set_total(self, total: float) -> None:
        self._bars.update(self._identity, total=total)


class _Line:
    def __init__(self, console: Console, label: str, total: float | None, unit: str) -> None:
        self._console, self._label, self._total, self._unit = console, label, total, unit
        self._pace = _Pace()
        self._told = time.monotonic()
        self._lock = threading.Lock()

    def advance(self, n: float = 1) -> None:
        self._pace.advance(n)
        with self._lock:
            now = time.monotonic()
            is_due = now - self._told >= LINE_INTERVAL_S
            if is_due:
                self._told = now
        if is_due:
            self._tell(self._pace.rate())

    def set_total(self, total: float) -> None:
        self._total = total

    def finish(self) -> None:
        self._tell(self._pace.mean_rate())

    def _tell(self, rate: float | None) -> None:
        parts = [_count(self._pace.done, self._total, self._unit)]
        if rate is not None:
            parts.append(_rate(rate, self._unit))
        left_s = self._pace.left_s(self._total)
        parts.append(f"{self._pace.spent_s:.1f} s" if left_s is None else f"{_clock(left_s)} left")
        self._console.print(Text(f"{self._label}: {', '.join(parts)}"), soft_wrap=True)


class _CountColumn(ProgressColumn):
    def render(self, task: RichTask) -> Text:
        return Text(_count(task.completed, task.total, task.fields.get("unit", "")))


class _RateColumn(ProgressColumn):
    def render(self, task: RichTask) -> Text:
        rate, unit = _pace_of(task).rate(), task.fields.get("unit", "")
        # The count beside it names the unit; a narrow terminal has no room for it twice.
        return Text("" if rate is None else _rate(rate, unit if unit in BYTE_UNITS else ""), style="dim")


class _LeftColumn(ProgressColumn):
    def render(self, task: RichTask) -> Text:
        left_s = _pace_of(task).left_s(task.total)
        return Text("" if left_s is None else f"{_clock(left_s)} left", style="cyan")


def _pace_of(task: RichTask) -> _Pace:
    pace: _Pace = task.fields["pace"]
    return pace


def _count(done: float, total: float | None, unit: str) -> str:
    if unit in BYTE_UNITS:
        return f"{format_bytes(done)}" + (f"/{format_bytes(total)}" if total else "")
    return f"{done:g}" + (f"/{total:g}" if total else "") + (f" {unit}" if unit else "")


def _rate(rate: float, unit: str) -> str:
    if unit in BYTE_UNITS:
        return f"{format_bytes(rate)}/s"
    return f"{rate:.3g} {unit}/s".replace(" /s", "/s")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
