"""The plan of a study: what dry runs say becomes done, stale, to do or wrong, with times where they are known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from brainsim.commands.study_file import Step, Study, read_study
from brainsim.commands.study_log import StudyLog, log_path
from brainsim.commands.study_plan import NO_STORE, StepPlan, plan_study
from brainsim.core.errors import BrainsimError, InvalidValueError, StoreError, UnknownNameError
from brainsim.core.progress import SILENT

TEXT = """
stimuli = ["a.npy"]
[extract.low]
models = ["pixels"]
[ingest.mine]
source = "bold.npy"
[fit.main]
"""

DONE = {
    "extract.low": {"dry_run": True, "n_nodes_written": 0, "n_nodes_reused": 4, "bytes": 0},
    "ingest.mine": {"dry_run": True, "n_nodes_written": 0, "n_nodes_reused": 2},
    "fit.main": {"n_nodes_written": 0, "n_nodes_reused": 2, "subjects": ["a", "b"]},
}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    (tmp_path / "study.toml").write_text(TEXT)
    return read_study(tmp_path / "study.toml")


def plan(study: Study, answers: Mapping[str, Any]) -> dict[str, StepPlan]:
    """Plan with verbs that answer as told: a summary, an error, or a function of store and overwrite."""

    def dry_run(step: Step, *, store: str, overwrite: bool) -> Mapping[str, Any]:
        answer = answers[step.name]
        answer = answer(store, overwrite) if callable(answer) else answer
        if isinstance(answer, BrainsimError):
            raise answer
        summary: Mapping[str, Any] = answer
        return summary

    return plan_study(study, dry_run, StudyLog(log_path(study.path)), SILENT)


def test_what_is_complete_is_done(study: Study) -> None:
    assert {name: p.state for name, p in plan(study, DONE).items()} == dict.fromkeys(DONE, "done")


def test_missing_nodes_are_counted_with_their_bytes(study: Study) -> None:
    missing = {"dry_run": True, "n_nodes_written": 3, "n_nodes_reused": 1, "bytes": 300}
    plans = plan(study, {**DONE, "extract.low": missing})
    assert (plans["extract.low"].state, plans["extract.low"].n_missing, plans["extract.low"].bytes) == ("to do", 3, 300)
    # What stands there may not be what the models to come would give.
    assert (plans["fit.main"].state, plans["fit.main"].note) == ("to do", "looked at again after extract.low")


def test_a_missing_subject_is_to_do(study: Study) -> None:
    plans = plan(study, {**DONE, "fit.main": {"n_nodes_written": 0, "n_nodes_reused": 1, "subjects": ["a", "b"]}})
    assert (plans["fit.main"].state, plans["fit.main"].n_missing, plans["fit.main"].seconds) == ("to do", 1, None)


def test_what_overwriting_would_mend_is_stale(study: Study) -> None:
    taken = InvalidValueError("fits/main is in the store already, made with other options.")
    plans = plan(study, {**DONE, "fit.main": lambda store, overwrite: DONE["fit.main"] if overwrite else taken})
    assert (plans["fit.main"].state, plans["fit.main"].error) == ("stale", taken)


def test_what_waits_is_to_do_and_its_options_are_checked_without_a_store(study: Study) -> None:
    missing = {"dry_run": True, "n_nodes_written": 3, "n_nodes_reused": 0, "bytes": 300}
    unknown, nowhere = UnknownNameError("no dataset 'mine'."), StoreError("no store.")
    waits = plan(
        study, {**DONE, "extract.low": missing, "fit.main": lambda store, _: nowhere if store == NO_STORE else unknown}
    )
    assert (waits["fit.main"].state, waits["fit.main"].note) == ("to do", "after extract.low")
    bad = InvalidValueError("--alphas is 3,1.")
    wrong = plan(
        study, {**DONE, "extract.low": missing, "fit.main": lambda store, _: bad if store == NO_STORE else unknown}
    )
    assert (wrong["fit.main"].state, wrong["fit.main"].error, wrong["fit.main"].is_in_file) == ("wrong", bad, True)


def test_what_a_verb_refuses_otherwise_is_wrong(study: Study) -> None:
    unknown, nowhere = UnknownNameError("unknown subject 'c'."), StoreError("no store.")
    plans = plan(study, {**DONE, "fit.main": lambda store, _: nowhere if store == NO_STORE else unknown})
    assert (plans["fit.main"].state, plans["fit.main"].note) == ("wrong", "unknown subject 'c'.")
    assert not plans["fit.main"].is_in_file


def test_times_come_from_earlier_nodes_of_the_step_or_else_of_the_verb(study: Study) -> None:
    missing = {"dry_run": True, "n_nodes_written": 3, "n_nodes_reused": 1, "bytes": 300}
    log = StudyLog(log_path(study.path))
    assert plan(study, {**DONE, "extract.low": missing})["extract.low"].seconds is None
    log.add("done", step="extract.other", verb="extract", n_written=10, seconds=100.0)
    assert plan(study, {**DONE, "extract.low": missing})["extract.low"].seconds == pytest.approx(30.0)
    log.add("done", step="extract.low", verb="extract", n_written=0, seconds=5.0)  # found complete: tells nothing
    log.add("done", step="extract.low", verb="extract", n_written=4, seconds=8.0)
    found = plan(study, {**DONE, "extract.low": missing})["extract.low"]
    assert found.seconds == pytest.approx(6.0)
    assert found.note == "time as of 4 earlier nodes"


def test_a_log_whose_last_line_broke_off_is_read_and_gone_on_with(tmp_path: Path) -> None:
    log = StudyLog(tmp_path / "study.log.jsonl")
    log.add("begin")
    with log.path.open("a") as file:
        file.write('{"time": "2026')
    log.add("end")
    assert [event["event"] for event in log.events()] == ["begin", "end"]
    assert list(StudyLog(tmp_path / "none.jsonl").events()) == []
