"""Turn small tasks into results, or into the accidents that workers meet."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from brainsim.core.errors import InputFileError
from brainsim.core.progress import SilentProgress
from brainsim.core.resources import memory_limit_bytes, n_cores


@dataclass(frozen=True)
class Square:
    """A number whose square is wanted; `folder` is where an accident leaves its marks."""

    number: int
    folder: str = ""

    @property
    def label(self) -> str:
        """What messages call it."""
        return f"square of {self.number}"


def square(task: Square) -> int:
    """Return the square."""
    return task.number**2


def square_after_a_kill(task: Square) -> int:
    """Kill the worker of number 2 the first time, by the signal that the kernel uses when memory is short."""
    mark = Path(task.folder) / "killed"
    if task.number == 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return task.number**2


def kill_every_time(task: Square) -> int:
    """Kill the worker of number 1 every time, leaving a mark each."""
    if task.number == 1:
        marks = Path(task.folder)
        (marks / f"killed-{len(list(marks.iterdir()))}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return task.number**2


def fail_with_notes(task: Square) -> int:
    """Raise one of brainsim's errors with a hint and a note for number 1."""
    if task.number == 1:
        error = InputFileError("no kernel at kernels/abc.", hint="brainsim store ls kernels")
        error.add_note("while fitting sub-01")
        raise error
    return task.number


def tell_share(task: Square) -> dict[str, str | int]:
    """Return what this worker believes to own."""
    import numpy as np

    np.ones(2)
    return {
        "cores": n_cores(),
        "memory": memory_limit_bytes(),
        "omp": os.environ["OMP_NUM_THREADS"],
        "gpu": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        "modules": " ".join(name for name in ("torch", "dask", "distributed") if name in sys.modules),
    }


def return_too_much(task: Square) -> bytes:
    """Return what should have gone to the store."""
    return b"x" * 2_000_000


def take_memory(task: Square) -> int:
    """Take as many MiB as the number says, for a while."""
    taken = bytearray(task.number * 2**20)
    taken[::4096] = bytes([1]) * len(taken[::4096])  # memory that is not touched is not taken
    time.sleep(2)
    return len(taken) // 2**20


def sleep_long(task: Square) -> int:
    """Take a mark and far too long."""
    Path(task.folder, f"{os.getpid()}.pid").touch()
    time.sleep(600)
    return 0


class Notes(SilentProgress):
    """Progress that remembers what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, message: str) -> None:
        """Remember a note."""
        self.notes.append(message)

    def warn(self, message: str) -> None:
        """Remember a warning."""
        self.warnings.append(message)
