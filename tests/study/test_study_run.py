"""`brainsim run` on small real files: what is missing is done once, what breaks off goes on, what fails is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainsim.commands.run import RunSummary, run
from brainsim.core.errors import InvalidValueError, UnknownNameError
from brainsim.store import Store

N_TRS, TR_S = 30, 2.0
RUNS = ("run-1", "run-2", "run-3")

STUDY = f"""
stimuli = ["movies/run-*.npy"]
store = "s.zarr"

[defaults]
frame_s = {TR_S}
device = "cpu"

[extract.low]
models = ["pixels", "contrast-energy"]
step_s = {TR_S}

[ingest.mine]
source = "bold/*.npy"
tr_s = {TR_S}
high_pass_s = "none"

[fit.main]
delays = "1-2"
alphas = [1, 100]

[rsa.geometry]

[report]
out = "page"
"""

# What is wrong with the second fit is known only once the BOLD is stored.
FAILING = (
    STUDY.replace("[report]", '[fit.other]\nrois = ["V9"]\n\n[report.main]\nfits = ["main"]')
    + """
[report.all]
out = "all"
"""
)


def make_study(folder: Path, text: str = STUDY) -> Path:
    rng = np.random.default_rng(0)
    for name in ("movies", "bold"):
        (folder / name).mkdir(parents=True)
    for name in RUNS:
        np.save(folder / "movies" / f"{name}.npy", rng.random((N_TRS, 18, 32), dtype=np.float32))
        np.save(folder / "bold" / f"{name}.npy", rng.normal(size=(N_TRS, 5)).astype(np.float32))
    path = folder / "study.toml"
    path.write_text(text, encoding="utf-8")
    return path


def states(summary: RunSummary) -> dict[str, str]:
    return {row["step"]: row["state"] for row in summary.steps}


def events(study: Path, kind: str) -> list[dict[str, Any]]:
    log = study.with_name("study.log.jsonl")
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return [line for line in lines if line["event"] == kind]


def started(study: Path) -> list[str]:
    return [event["step"] for event in events(study, "start")]


def command(*words: str | Path) -> Sequence[str]:
    return [sys.executable, "-m", "brainsim", *map(str, words)]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("study"), FAILING)


@pytest.fixture(scope="module")
def dry(study: Path) -> RunSummary:
    summary = run(study, dry_run=True)
    assert sorted(path.name for path in study.parent.iterdir()) == ["bold", "movies", "study.toml"]
    return summary


@pytest.fixture(scope="module")
def first(study: Path, dry: RunSummary) -> RunSummary:
    """Run the study, from another folder than its own."""
    return run(study)


@pytest.fixture(scope="module")
def again(study: Path, first: RunSummary) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("run", study.name, "--json"), capture_output=True, text=True, check=False, cwd=study.parent
    )


def test_a_dry_run_tells_nodes_disk_and_what_is_not_known(dry: RunSummary) -> None:
    rows = {row["step"]: row for row in dry.steps}
    assert {row["state"] for row in dry.steps} == {"to do"}
    assert rows["extract.low"]["n_nodes"] == 6
    assert rows["extract.low"]["bytes"] > 0
    assert rows["ingest.mine"]["n_nodes"] == 4  # three runs and their targets
    assert rows["fit.main"]["n_nodes"] is None
    assert rows["fit.main"]["note"] == "after extract.low, ingest.mine"
    assert all(row["seconds"] is None for row in dry.steps)
    assert dry.ok


def test_results_lie_beside_the_study_file(study: Path, first: RunSummary) -> None:
    store = Store(study.parent / "s.zarr")
    assert store.has("fits/main/mine/sub-01")
    assert store.has("rsa/geometry/mine/group")
    assert (study.parent / "page" / "index.html").exists()
    assert [event["step"] for event in events(study, "done")][:3] == ["extract.low", "ingest.mine", "fit.main"]


def test_a_failure_keeps_back_only_what_needs_it(study: Path, first: RunSummary) -> None:
    assert states(first) == {
        "extract.low": "done",
        "ingest.mine": "done",
        "fit.main": "done",
        "fit.other": "failed",
        "rsa.geometry": "done",
        "report.main": "done",
        "report.all": "not run",
    }
    assert not first.ok
    assert first.error is not None
    assert "V9" in first.error["message"]
    assert events(study, "failed")[0]["message"] in first.error["message"]
    assert events(study, "not run")[0]["because_of"] == ["fit.other"]
    assert not (study.parent / "all").exists()


def test_the_second_time_only_what_failed_is_tried(study: Path, again: subprocess.CompletedProcess[str]) -> None:
    rows = {row["step"]: row for row in json.loads(again.stdout)["steps"]}
    assert [rows[name]["n_written"] for name in ("extract.low", "ingest.mine", "fit.main", "rsa.geometry")] == [0] * 4
    assert rows["extract.low"]["note"] == rows["report.main"]["note"] == "complete already"
    assert [started(study).count(name) for name in ("extract.low", "report.main", "fit.other")] == [1, 1, 2]


def test_the_first_error_is_told_and_is_the_exit_code(again: subprocess.CompletedProcess[str]) -> None:
    assert again.returncode == 1
    assert "Error: fit.other: " in again.stderr
    assert "report.all is not run: it needs fit.other" in again.stderr
    assert "Traceback" not in again.stderr


@pytest.mark.slow
def test_stale_results_are_replaced_only_when_asked(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    assert run(study).ok
    digest = Store(tmp_path / "s.zarr").info("fits/main/mine/sub-01").digest
    study.write_text(STUDY.replace('"1-2"', '"2-3"'), encoding="utf-8")
    told = run(study, dry_run=True)
    assert states(told)["fit.main"] == "stale"
    assert told.error is not None
    assert "made with other options" in told.error["message"]
    assert "--overwrite" in told.error["hint"]
    refused = run(study)
    assert states(refused) == {
        "extract.low": "done",
        "ingest.mine": "done",
        "fit.main": "failed",
        "rsa.geometry": "done",
        "report": "not run",
    }
    assert Store(tmp_path / "s.zarr").info("fits/main/mine/sub-01").digest == digest
    done = run(study, overwrite=True)
    assert done.ok
    assert [row["n_written"] for row in done.steps][:4] == [0, 0, 1, 0]
    assert Store(tmp_path / "s.zarr").info("fits/main/mine/sub-01").digest != digest


@pytest.mark.slow
def test_a_study_that_was_killed_goes_on_from_there(tmp_path: Path) -> None:
    path = make_study(tmp_path)
    process = subprocess.Popen(command("run", path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not events(path, "done"):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    finished = [event["step"] for event in events(path, "done")]
    assert finished[0] == "extract.low"
    assert "report" not in finished
    deadline = time.monotonic() + 60
    while True:  # the worker that it leaves ends by itself: until then, its node is locked
        summary = run(path)
        if summary.ok or time.monotonic() > deadline:
            break
        time.sleep(1)
    assert summary.ok, summary.error
    assert started(path).count("extract.low") == 1
    assert (tmp_path / "page" / "index.html").exists()


@pytest.mark.slow
def test_an_interruption_ends_the_workers_and_leaves_with_its_code(tmp_path: Path) -> None:
    path = make_study(tmp_path)
    # A shell's background job, such as a test suite may be, would ignore the signal.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from brainsim.cli.main import run; run()"
    )
    words = [sys.executable, "-c", code, "run", str(path)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not started(path):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "Interrupted." in told
    assert events(path, "interrupted")
    assert not list((tmp_path / "s.zarr" / ".locks").glob("*.partial"))


@pytest.mark.slow
def test_options_that_no_data_make_right_are_told_before_anything_is_done(tmp_path: Path) -> None:
    text = STUDY.replace("[1, 100]", "[3, 1]").replace("[rsa.geometry]", "[rsa.geometry]\nmin_lag_s = -1")
    path = make_study(tmp_path, text)
    lines = text.splitlines()
    alphas, lag = (lines.index(line) + 1 for line in ("alphas = [3, 1]", "min_lag_s = -1"))
    with pytest.raises(InvalidValueError, match=rf"study.toml, line {alphas}, \[fit.main\]: --alphas is 3,1") as error:
        run(path)
    assert error.value.__notes__ == [
        f"{path}, line {lag}, [rsa.geometry]: --min-lag-s is -1 s; it must be at least 0 s."
    ]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bold", "movies", "study.toml"]


@pytest.mark.slow
def test_files_that_are_missing_fail_their_step_alone(tmp_path: Path) -> None:
    path = make_study(tmp_path, STUDY.replace('source = "bold/*.npy"', 'source = "nowhere"'))
    told = run(path, dry_run=True)
    assert states(told)["ingest.mine"] == "wrong"
    assert not told.ok
    done = run(path)
    assert list(states(done).values()) == ["done", "failed", "not run", "not run", "not run"]
    assert done.error is not None
    assert "no file or folder at nowhere" in done.error["message"]


@pytest.mark.slow
def test_the_report_tells_both_protocols_and_does_without_answers_that_cannot_be_given(tmp_path: Path) -> None:
    both = STUDY.replace("[rsa.geometry]", '[rsa.geometry]\nprotocol = "both"\n\n[accuracy.top-1]')
    path = make_study(tmp_path, both)
    told = run(path, dry_run=True)
    assert states(told)["accuracy.top-1"] == "wrong"  # two models without a published accuracy
    assert told.error is not None
    assert (
        f"line {both.splitlines().index('[accuracy.top-1]') + 1}, [accuracy.top-1]: 0 model(s)" in told.error["message"]
    )
    done = run(path)
    assert {step: state for step, state in states(done).items() if state != "done"} == {"accuracy.top-1": "failed"}
    assert "report does without accuracy.top-1, which was not done." in done.warnings
    page = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    assert "geometry-study" in page
    assert {path.name.split("-similarity")[0] for path in (tmp_path / "page" / "tables").glob("*similarity*.tsv")} >= {
        "geometry", "geometry-study",
    }  # fmt: skip


@pytest.mark.slow
def test_names_of_models_and_claims_that_do_not_exist_are_told_before_anything_is_done(tmp_path: Path) -> None:
    wrong = ("[rsa.geometry]", 'models = ["pixls"]', "", "[claims.study]", 'claims = ["flow-uniq"]')
    text = STUDY.replace("[rsa.geometry]", "\n".join(wrong))
    path = make_study(tmp_path, text)
    lines = text.splitlines()
    with pytest.raises(UnknownNameError, match=r"'pixls' matches no model.*did you mean 'pixels'") as error:
        run(path)
    assert f"line {lines.index(wrong[1]) + 1}, [rsa.geometry]" in error.value.message
    claims = lines.index(wrong[-1]) + 1
    assert error.value.__notes__ == [
        f"{path}, line {claims}, [claims.study]: unknown claim 'flow-uniq'; did you mean 'flow-unique'?"
    ]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bold", "movies", "study.toml"]


def test_a_worker_that_is_killed_takes_no_other_step_with_it(tmp_path: Path) -> None:
    from brainsim.commands.study_worker import Worker
    from brainsim.core.progress import SILENT

    worker = Worker(tmp_path)
    os.kill(worker._process.pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="killed by SIGKILL"):
        worker.call("fit", {"name": "x", "dataset": "d"}, {"store": "none"}, SILENT)
    worker.close()
