"""Progress: bars for a terminal, sparse lines with --verbose elsewhere, nothing that is told twice."""

from __future__ import annotations

import io
import re
import threading

import pytest
from rich.console import Console

from brainsim.cli import progress as drawing
from brainsim.cli.progress import BarProgress, LineProgress, QuietProgress, choose_progress


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=120)


def pipe() -> Console:
    return Console(file=io.StringIO(), force_terminal=False, width=120)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("console", "is_verbose", "is_quiet", "expected"),
    [
        (terminal(), False, False, BarProgress),
        (terminal(), False, True, QuietProgress),
        (pipe(), False, False, QuietProgress),
        (pipe(), True, False, LineProgress),
        (pipe(), True, True, QuietProgress),
    ],
)
def test_the_place_and_the_flags_choose_how_progress_is_told(
    console: Console, is_verbose: bool, is_quiet: bool, expected: type
) -> None:
    assert type(choose_progress(console, is_verbose=is_verbose, is_quiet=is_quiet)) is expected


def test_bars_show_count_unit_and_rate_and_vanish_in_the_end() -> None:
    console = terminal()
    bars = BarProgress(console)
    with bars.task("extract", total=8, unit="clips") as outer, bars.task("write", unit="bytes") as inner:
        inner.set_total(4096)
        inner.advance(1024)
        outer.advance(3)
        bars._bars.refresh()
        bars.note("a note between bars")
        shown = written(console)
    assert "3/8 clips" in shown
    assert "1.0 KiB/4.0 KiB" in shown
    assert bars._bars.tasks == []
    assert "Note: a note between bars" in written(console)


def test_bars_of_tasks_side_by_side_each_tell_their_own_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(drawing.time, "monotonic", lambda: now[0])
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    bars = BarProgress(console)
    with (
        bars.task("tasks", total=4, unit="tasks") as tasks,
        bars.task("split over bands", total=300, unit="candidates") as first,
        bars.task("partition", total=300, unit="candidates") as second,
    ):
        # Steps of two minutes: longer than any window over which a rate is taken.
        for _ in range(2):
            now[0] += 120.0
            tasks.advance()
            first.advance(60)
            second.advance(120)
        now[0] += 20.0
        bars._bars.refresh()
        lines = [line for line in _plain(written(console)).splitlines() if "left" in line][-3:]
    assert "2/4 tasks" in lines[0]
    assert "3:40 left" in lines[0]
    assert "120/300 candidates" in lines[1]
    assert "0.5/s" in lines[1]
    assert "5:40 left" in lines[1]
    assert "240/300 candidates" in lines[2]
    assert "1/s" in lines[2]
    assert "0:40 left" in lines[2]
    assert max(map(len, lines)) <= 80


def test_a_rate_forgets_steps_that_were_found_done_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(drawing.time, "monotonic", lambda: now[0])
    console = pipe()
    with LineProgress(console).task("fit", total=1000, unit="candidates") as task:
        now[0] += 0.001
        task.advance(500)  # those were there already
        for _ in range(100):
            now[0] += 1.0
            task.advance()
    assert written(console).splitlines()[-2] == "fit: 591/1000 candidates, 1 candidates/s, 6:49 left"


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).replace("\r", "\n")


def test_tasks_may_be_opened_from_several_threads() -> None:
    bars = BarProgress(terminal())

    def work() -> None:
        with bars.task("work", total=50) as task:
            for _ in range(50):
                task.advance()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bars._n_open == 0


def test_an_error_inside_a_task_closes_its_bar() -> None:
    bars = BarProgress(terminal())
    with pytest.raises(ZeroDivisionError), bars.task("work", total=2):
        raise ZeroDivisionError
    assert bars._n_open == 0
    assert bars._bars.tasks == []


def test_lines_tell_rate_and_time_left_when_they_are_due(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(drawing.time, "monotonic", lambda: now[0])
    console = pipe()
    with LineProgress(console).task("fit", total=100, unit="targets") as task:
        for _ in range(4):
            now[0] += 6.0
            task.advance(10)
    assert written(console).splitlines() == [
        "fit: 20/100 targets, 1.67 targets/s, 0:48 left",
        "fit: 40/100 targets, 1.67 targets/s, 0:36 left",
        "fit: 40/100 targets, 1.67 targets/s, 0:36 left",
    ]


def test_warnings_that_differ_in_numbers_alone_are_told_three_times() -> None:
    speaker = QuietProgress(pipe(), is_quiet=True)
    for subject in range(1, 15):
        for _ in range(2):
            speaker.warn(f"sub-{subject:02d}: {subject / 2:.1f}% of the targets chose an alpha at an edge.")
    speaker.warn("another kind of warning.")
    lines = written(speaker.console).splitlines()
    assert [line[9:15] for line in lines[:3]] == ["sub-01", "sub-02", "sub-03"]
    assert "more like the last one" in lines[3]
    assert lines[4] == "Warning: another kind of warning."
    assert len(lines) == 5
