"""Turn planned steps into outcomes: each as soon as what it needs is done, side by side where that is safe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from brainsim.commands.study_file import Step
from brainsim.core.errors import BrainsimError, StoreLockedError

DONE, FAILED, NOT_RUN = "done", "failed", "not run"

# Clusters whose workers are on other machines: such a step waits here, and takes nothing from its neighbours.
ELSEWHERE = ("slurm",)


@dataclass(frozen=True)
class Outcome:
    """How a step ended.

    Parameters
    ----------
    state : {"done", "failed", "not run"}
        "not run" where a step that it needs has failed.
    summary : mapping
        The verb's summary as JSON values; empty where there is none.
    seconds : float
        Wall time.
    error : BrainsimError or None
        Why it failed.
    because_of : tuple of str
        Steps whose failure kept it from being run.
    """

    state: str
    summary: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    error: BrainsimError | None = None
    because_of: tuple[str, ...] = ()


def runs_here(step: Step) -> bool:
    """Return whether a step computes on this machine."""
    return step.values.get("cluster", "threads") not in ELSEWHERE


def run_schedule(
    steps: Sequence[Step],
    call: Callable[[Step], Outcome],
    *,
    n_parallel: int,
    tell: Callable[[Step, Outcome], None],
    stop: Callable[[], None],
) -> dict[str, Outcome]:
    """Run steps in the order of what they wait for; the failure of one that a step needs keeps it back.

    Steps that compute elsewhere run all at once; of those that compute here, at most `n_parallel`. Two steps may want
    to write the same node, such as a kernel that both need: the one that comes second is run again once no other
    step is running, and finds it.

    Parameters
    ----------
    steps : sequence of Step
        What to run; a need that is not among them counts as done.
    call : callable
        Runs a step, in a thread of its own; raises nothing that has a name.
    n_parallel : int
        Steps on this machine at a time.
    tell : callable
        Told of each outcome as it comes, in the calling thread.
    stop : callable
        Called before an interruption goes on: makes running calls end.

    Returns
    -------
    dict of str to Outcome
        In the order of the steps.
    """
    outcomes: dict[str, Outcome] = {}
    waiting, running = list(steps), dict[Future[Outcome], Step]()
    names = {step.name for step in steps}
    alone: set[str] = set()  # steps that met another writer

    def settle(step: Step, outcome: Outcome) -> None:
        outcomes[step.name] = outcome
        tell(step, outcome)

    def is_ready(step: Step) -> bool:
        if any(other in names and other not in outcomes for other in step.waits_for):
            return False
        if step.name in alone or any(other.name in alone for other in running.values()):
            return not running
        return not runs_here(step) or sum(runs_here(other) for other in running.values()) < n_parallel

    with ThreadPoolExecutor(max_workers=max(len(steps), 1)) as pool:
        try:
            while waiting or running:
                for step in tuple(waiting):
                    failed = tuple(n for n in step.needs if n in outcomes and outcomes[n].state != DONE)
                    if failed:
                        waiting.remove(step)
                        settle(step, Outcome(NOT_RUN, because_of=failed))
                    elif is_ready(step):
                        waiting.remove(step)
                        running[pool.submit(call, step)] = step
                for future in wait(running, return_when=FIRST_COMPLETED).done if running else ():
                    step, outcome = running.pop(future), future.result()
                    met_writer = isinstance(outcome.error, StoreLockedError) and step.name not in alone
                    if met_writer and len(names) > 1:
                        alone.add(step.name)
                        waiting.append(step)
                    else:
                        settle(step, outcome)
        except BaseException:
            stop()
            raise
    return {step.name: outcomes[step.name] for step in steps}
