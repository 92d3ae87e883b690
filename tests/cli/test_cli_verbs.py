"""A verb on the command line: what its function is given, what is printed where, and the exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from toy_verbs import TOY, toy_module
from typer.testing import CliRunner, Result

from brainsim.cli.main import make_app
from brainsim.commands import VERBS


@pytest.fixture(autouse=True)
def toy_there() -> Iterator[None]:
    with toy_module():
        yield


def run(*words: str) -> Result:
    return CliRunner().invoke(make_app((*VERBS, TOY)), ["toy", *words])


def values(*words: str) -> dict[str, Any]:
    result = run("count", "--json", *words)
    assert result.exit_code == 0, result.output
    given: dict[str, Any] = json.loads(result.stdout)["values"]
    return given


def test_one_row_and_one_function_make_a_verb() -> None:
    assert "Count what it is given" in CliRunner().invoke(make_app((*VERBS, TOY)), ["--help"]).stdout
    assert run("count").exit_code == 0


def test_what_is_not_given_is_left_to_the_functions_defaults() -> None:
    assert values() == {
        "store": "store/brainsim.zarr", "delays": [1, 2, 3, 4], "alphas": None, "families": None, "streams": None,
        "high_pass_s": 128.0, "truth": "auto", "n_blocks": 5, "models": ["*"], "value_range": None,
        "layer_curves": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "name", "expected"),
    [
        (["--delays", "1,2,5"], "delays", [1, 2, 5]),
        (["--delays", "2-6"], "delays", [2, 3, 4, 5, 6]),
        (["--delays", "0,2-3", "--delays", "7"], "delays", [0, 2, 3, 7]),
        (["--alphas", "0.1,1e3"], "alphas", [0.1, 1000.0]),
        (["--family", "static=cnn*,mae*", "--family", "video=videomae*"], "families",
         {"static": ["cnn*", "mae*"], "video": ["videomae*"]}),
        (["--stream", "early=V1,V2"], "streams", {"early": ["V1", "V2"]}),
        (["--stream", "streams.tsv"], "streams", "streams.tsv"),
        (["--high-pass-s", "none"], "high_pass_s", None),
        (["--high-pass-s", "64"], "high_pass_s", 64.0),
        (["--truth", "none"], "truth", None),
        (["--truth", "planted"], "truth", "planted"),
        (["--blocks", "7"], "n_blocks", 7),
        (["--models", "a,b", "--models", "c"], "models", ["a", "b", "c"]),
        (["--value-range", "0,255"], "value_range", [0.0, 255.0]),
        (["--no-layer-curves"], "layer_curves", False),
    ],
)  # fmt: skip
def test_words_become_values(words: list[str], name: str, expected: object) -> None:
    assert values(*words)[name] == expected


@pytest.mark.parametrize(
    "words",
    [
        ["--delays", "1,x"],
        ["--delays", "6-2"],
        ["--alphas", "small"],
        ["--family", "static"],
        ["--family", "=a"],
        ["--family", "a=b", "--family", "a=c"],
        ["--high-pass-s", "low"],
        ["--blocks", "2.5"],
        ["--no-such-option"],
    ],
)
def test_words_that_cannot_be_read_are_usage_errors(words: list[str]) -> None:
    result = run("count", *words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert words[0] in result.stderr


def test_a_missing_argument_is_a_usage_error() -> None:
    assert run().exit_code == 2


def test_json_is_the_only_thing_on_stdout_and_has_no_nan() -> None:
    result = run("count", "--json")
    assert json.loads(result.stdout)["rows"] == [{"stream": "early", "r2": None}]
    assert "Warning: something odd." in result.stderr


def test_text_shows_fields_and_rows() -> None:
    result = run("count", "--dry-run")
    assert "Dry run" in result.stdout
    assert "early" in result.stdout
    assert "Warning" not in result.stdout


def test_a_warning_is_told_once() -> None:
    assert run("count").stderr.count("something odd.") == 1


def test_quiet_leaves_notes_out_and_warnings_in() -> None:
    told = run("count", "--quiet").stderr
    assert "of note" not in told
    assert "something odd." in told


def test_progress_is_lines_where_stderr_is_no_terminal_and_only_when_asked_for() -> None:
    assert "counting" not in run("count").stderr
    assert "counting: 3/3 things" in run("count", "-v").stderr


def test_a_named_error_is_one_sentence_its_notes_and_its_hint_without_traceback() -> None:
    result = run("count", "--raise-", "named")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.splitlines()[-3:] == [
        "Error: name is 'x'; it must be 'y'.",
        "Note: seen in run 1",
        "Hint: brainsim toy y",
    ]


def test_an_error_without_a_hint_points_at_the_help() -> None:
    assert run("count", "--raise-", "hintless").stderr.endswith("Hint: brainsim toy --help\n")


def test_a_bug_shows_itself() -> None:
    result = run("count", "--raise-", "bug")
    assert isinstance(result.exception, ZeroDivisionError)


def test_an_interruption_says_what_is_kept_and_exits_with_130() -> None:
    result = run("count", "--raise-", "interrupt")
    assert result.exit_code == 130
    assert "is kept" in result.stderr


def test_a_summary_that_is_not_ok_exits_with_1() -> None:
    assert run("bad", "--json").exit_code == 1


def test_a_reader_that_leaves_early_is_no_error(root_dir: Path) -> None:
    code = "from brainsim.cli.main import run; import sys; sys.argv = ['brainsim', 'models', 'list', '--json']; run()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        told = process.stderr.read()
    assert told == b""
