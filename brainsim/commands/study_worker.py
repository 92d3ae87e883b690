"""Turn a call of a verb into its summary, in a process of its own that outlives neither its work nor its parent.

A step that runs out of memory, or is killed, takes no other step with it; what it holds in memory goes back when its
process ends; relative paths are those of the study's folder, whatever folder the parent is in. Requests and answers
are lines of JSON on the worker's stdin and stdout.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from brainsim.commands.values import plain_value
from brainsim.core import errors
from brainsim.core.errors import BrainsimError
from brainsim.core.progress import Progress, Task
from brainsim.core.resources import memory_limit_bytes, n_cores

# Seconds between two lines about the same task: bars need no more.
TELL_INTERVAL_S = 0.2

# Seconds that a worker has to leave its work in order when it is told to stop.
STOP_S = 20.0


class WorkerEnded(BrainsimError, RuntimeError):
    """A worker that ended before its work: killed, out of memory, or a crash of a library."""


class StepBug(BrainsimError, RuntimeError):
    """A step that ended in an exception without a name: a bug, whose traceback is kept."""

    def __init__(self, message: str, *, trace: str = "") -> None:
        super().__init__(message, hint="the traceback stands in the study's log")
        self.trace = trace


class Worker:
    """A process that calls verbs, one at a time.

    Parameters
    ----------
    folder : Path
        Folder in which it works.
    environment : mapping of str to str, optional
        Variables beside those of this process: its share of the machine.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        # The parent's own search path: not the study's folder, where a file may be called like a module.
        search = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "brainsim.commands.study_worker", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": search, **(environment or {})},
            start_new_session=True,  # Ctrl-C reaches the parent, which lets each worker end in order
        )
        self._is_called = False

    def call(self, word: str, values: Mapping[str, Any], given: Mapping[str, Any], progress: Progress) -> Any:
        """Call a verb and return its summary as JSON values.

        Parameters
        ----------
        word : str
            The verb.
        values : mapping
            Values as a study file gives them.
        given : mapping
            Keyword arguments as they are: store, dry_run, overwrite.
        progress : Progress
            Told what the verb tells.

        Raises
        ------
        BrainsimError
            What the verb raised, WorkerEnded where the process ended, StepBug where the verb has a bug.
        """
        request = json.dumps({"word": word, "values": dict(values), "given": dict(given)})
        to, back = self._process.stdin, self._process.stdout
        assert to is not None
        assert back is not None
        told = _Listener(progress)
        self._is_called = True
        try:
            with suppress(BrokenPipeError):
                to.write(f"{request}\n")
                to.flush()
            for line in back:
                answer = json.loads(line)
                if answer["event"] == "result":
                    return answer["summary"]
                if answer["event"] == "error":
                    raise _as_error(answer)
                told.hear(answer)
        finally:
            self._is_called = False
            told.close()
        code = self._process.wait()
        back.close()
        raise WorkerEnded(
            f"the process of this step ended before its work, {_tell_code(code)}.",
            hint="memory is the usual reason: smaller batches, another --device, or fewer steps at a time",
        )

    @property
    def is_alive(self) -> bool:
        """Whether it can be given more work."""
        return self._process.poll() is None

    def end_requests(self) -> None:
        """Let it end: at once where it is idle, else as after Ctrl-C."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def close(self) -> None:
        """Let it end, and wait for that; one that does not is killed."""
        self.end_requests()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if not self._is_called and self._process.stdout is not None:
            self._process.stdout.close()


class WorkerPool:
    """Workers, as many as calls are made at the same time; closed at the end of a `with` block.

    Parameters
    ----------
    folder : Path
        Folder in which they work.
    n_parallel : int
        Steps that compute on this machine at a time: each gets its share of cores and memory.
    """

    def __init__(self, folder: Path, *, n_parallel: int = 1) -> None:
        self._folder = folder
        self._environment: dict[str, str] = {}
        if n_parallel > 1:
            from brainsim.compute.workers import worker_environment

            self._environment = worker_environment(
                n_cores=max(n_cores() // n_parallel, 1), memory_bytes=memory_limit_bytes() // n_parallel
            )
        self._lock = threading.Lock()
        self._idle: list[Worker] = []
        self._busy: list[Worker] = []
        self._is_closed = False

    def call(self, word: str, values: Mapping[str, Any], given: Mapping[str, Any], progress: Progress) -> Any:
        """Call a verb in a worker that is idle, or in a new one; see `Worker.call`."""
        with self._lock:
            if self._is_closed:
                raise WorkerEnded("the study was stopped.")
            worker = self._idle.pop() if self._idle else Worker(self._folder, self._environment)
            self._busy.append(worker)
        try:
            return worker.call(word, values, given, progress)
        finally:
            with self._lock:
                self._busy.remove(worker)
                if worker.is_alive and not self._is_closed:
                    self._idle.append(worker)
                elif not self._is_closed:
                    worker.close()

    def close(self) -> None:
        """End all workers; those that are busy leave their work in order, as after Ctrl-C."""
        with self._lock:
            self._is_closed = True
            workers = [*self._idle, *self._busy]
        for worker in workers:
            worker.end_requests()
        for worker in workers:
            worker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class _Listener:
    """What a worker tells, retold to a progress of this process."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._open: dict[int, tuple[AbstractContextManager[Task], Task]] = {}

    def hear(self, told: Mapping[str, Any]) -> None:
        event = told["event"]
        if event in ("note", "warn"):
            getattr(self._progress, event)(told["message"])
        elif event == "begin":
            manager = self._progress.task(told["label"], total=told["total"], unit=told["unit"])
            self._open[told["task"]] = (manager, manager.__enter__())
        elif event == "advance":
            self._open[told["task"]][1].advance(told["n"])
        elif event == "total":
            self._open[told["task"]][1].set_total(told["total"])
        elif event == "end":
            self._open.pop(told["task"])[0].__exit__(None, None, None)

    def close(self) -> None:
        for manager, _ in reversed(self._open.values()):
            manager.__exit__(None, None, None)
        self._open.clear()


