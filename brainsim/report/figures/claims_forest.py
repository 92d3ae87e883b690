"""Turn the tests behind answers to claims into a forest of estimates, as a share of what can be reached."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from brainsim.report.content import ClaimsSet
from brainsim.report.figures.canvas import Drawing, draw_legend, finish, legend_height_in, panels
from brainsim.report.palette import INK
from brainsim.report.tables import Cell, Column, Table
from brainsim.report.words import break_evenly, count, join_words

ANSWER_COLOURS = {"supported": "#009E73", "not supported": "#D55E00", "undecided": "#8A9099", "not tested": "#C9CDD2"}
ANSWER_MARKS = {"supported": "o", "not supported": "X", "undecided": "D", "not tested": "s"}
MEASURES = {"encoding": "R²", "geometry": "RDM similarity"}
ROW_IN = 0.16
LINE = 0.6  # of a row more, for each further line of a name
MAX_NAME, MAX_HEAD = 52, 42  # letters in a line; those of claims are bold

Row = Mapping[str, Any]


def draw_tests(c: ClaimsSet, measure: str, *, key: str) -> Drawing | None:
    """Draw each test of a measure: estimate, interval and bound; None where nothing was tested."""
    tests = [row for row in c.tests if row["measure"] == measure and row["estimate"] is not None]
    if not tests:
        return None
    answers = {row["claim"]: str(row["answer"]) for row in c.answers if row["measure"] == measure}
    handles = [
        Line2D([], [], linestyle="none", marker=ANSWER_MARKS[a], color=ANSWER_COLOURS[a], markersize=4.6, label=a)
        for a in ANSWER_COLOURS
        if a in [answers.get(str(row["claim"])) for row in tests]
    ]
    handles.append(Line2D([], [], color=INK, linewidth=1.0, linestyle=(0, (2, 1.5)), label="bound"))
    heads = _group(tests)
    titles = {claim: _lines(f"{claim} – {answers.get(claim, 'not tested')}", MAX_HEAD) for claim in heads}
    n_rows = sum(_height(title) for title in titles.values()) + sum(_height(_name(row)) for row in tests)
    label_in = 0.3 + max(
        0.052 * max(len(line) for row in tests for line in _name(row).split("\n")),
        0.062 * max(len(line) for title in titles.values() for line in title.split("\n")),
    )
    figure, (axis,) = panels(
        1, n_columns=1, panel_height_in=ROW_IN * n_rows + 0.15, left_in=min(label_in, 3.2), bottom_in=0.46, top_in=0.1,
        legend_in=legend_height_in(len(handles), 5),
    )  # fmt: skip
    axis.grid(axis="x")
    axis.axvline(0.0, color=INK, linewidth=0.8)
    y = 0.0
    ticks: list[float] = []
    labels: list[str] = []
    for claim, rows in heads.items():
        answer = answers.get(claim, "not tested")
        for label, row in ((titles[claim], None), *((_name(row), row) for row in rows)):
            middle = y + (_height(label) - 1) / 2
            if row is not None:
                _draw_row(axis, row, middle, answer)
            ticks.append(middle)
            labels.append(label)
            y += _height(label)
    axis.set_yticks(ticks, labels)
    for text in axis.get_yticklabels():
        if text.get_text() in titles.values():
            text.set_fontweight("bold")
    axis.set(ylim=(n_rows - 0.4, -0.6), xlabel=f"{MEASURES.get(measure, measure)} (no unit)")
    axis.spines["left"].set_visible(False)
    axis.tick_params(axis="y", length=0, labelsize=6.8)
    draw_legend(figure, handles, n_columns=5)
    told = [f"{claim} {answers.get(claim, 'not tested')}" for claim in heads]
    n_subjects = max(int(row["n_subjects"] or 0) for row in tests)
    caption = (
        f"Every test of {MEASURES.get(measure, measure)} behind the answers: estimate and 95 % interval of what each "
        f"claim speaks of, mean over n = {count(n_subjects, 'subject')}; dashed: the declared bound (what counts as "
        f"little, or the smallest effect of interest). Answers: {join_words(told)}."
    )
    alt = f"Forest of {len(tests)} tests of {len(heads)} claims. {join_words(told)}."
    names = (
        "claim",
        "answer",
        "part",
        "stream",
        "estimate",
        "low",
        "high",
        "bound",
        "reachable",
        "p_for",
        "p_against",
        "n_subjects",
    )
    cells: tuple[tuple[Cell, ...], ...] = tuple(
        (row["claim"], answers.get(row["claim"]), *(row[n] for n in names[2:])) for row in tests
    )
    table = Table(key, f"Tests of {measure}", tuple(map(Column, names)), cells)
    return finish(figure, key, title=f"Claims tested by {measure}", caption=caption, alt=alt, table=table)


def _group(tests: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in tests:
        found.setdefault(str(row["claim"]), []).append(row)
    return found


def _name(row: Row) -> str:
    part = str(row["part"] or "")
    return _lines(f"{part}, {row['stream']}" if part else str(row["stream"]), MAX_NAME)


def _lines(text: str, longest: int) -> str:
    return "\n".join(break_evenly(text, longest))


def _height(label: str) -> float:
    """Return how many rows a label takes."""
    return 1 + LINE * label.count("\n")


def _draw_row(axis: Axes, row: Row, y: float, answer: str) -> None:
    colour = ANSWER_COLOURS.get(answer, INK)
    low, high = row["low"], row["high"]
    if low is not None and high is not None and math.isfinite(low) and math.isfinite(high):
        axis.plot([low, high], [y, y], color=colour, linewidth=1.2, solid_capstyle="butt", zorder=3)
    axis.plot(row["estimate"], y, marker=ANSWER_MARKS.get(answer, "o"), color=colour, markersize=4.4, zorder=4)
    if row["bound"] is not None and math.isfinite(row["bound"]):
        axis.plot([row["bound"]] * 2, [y - 0.42, y + 0.42], color=INK, linewidth=1.0, linestyle=(0, (2, 1.5)), zorder=2)
