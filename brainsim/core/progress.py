"""Turn the steps of long work into calls that someone else may draw."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Protocol


class Task(Protocol):
    """One bar: work with a known or unknown total."""

    def advance(self, n: float = 1) -> None:
        """Say that `n` more units are done."""

    def set_total(self, total: float) -> None:
        """Say how many units there are, once that is known."""


class Progress(Protocol):
    """What library code talks to; only `cli/` draws."""

    def task(self, label: str, *, total: float | None = None, unit: str = "") -> AbstractContextManager[Task]:
        """Open one bar for the length of a `with` block."""

    def note(self, message: str) -> None:
        """Tell one line that a user should see (a fallback taken, a default that matters)."""

    def warn(self, message: str) -> None:
        """Tell one line that a user must see (a saturated grid, masked targets)."""


class _SilentTask:
    def advance(self, n: float = 1) -> None:
        return None

    def set_total(self, total: float) -> None:
        return None


class SilentProgress:
    """Progress that nobody watches: the default of every function."""

    @contextmanager
    def task(self, label: str, *, total: float | None = None, unit: str = "") -> Iterator[Task]:
        yield _SilentTask()

    def note(self, message: str) -> None:
        return None

    def warn(self, message: str) -> None:
        return None


SILENT = SilentProgress()

_of_tasks: ContextVar[Progress] = ContextVar("progress", default=SILENT)


@contextmanager
def progress_of_tasks(progress: Progress) -> Iterator[None]:
    """Let tasks that run in this process tell their progress: on other processes there is nobody to tell."""
    token = _of_tasks.set(progress)
    try:
        yield
    finally:
        _of_tasks.reset(token)


def task_progress() -> Progress:
    """Return what a task tells its progress to."""
    return _of_tasks.get()
