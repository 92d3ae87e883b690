"""The plan of a study: what dry runs say becomes done, stale, to do or wrong, with times where they are known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from brainsim.commands.study_file import Step, Study, read_study
from brainsim.commands.study_log import StudyLog, log_path
from brainsim.commands.study_plan import NO_STORE, StepPlan, plan_study
from brainsim.core.errors import BrainsimError, InputFileError, InvalidValueError, StoreError, UnknownNameError
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


def plan_text(folder: Path, text: str, answers: Mapping[str, Any]) -> dict[str, StepPlan]:
    """Plan a study none of whose analyses can be done before its sources are."""
    (folder / "study.toml").write_text(text)
    nowhere = StoreError("no store.")
    study = read_study(folder / "study.toml")
    return plan(study, {step.name: nowhere for step in study.steps} | dict(answers))


SOURCES = {
    "extract.low": {"dry_run": True, "n_nodes_written": 3, "n_nodes_reused": 0, "bytes": 1},
    "ingest.mine": {"dry_run": True, "n_nodes_written": 3, "n_nodes_reused": 0},
}
ROWS = ("cnn-static-object", "mae-base", "mae-base-finetuned", "videomae-base", "videomae-base-finetuned")


@pytest.mark.parametrize(
    ("table", "told", "line"),
    [
        ('[fit.main]\nmodels = ["pixels", "pixls"]', "models: 'pixls' matches no model", "models = ["),
        ('[rsa.main]\nmodels = "mae-*"', "models: 'mae-*' matches no model", 'models = "'),
        ('[partition.main]\nfamilies = {a = ["pixels"], b = ["pixal"]}', "family 'b': 'pixal' matches", "families = "),
    ],
)
def test_models_that_nothing_will_bring_are_told_beforehand(tmp_path: Path, table: str, told: str, line: str) -> None:
    text = TEXT.replace("[fit.main]", table)
    plans = plan_text(tmp_path, text, SOURCES)
    (wrong,) = [found for name, found in plans.items() if name.endswith(".main")]
    assert (wrong.state, wrong.is_in_file) == ("wrong", True)
    assert told in wrong.note
    number = max(i for i, row in enumerate(text.splitlines(), start=1) if row.startswith(line))
    assert f"line {number}, [" in wrong.row()["note"]


@pytest.mark.parametrize("models", ['["pixels@0123*"]', '["*"]', '"pixels"', '["pix*"]', '["timm:resnet18.a1_in1k"]'])
def test_models_that_an_extraction_may_bring_are_awaited(tmp_path: Path, models: str) -> None:
    text = TEXT.replace('["pixels"]', '["pixels", "timm:resnet18"]').replace(
        "[fit.main]", f"[fit.main]\nmodels = {models}"
    )
    assert plan_text(tmp_path, text, SOURCES)["fit.main"].state == "to do"


def test_models_of_files_are_there(tmp_path: Path) -> None:
    table = '[rsa.files]\nrdms = {IT = ["it.npy"]}\nmodel_rdms = {net = ["net.npy"]}\nfamilies = {a = ["net"]}'
    assert plan_text(tmp_path, TEXT.replace("[fit.main]", table), SOURCES)["rsa.files"].state == "to do"


def test_an_accuracy_that_too_few_models_can_have_is_told_beforehand(tmp_path: Path) -> None:
    text = f"{TEXT}[accuracy.top-1]\n[report]\n".replace('["pixels"]', str(list(ROWS)).replace("'", '"'))
    plans = plan_text(tmp_path, text, SOURCES)
    assert plans["accuracy.top-1"].state == "to do"
    plans = plan_text(tmp_path, text.replace("videomae-base-finetuned", "pixels"), SOURCES)
    assert (plans["accuracy.top-1"].state, plans["accuracy.top-1"].is_in_file) == ("wrong", False)
    assert "2 model(s) have a published accuracy" in plans["accuracy.top-1"].note
    (tmp_path / "own.tsv").write_text("model\taccuracy\tsource\npixels\t1\tme\n")
    own = text.replace("videomae-base-finetuned", "pixels").replace("[report]", 'table = "own.tsv"\n[report]')
    assert plan_text(tmp_path, own, SOURCES)["accuracy.top-1"].state == "to do"


def test_a_file_that_is_missing_is_wrong_but_no_word_of_the_studys(study: Study) -> None:
    gone = InputFileError("no table of accuracies at own.tsv.")
    missing = {"dry_run": True, "n_nodes_written": 3, "n_nodes_reused": 1, "bytes": 300}
    plans = plan(study, {**DONE, "extract.low": missing, "fit.main": gone})
    assert (plans["fit.main"].state, plans["fit.main"].is_in_file) == ("wrong", False)


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
