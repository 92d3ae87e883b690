"""Turn progress calls into bars on a terminal, or into sparse lines where there is none; always on stderr."""

from __future__ import annotations

import threading
import time
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
    """

    console: Console
    is_quiet: bool = False
    told: set[str] = field(default_factory=set)

    def note(self, message: str) -> None:
        """Tell a line that a user should see."""
        if not self.is_quiet:
            self.console.print(Text(f"Note: {message}"), soft_wrap=True)

    def warn(self, message: str) -> None:
        """Tell a line that a user must see, once."""
        if message not in self.told:
            self.told.add(message)
            self.console.print(Text(f"Warning: {message}", style="yellow"), soft_wrap=True)


class BarProgress(Speaker):
    """Bars with count, rate and time left; drawn from the first task's beginning to the last one's end."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._lock = threading.Lock()
        self._n_open = 0
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
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
            identity = self._bars.add_task(label, total=total, unit=unit)
        try:
            yield _Bar(self._bars, identity)
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


class _Bar:
    def __init__(self, bars: Progress, identity: TaskID) -> None:
        self._bars, self._identity = bars, identity

    def advance(self, n: float = 1) -> None:
        self._bars.advance(self._identity, n)

    def set_total(self, total: float) -> None:
        self._bars.update(self._identity, total=total)


class _Line:
    def __init__(self, console: Console, label: str, total: float | None, unit: str) -> None:
        self._console, self._label, self._total, self._unit = console, label, total, unit
        self._done = 0.0
        self._began = self._told = time.monotonic()
        self._lock = threading.Lock()

    def advance(self, n: float = 1) -> None:
        with self._lock:
            self._done += n
            now = time.monotonic()
            is_due = now - self._told >= LINE_INTERVAL_S
            if is_due:
                self._told = now
        if is_due:
            self._tell(now)

    def set_total(self, total: float) -> None:
        self._total = total

    def finish(self) -> None:
        self._tell(time.monotonic())

    def _tell(self, now: float) -> None:
        spent_s = max(now - self._began, 1e-9)
        rate = self._done / spent_s
        parts = [_count(self._done, self._total, self._unit)]
        if self._done:
            parts.append(_rate(rate, self._unit))
        if self._total and rate and self._done < self._total:
            parts.append(f"{_clock((self._total - self._done) / rate)} left")
        else:
            parts.append(f"{spent_s:.1f} s")
        self._console.print(Text(f"{self._label}: {', '.join(parts)}"), soft_wrap=True)


class _CountColumn(ProgressColumn):
    def render(self, task: RichTask) -> Text:
        return Text(_count(task.completed, task.total, task.fields.get("unit", "")))


class _RateColumn(ProgressColumn):
    def render(self, task: RichTask) -> Text:
        return Text(_rate(task.speed, task.fields.get("unit", "")) if task.speed else "", style="dim")


class _LeftColumn(ProgressColumn):
    def render(self, task: RichTask) -> Text:
        left_s = task.time_remaining
        return Text("" if left_s is None or task.finished else f"{_clock(left_s)} left", style="cyan")


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
