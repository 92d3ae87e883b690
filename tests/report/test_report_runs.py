"""The figure of every run's quality: each measure that is known, in the units that its axis says."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from brainsim.report.content import RunQuality
from brainsim.report.figures.canvas import drawing_style
from brainsim.report.figures.quality import tabulate_quality
from brainsim.report.figures.runs import draw_runs, make_figure, save_runs


def make_runs(n_subjects: int = 2, n_runs: int = 3, *, label: str = "run-{}") -> tuple[RunQuality, ...]:
    rng = np.random.default_rng(0)
    return tuple(
        RunQuality(
            "d", f"sub-{s + 1:02d}", label.format(r + 1), 200, 2.0, 90, 100,
            tsnr_median=float(rng.normal(60, 5)), variance_removed_median=float(rng.uniform(0.1, 0.3)),
            fd_mean_mm=float(rng.uniform(0.1, 0.3)), n_outlier_trs=10 + r, n_constant=4, n_nan=3, n_scrubbed=20 * s,
        )
        for s in range(n_subjects)
        for r in range(n_runs)
    )  # fmt: skip


def test_every_measure_has_a_strip_and_every_run_a_column() -> None:
    runs = make_runs()
    with drawing_style():
        figure = make_figure(runs)
    assert figure is not None
    labels = [axis.get_ylabel() for axis in figure.axes]
    assert labels == ["tSNR", "FD (mm)", "Variance\nremoved", "TRs (%)", "Targets (%)"]
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), [q.tsnr_median for q in runs])
    medians = [line.get_ydata()[0] for line in figure.axes[1].lines[1:3]]
    np.testing.assert_allclose(medians, [np.median([q.fd_mean_mm for q in runs[k : k + 3]]) for k in (0, 3)])
    trs = [bar.get_height() for bar in figure.axes[3].patches]
    np.testing.assert_allclose(trs, [5, 5.5, 6, 5, 5.5, 6, 0, 0, 0, 10, 10, 10])  # of 200: outliers, then scrubbed
    tops = [bar.get_y() + bar.get_height() for bar in figure.axes[4].patches]
    np.testing.assert_allclose(tops, [3] * 6 + [7] * 6 + [10] * 6)  # NaN, constant on top, others on top of both


def test_what_was_not_measured_has_no_strip() -> None:
    nan = float("nan")
    runs = tuple(
        replace(q, tsnr_median=nan, fd_mean_mm=nan, n_outlier_trs=None, n_scrubbed=None, n_valid=93)
        for q in make_runs()
    )
    with drawing_style():
        figure = make_figure(runs)
    assert figure is not None
    assert [axis.get_ylabel() for axis in figure.axes] == ["Variance\nremoved", "Targets (%)"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["NaN targets", "constant targets"]


def test_the_page_has_the_numbers_that_are_drawn() -> None:
    with drawing_style():
        drawing = draw_runs(make_runs(), key="quality")
        assert draw_runs(make_runs(1, 1), key="quality") is None  # the table says all of a single run
    assert drawing is not None
    assert [column.name for column in drawing.table.columns] == [
        "dataset", "subject", "run", "n_trs", "n_targets", "tsnr_median", "fd_mean_mm", "variance_removed_median",
        "n_outlier_trs", "n_scrubbed", "n_nan", "n_constant", "n_other",
    ]  # fmt: skip
    assert drawing.table.rows[4][-5:] == (11, 20, 3, 4, 3)
    assert "6 runs of 2 subjects" in drawing.caption


@pytest.mark.parametrize(
    ("label", "shown"),
    [("run-{}", ["1", "2", "3"]), ("ses-01_task-movie_run-1{}", ["11", "12", "13"]), ("{}", ["1", "2", "3"])],
)
def test_labels_of_runs_leave_out_what_all_share(label: str, shown: list[str]) -> None:
    with drawing_style():
        drawing = draw_runs(make_runs(1, 3, label=label), key="q")
    assert drawing is not None
    drawn = re.findall(r">([^<>]+)</text>", drawing.svg)
    assert [text for text in drawn if text in shown] == shown


def test_a_study_of_many_runs_is_drawn_without_labels(tmp_path: Path) -> None:
    save_runs(make_runs(15, 8), tmp_path / "q.svg")
    text = (tmp_path / "q.svg").read_text()
    assert "Runs, by subject" in text


def test_the_table_tells_scrubbed_trs_and_viewings_where_there_are_any() -> None:
    plain = tabulate_quality(tuple(replace(q, n_scrubbed=None) for q in make_runs()), key="runs")
    assert not {"n_scrubbed", "n_repeats"} & {column.name for column in plain.columns}
    told = tabulate_quality(tuple(replace(q, n_repeats=1 + k % 2) for k, q in enumerate(make_runs())), key="runs")
    keys = [column.name for column in told.columns]
    assert [row[keys.index("n_scrubbed")] for row in told.rows] == [0, 0, 0, 20, 20, 20]
    assert [row[keys.index("n_repeats")] for row in told.rows] == [1, 2] * 3
