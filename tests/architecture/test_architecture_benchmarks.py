"""The benchmarks run: at sizes that measure nothing, so that they are not found broken when somebody wants figures."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _from_the_checkout(root_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (root_dir / "benchmarks").is_dir():
        pytest.skip("the benchmarks are not part of an installation")
    monkeypatch.setattr(sys, "path", [str(root_dir), *sys.path])


# What a figure must be even at sizes that measure nothing. The benchmark of memory takes minutes also then.
FIGURES: dict[str, tuple[str, Callable[[float], bool]]] = {
    "search": ("exhaustive_largest_difference_same_choice", lambda value: value < 1e-4),
    "lattice": ("7 of 3: candidates", lambda value: value > 7),
    "nulls": ("rows", lambda value: value == 160),
    "kernel": ("n_delays", lambda value: value == 4),
    "store": ("chunk files: store", lambda value: value == 4),
    "audit": ("gram nodes", lambda value: value == 4 * 6),
}


@pytest.mark.parametrize("name", ["search", "lattice", "nulls", "extract", "kernel", "store", "ingest", "rsa", "audit"])
def test_a_benchmark_prints_and_keeps_its_figures(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "figures.json"
    out.write_text('{"memory": {"bands": 108}}')
    import_module("benchmarks.__main__").main([name, "--quick", "--out", str(out)])
    figures = json.loads(out.read_text())
    assert figures["memory"] == {"bands": 108}  # what is known from other runs stays
    assert len(figures[name]) > 1
    if name in FIGURES:
        key, holds = FIGURES[name]
        assert holds(figures[name][key])
    assert next(iter(figures[name])) in capsys.readouterr().out


def test_unknown_benchmarks_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        import_module("benchmarks.__main__").main(["sorting"])
    assert "sorting" in capsys.readouterr().err
