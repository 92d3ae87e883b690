"""What a terminal is shown of a study: the plan with what is known of time and disk, and what each step did."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from brainsim.cli.study_views import tell_seconds
from brainsim.cli.views import show
from brainsim.commands.run import RunSummary


def shown(*steps: dict[str, Any], dry_run: bool) -> str:
    summary = RunSummary("study.toml", "s.zarr", "study.log.jsonl", steps, 2**31, None, (), 1.0, dry_run=dry_run)
    console = Console(width=160, record=True)
    with console.capture() as capture:
        console.print(show("run", summary))
    return capture.get()


def plan_row(step: str, state: str, **known: Any) -> dict[str, Any]:
    return {"step": step, "state": state, "n_nodes": None, "bytes": None, "seconds": None, "note": "", **known}


def test_a_plan_tells_what_is_to_come_and_what_is_not_known() -> None:
    text = shown(
        plan_row("extract", "to do", n_nodes=6, bytes=2**20, seconds=120.0),
        plan_row("fit.main", "to do"),
        plan_row("ingest.mine", "done", n_nodes=0),
        dry_run=True,
    )
    assert "Dry run: nothing was written." in text
    assert "time 2 min, unknown for 1 of 2 steps; disk 1.0 MiB, unknown for 1 of 2 steps; 2.0 GiB free" in text
    assert "time (estimated)" in text
    assert "written" not in text.split("\n", 1)[1]


def test_nothing_to_come_is_said() -> None:
    assert "nothing" in shown(plan_row("extract", "done", n_nodes=0), dry_run=True).split("to come")[1]


def test_a_run_tells_what_each_step_made_and_why_it_did_not() -> None:
    row = {"step": "fit.main", "state": "not run", "n_written": 0, "n_reused": None, "seconds": 0.0}
    text = shown({**row, "note": "needs ingest.mine"}, dry_run=False)
    assert "needs ingest.mine" in text
    assert "nodes to make" not in text


def test_times_are_told_in_the_unit_that_fits() -> None:
    assert [tell_seconds(s) for s in (1.234, 45, 600, 9000)] == ["1.2 s", "45 s", "10 min", "2.5 h"]
