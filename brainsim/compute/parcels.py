"""Turn tasks, results and exceptions into small parcels that travel between processes, and back."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from brainsim.compute.options import ClusterError
from brainsim.core.errors import InvalidValueError
from brainsim.core.provenance import brainsim_version, package_versions
from brainsim.core.resources import format_bytes

# Handles travel, not arrays: the largest list of names and options is a few kB, the smallest array of a subject is MB.
MAX_PARCEL_BYTES = 2**20

_MAX_LABEL = 200


@dataclass(frozen=True)
class Outcome:
    """What came of one task on a worker.

    Parameters
    ----------
    parcel : bytes
        The pickled result, or the pickled exception.
    traceback : str
        The exception's traceback as text; "" where there is a result.
    software : dict
        Versions of the packages that make numbers, where the task ran.
    """

    parcel: bytes
    traceback: str
    software: dict[str, str]


class WorkerTracebackError(Exception):
    """Where an exception arose in its worker: the cause of what reaches the caller."""

    def __str__(self) -> str:
        return f"\n\n{self.args[0]}"


def describe_task(task: Any) -> str:
    """Return what a person calls a task: its `label`, or what it prints as."""
    text = str(getattr(task, "label", "") or repr(task))
    return text if len(text) <= _MAX_LABEL else f"{text[: _MAX_LABEL - 1]}…"


def pack(value: Any, *, what: str) -> bytes:
    """Return a pickled value that is small enough to travel.

    Raises
    ------
    InvalidValueError
        Where it cannot be pickled, or is an array in disguise: a mistake in the program, not of its user.
    """
    try:
        parcel = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise InvalidValueError(f"{what} cannot travel to another process: {error}") from error
    if len(parcel) > MAX_PARCEL_BYTES:
        raise InvalidValueError(
            f"{what} is {format_bytes(len(parcel))} when pickled; at most {format_bytes(MAX_PARCEL_BYTES)} may travel: "
            "write arrays to the store and pass their nodes' names."
        )
    return parcel


def perform(parcel: bytes, label: str, driver_version: str) -> Outcome:
    """Run one task where this is called, and pack what came of it. This is what a worker does."""
    software = {"brainsim": brainsim_version(), **package_versions()}
    try:
        if software["brainsim"] != driver_version:
            raise ClusterError(
                f"a worker has brainsim {software['brainsim']}, the command that sent it work {driver_version}.",
                hint="install the same brainsim in the Python that the workers run",
            )
        function, task = pickle.loads(parcel)
        result = pack(function(task), what=f"the result of {label}")
    except BaseException as error:  # whatever it is, it is the caller's to handle
        return Outcome(_pack_error(error), "".join(traceback.format_exception(error)), software)
    return Outcome(result, "", software)


def unpack(outcome: Outcome) -> Any:
    """Return a task's result, or raise its exception as it was: message, hint and notes, and its traceback as cause."""
    value = pickle.loads(outcome.parcel)
    if not outcome.traceback:
        return value
    raise value from WorkerTracebackError(outcome.traceback)


def _pack_error(error: BaseException) -> bytes:
    try:
        parcel = pack(error, what="the exception")
        pickle.loads(parcel)
    except Exception:  # an exception can break both ways of pickling in ways of its own
        return pickle.dumps(RuntimeError(f"{type(error).__name__}: {str(error)[:10_000]}"))
    return parcel


def pack_task(function: Callable[[Any], Any], task: Any) -> bytes:
    """Return a function and its task, ready to travel."""
    return pack((function, task), what=f"the task {describe_task(task)}")
