"""The order of steps: needs first, failures keep back only what needs them, side by side only where that is safe."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

import pytest

from brainsim.commands.study_file import Step
from brainsim.commands.study_keys import step_verbs
from brainsim.commands.study_schedule import Outcome, run_schedule
from brainsim.core.errors import BrainsimError, InvalidValueError, StoreLockedError

FIT = step_verbs()["fit"]


def make_steps(needs: Mapping[str, Sequence[str]], *, cluster: str = "threads") -> list[Step]:
    return [Step(name, FIT, {"cluster": cluster}, tuple(needed)) for name, needed in needs.items()]


def schedule(
    steps: Sequence[Step], call: Callable[[Step], Outcome], *, n_parallel: int = 1
) -> tuple[dict[str, Outcome], list[str]]:
    told: list[str] = []
    outcomes = run_schedule(
        steps, call, n_parallel=n_parallel, tell=lambda step, outcome: told.append(step.name), stop=lambda: None
    )
    return outcomes, told


def done(step: Step) -> Outcome:
    return Outcome("done")


def test_what_is_needed_comes_first() -> None:
    steps = make_steps({"a": (), "b": ("a",), "c": ("a", "b"), "d": ("elsewhere",)})
    outcomes, told = schedule(steps, done)
    assert told.index("a") < told.index("b") < told.index("c")
    assert {outcome.state for outcome in outcomes.values()} == {"done"}
    assert list(outcomes) == ["a", "b", "c", "d"]


def test_a_failure_keeps_back_what_needs_it_and_nothing_else() -> None:
    def call(step: Step) -> Outcome:
        return Outcome("failed", error=InvalidValueError("no")) if step.name == "a" else Outcome("done")

    outcomes, _ = schedule(
        make_steps({"a": (), "b": (), "of a": ("a",), "of of a": ("of a", "b"), "of b": ("b",)}), call
    )
    assert {name: outcome.state for name, outcome in outcomes.items()} == {
        "a": "failed", "b": "done", "of a": "not run", "of of a": "not run", "of b": "done",
    }  # fmt: skip
    assert outcomes["of a"].because_of == ("a",)
    assert outcomes["of of a"].because_of == ("of a",)


def test_a_step_that_only_comes_after_waits_for_a_failure_and_runs() -> None:
    def call(step: Step) -> Outcome:
        return Outcome("failed", error=InvalidValueError("no")) if step.name == "answers" else Outcome("done")

    page = Step("page", FIT, {}, needs=("fit",), after=("answers",))
    outcomes, told = schedule([page, *make_steps({"fit": (), "answers": ("fit",)})], call)
    assert told == ["fit", "answers", "page"]
    assert outcomes["page"].state == "done"


@pytest.mark.parametrize(("cluster", "n_parallel", "most"), [("threads", 1, 1), ("threads", 2, 2), ("slurm", 1, 4)])
def test_steps_go_side_by_side_where_that_is_safe(cluster: str, n_parallel: int, most: int) -> None:
    lock = threading.Lock()
    together = threading.Barrier(most)
    running, seen = 0, 0

    def call(step: Step) -> Outcome:
        nonlocal running, seen
        with lock:
            running += 1
            seen = max(seen, running)
        together.wait(timeout=30)  # breaks where fewer than `most` ever run at a time
        with lock:
            running -= 1
        return Outcome("done")

    outcomes, _ = schedule(make_steps(dict.fromkeys("abcd", ()), cluster=cluster), call, n_parallel=n_parallel)
    assert seen == most
    assert all(outcome.state == "done" for outcome in outcomes.values())


def test_a_step_that_meets_another_writer_is_run_again_alone() -> None:
    both = threading.Barrier(2)
    calls: list[str] = []
    a_is_running = threading.Event()

    def call(step: Step) -> Outcome:
        calls.append(step.name)
        if calls.count(step.name) == 1:
            both.wait(timeout=30)
        if step.name == "b" and calls.count("b") == 1:
            return Outcome("failed", error=StoreLockedError("node 'kernels/x' is being written"))
        if step.name == "b":
            assert not a_is_running.is_set()
            return Outcome("done")
        a_is_running.set()
        try:
            return Outcome("done")
        finally:
            a_is_running.clear()

    outcomes, told = schedule(make_steps({"a": (), "b": ()}), call, n_parallel=2)
    assert {outcome.state for outcome in outcomes.values()} == {"done"}
    assert calls.count("b") == 2
    assert told == ["a", "b"]


def test_a_writer_of_another_command_is_an_error_after_one_more_try() -> None:
    def call(step: Step) -> Outcome:
        return Outcome("failed", error=StoreLockedError("taken")) if step.name == "b" else Outcome("done")

    outcomes, told = schedule(make_steps({"a": (), "b": ()}), call)
    assert outcomes["b"].state == "failed"
    assert told.count("b") == 1


def test_an_interruption_stops_the_workers_and_goes_on() -> None:
    stopped = threading.Event()

    def call(step: Step) -> Outcome:
        if step.name == "a":
            return Outcome("done")
        assert stopped.wait(timeout=30)
        return Outcome("failed", error=BrainsimError("stopped"))

    def tell(step: Step, outcome: Outcome) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_schedule(make_steps({"a": (), "b": ()}), call, n_parallel=2, tell=tell, stop=stopped.set)