def _as_error(answer: Mapping[str, Any]) -> BrainsimError:
    """Return the error that a worker tells, of its own class."""
    if answer["kind"] == "bug":
        return StepBug(answer["message"], trace=answer["trace"])
    kind = getattr(errors, answer["kind"], BrainsimError)
    error: BrainsimError = kind(answer["message"], hint=answer["hint"])
    for note in answer["notes"]:
        error.add_note(note)
    return error


def _tell_code(code: int) -> str:
    with suppress(ValueError):
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
    return f"with exit code {code}"


class _Teller:
    """Progress in the worker: every call becomes a line."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._n_tasks = 0

    def tell(self, event: str, **fields: Any) -> None:
        line = json.dumps({"event": event, **fields})
        with self._lock:
            self._out.write(f"{line}\n")
            self._out.flush()

    def note(self, message: str) -> None:
        self.tell("note", message=message)

    def warn(self, message: str) -> None:
        self.tell("warn", message=message)

    @contextmanager
    def task(self, label: str, *, total: float | None = None, unit: str = "") -> Iterator[Task]:
        with self._lock:
            self._n_tasks += 1
            number = self._n_tasks
        self.tell("begin", task=number, label=label, total=total, unit=unit)
        task = _TellerTask(self, number)
        try:
            yield task
        finally:
            task.flush()
            self.tell("end", task=number)


class _TellerTask:
    def __init__(self, teller: _Teller, number: int) -> None:
        self._teller, self._number = teller, number
        self._lock = threading.Lock()
        self._n, self._told_s = 0.0, time.monotonic()

    def advance(self, n: float = 1) -> None:
        with self._lock:
            self._n += n
            is_due = time.monotonic() - self._told_s >= TELL_INTERVAL_S
        if is_due:
            self.flush()

    def flush(self) -> None:
        with self._lock:
            n, self._n, self._told_s = self._n, 0.0, time.monotonic()
        if n:
            self._teller.tell("advance", task=self._number, n=n)

    def set_total(self, total: float) -> None:
        self._teller.tell("total", task=self._number, total=total)


def _answer(request: Mapping[str, Any], teller: _Teller) -> None:
    """Call the verb of a request and tell its summary or its error."""
    import inspect

    from brainsim.commands.study_keys import step_verbs

    try:
        step = step_verbs()[request["word"]]
        function = step.verb.load()
        arguments = {**step.read(request["values"]), **request["given"]}
        if "progress" in inspect.signature(function).parameters:
            arguments["progress"] = teller
        summary = plain_value(function(**arguments))
    except BrainsimError as error:
        notes = list(getattr(error, "__notes__", ()))
        teller.tell("error", kind=type(error).__name__, message=error.message, hint=error.hint, notes=notes)
    except Exception as error:
        trace = traceback.format_exc()
        teller.tell("error", kind="bug", message=f"{type(error).__name__}: {error}", trace=trace)
    else:
        teller.tell("result", summary=summary)


def _read_requests(requests: queue.SimpleQueue[str | None], busy: threading.Event) -> None:
    """Pass lines on; when there are no more, the parent has gone or wants an end: stop the work as Ctrl-C does."""
    for line in sys.stdin:
        requests.put(line)
    requests.put(None)
    if busy.is_set():
        os.kill(os.getpid(), signal.SIGINT)


def main() -> None:
    """Answer the requests of the parent until there are no more."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    os.chdir(sys.argv[1])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
    teller, busy = _Teller(out), threading.Event()
    requests: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(requests, busy), daemon=True).start()
    with suppress(KeyboardInterrupt, BrokenPipeError):
        while (line := requests.get()) is not None:
            busy.set()
            _answer(json.loads(line), teller)
            busy.clear()


if __name__ == "__main__":
    main()
