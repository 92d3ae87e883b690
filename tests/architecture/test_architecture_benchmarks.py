"""The benchmarks run: at sizes that measure nothing, so that they are not found broken when somebody wants figures."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _from_the_checkout(root_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (root_dir / "benchmarks").is_dir():
        pytest.skip("the benchmarks are not part of an installation")
    monkeypatch.setattr(sys, "path", [str(root_dir), *sys.path])


def test_benchmarks_print_and_keep_their_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "figures.json"
    import_module("benchmarks.__main__").main(
        ["search", "lattice", "nulls", "extract", "kernel", "store", "ingest", "rsa", "--quick", "--out", str(out)]
    )
    figures = json.loads(out.read_text())
    assert figures["search"]["exhaustive_largest_difference_same_choice"] < 1e-4
    assert figures["lattice"]["7 of 3: candidates"] > 7
    assert figures["nulls"]["rows"] == 160
    assert figures["kernel"]["n_delays"] == 4
    assert figures["store"]["chunk files: store"] == 4
    assert "ratio_climbing" in capsys.readouterr().out


def test_unknown_benchmarks_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        import_module("benchmarks.__main__").main(["sorting"])
    assert "sorting" in capsys.readouterr().err
