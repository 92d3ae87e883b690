"""The demo: planted parts are recovered, a second run reuses everything. Minutes long: run by nox -s slow."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from brainsim.commands.demo import demo

sys.path.append(str(Path(__file__).resolve().parent.parent / "report"))

from page_checks import check_page


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.mark.slow
def test_planted_parts_are_recovered_and_the_second_run_is_five_times_as_fast(folder: Path) -> None:
    started = time.monotonic()
    first = demo(out=folder)
    first_s = time.monotonic() - started
    assert len(first.systems) == 9
    assert len(first.recovered) == 20
    assert first.largest_error < 0.03
    null = [row for row in first.recovered if row["planted"] < 0.01]
    assert len(null) == 12
    assert not [row for row in null if row["low"] > 0]  # nothing is found where nothing was planted
    page = Path(first.report).parent
    assert check_page(page) >= 18
    if artefacts := os.environ.get("BRAINSIM_ARTEFACTS"):  # the page, for whoever looks at it after the tests
        shutil.copytree(page, Path(artefacts) / "demo-page", dirs_exist_ok=True)
    started = time.monotonic()
    second = demo(out=folder)
    assert second.recovered == first.recovered
    assert (time.monotonic() - started) * 5 < first_s
