"""Turn tasks into results on the workers of a Dask cluster, one task per worker at a time."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from pkgutil import resolve_name
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from brainsim.compute.options import ClusterError, WorkerKilledError
from brainsim.compute.parcels import Outcome, describe_task, perform, unpack
from brainsim.core.progress import Progress
from brainsim.core.provenance import brainsim_version, package_versions

# How long to wait for a result before looking after the workers, s.
_POLL_S = 0.1

# How long to wait for the bytes of a result whose worker says it is done before asking whether the worker lives, s.
_COLLECT_S = 5.0

# How long a new worker may take to import what it runs, from a slow disk, s; then it is asked again.
_CHECK_S = 60.0


class Workers(Protocol):
    """A running cluster as the dispatcher sees it."""

    client: Any  # distributed.Client
    n_wanted: int
    killed_cause: str
    killed_hint: str

    def alive(self) -> list[str]:
        """Return the addresses of the workers that can take a task now."""

    def present(self) -> list[str]:
        """Return the addresses of all workers that are not gone, those that are leaving among them."""

    def keep_up(self) -> None:
        """Replace lost workers; raise ClusterError where none can be expected any more."""


class Dispatcher:
    """Send tasks to free workers, and tasks of dead workers again.

    One task per worker at a time, sent to that worker by name: so a death is charged to the one task that ran there,
    never to a task that waited behind it, and the number of deaths per task can be bounded exactly.
    """

    def __init__(self, workers: Workers, tasks: Sequence[Any], parcels: Sequence[bytes], *, retries: int) -> None:
        self.workers = workers
        self.tasks = tasks
        self.parcels = parcels
        self.retries = retries
        self.waiting = deque(range(len(tasks)))
        self.running: dict[Any, tuple[int, str]] = {}
        self.fit: set[str] = set()
        self.n_deaths: Counter[int] = Counter()
        self.finished: SimpleQueue[Any] = SimpleQueue()
        self.version = brainsim_version()

    def run(self, *, on_start: Callable[[Any], None] | None, progress: Progress) -> Iterator[tuple[Any, Any]]:
        """Yield (task, result) as they complete.

        Raises
        ------
        WorkerKilledError
            Where one task's workers died `retries` times.
        ClusterError
            Where no workers can be expected, or one runs another brainsim.
        """
        software, n_told = package_versions(), -1
        while self.waiting or self.running:
            alive = self.workers.alive()
            if len(alive) != n_told:
                n_told = len(alive)
                progress.note(f"{n_told} of {self.workers.n_wanted} workers are running.")
            self._send(alive, on_start)
            self._give_up_on_lost(progress)
            self.workers.keep_up()
            for index, outcome in self._collect(progress):
                differing = {p for p, v in software.items() if outcome.software.get(p, v) != v}
                if differing:
                    progress.warn(f"a worker has other versions of {', '.join(sorted(differing))} than this process.")
                    software = {p: v for p, v in software.items() if p not in differing}
                result = unpack(outcome)
                self._send(self.workers.alive(), on_start)  # the caller may take its time with this result
                yield self.tasks[index], result

    def _send(self, alive: Sequence[str], on_start: Callable[[Any], None] | None) -> None:
        busy = {address for _, address in self.running.values()}
        for address in alive:
            if not self.waiting:
                return
            if address in busy or not self._is_fit(address):
                continue
            index = self.waiting.popleft()
            task = self.tasks[index]
            future = self.workers.client.submit(
                perform,
                self.parcels[index],
                describe_task(task),
                self.version,
                key=f"brainsim-{index}-{self.n_deaths[index]}",
                workers=[address],
                allow_other_workers=False,
                pure=False,
            )
            self.running[future] = (index, address)
            future.add_done_callback(self.finished.put)
            if on_start is not None and not self.n_deaths[index]:
                on_start(task)

    def _is_fit(self, address: str) -> bool:
        """See once that a worker can import what it must run: a worker that cannot read a message only dies of it."""
        from distributed import KilledWorker

        if address in self.fit:
            return True
        future = self.workers.client.submit(
            resolve_name, f"{perform.__module__}:{perform.__name__}", workers=[address], pure=False
        )
        try:
            error = future.exception(timeout=_CHECK_S)
        except TimeoutError:
            return False
        finally:
            future.release()
        if isinstance(error, ImportError | AttributeError):
            raise ClusterError(
                f"a worker has not the brainsim of this process: {error}.",
                hint="install the same brainsim in the Python that the workers run",
            ) from error
        if isinstance(error, KilledWorker):
            return False
        self.fit.add(address)
        return True

    def _collect(self, progress: Progress) -> Iterator[tuple[int, Outcome]]:
        try:
            future = self.finished.get(timeout=_POLL_S)
        except Empty:
            return
        if future not in self.running:  # given up already
            return
        index, address = self.running[future]
        outcome = self._fetch(future, address)
        if outcome is None:
            self._charge_death(future, progress)
            return
        del self.running[future]
        future.release()
        yield index, outcome

    def _fetch(self, future: Any, address: str) -> Outcome | None:
        from distributed import KilledWorker

        deadline = time.monotonic() + _COLLECT_S
        while True:
            try:
                outcome: Outcome = future.result(timeout=_COLLECT_S)
            except KilledWorker:
                return None
            except TimeoutError:  # the worker died between its last word and its parcel
                if time.monotonic() >= deadline and address not in self.workers.present():
                    return None
            else:
                return outcome

    def _give_up_on_lost(self, progress: Progress) -> None:
        """Take back tasks of workers that went without a word (a job at its time limit retires so)."""
        present = self.workers.present()
        for future, (_, address) in list(self.running.items()):
            if address not in present and not future.done():
                self._charge_death(future, progress)

    def _charge_death(self, future: Any, progress: Progress) -> None:
        index, _ = self.running.pop(future)
        future.cancel()
        self.n_deaths[index] += 1
        label = describe_task(self.tasks[index])
        if self.n_deaths[index] >= self.retries:
            raise WorkerKilledError(
                f"the worker process died {self.n_deaths[index]} times while it ran {label}; most likely "
                f"{self.workers.killed_cause}.",
                hint=self.workers.killed_hint,
            )
        progress.warn(f"the worker that ran {label} died; it is run again (at most {self.retries} times).")
        self.waiting.append(index)  # behind the others: what is too large beside them may fit alone
