"""Turn what cleaning saw of each run into a strip of quality figures and a table."""

from __future__ import annotations

import math
from collections.abc import Callable

from matplotlib.axes import Axes

from brainsim.report.content import RunQuality
from brainsim.report.figures.canvas import Drawing, finish, panels
from brainsim.report.tables import Cell, Column, Table
from brainsim.report.words import count

LONG_TABLE = 16  # rows; beyond this the figure tells more than the table

MEASURES: tuple[tuple[str, str, Callable[[RunQuality], float]], ...] = (
    ("tsnr_median", "tSNR (mean / SD)", lambda q: q.tsnr_median),
    ("fd_mean_mm", "Mean FD (mm)", lambda q: q.fd_mean_mm),
    ("variance_removed_median", "Variance removed (share)", lambda q: q.variance_removed_median),
)


def tabulate_quality(runs: tuple[RunQuality, ...], *, key: str) -> Table:
    """Return one row per run."""
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            q.dataset, q.subject, q.run, q.n_trs, q.tr_s, q.n_targets, q.n_targets - q.n_valid, q.tsnr_median,
            q.variance_removed_median, q.fd_mean_mm, q.n_outlier_trs, q.n_constant, q.n_nan,
        )
        for q in runs
    )  # fmt: skip
    columns = (
        Column("dataset", "Dataset"),
        Column("subject", "Subject"),
        Column("run", "Run"),
        Column("n_trs", "TRs"),
        Column("tr_s", "TR (s)", 3),
        Column("n_targets", "Targets"),
        Column("n_masked", "Masked"),
        Column("tsnr_median", "tSNR (median)", 1),
        Column("variance_removed_median", "Variance removed", 2),
        Column("fd_mean_mm", "FD (mean, mm)", 3),
        Column("n_outlier_trs", "Outlier TRs"),
        Column("n_constant", "Constant"),
        Column("n_nan", "NaN"),
    )
    shown = tuple(c for i, c in enumerate(columns) if i < 7 or any(not _missing(row[i]) for row in rows))
    keep = [columns.index(c) for c in shown]
    return Table(
        key,
        "Quality of every run",
        shown,
        tuple(tuple(row[i] for i in keep) for row in rows),
        "Masked targets (constant, NaN) have no score anywhere. tSNR before cleaning; FD: framewise displacement.",
        folded=len(rows) > LONG_TABLE,
    )


def draw_quality(runs: tuple[RunQuality, ...], *, key: str) -> Drawing | None:
    """Draw each measure that is known, one column of dots per subject; none where there are fewer than four runs."""
    known = [(k, label, get) for k, label, get in MEASURES if any(math.isfinite(get(q)) for q in runs)]
    if len(runs) < 4 or not known:
        return None
    subjects = list(dict.fromkeys((q.dataset, q.subject) for q in runs))
    figure, axes = panels(
        len(known), n_columns=3, panel_height_in=1.45, share_y=False, gap_in=(0.55, 0.6), top_in=0.12,
        bottom_in=0.42, width_in=7.2 if len(known) > 1 else 4.3,
    )  # fmt: skip
    for axis, (_, label, get) in zip(axes, known, strict=True):
        _draw_strip(axis, runs, subjects, get)
        axis.set(ylabel=label, xlabel="Subject")
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (q.dataset, q.subject, q.run, *(get(q) for _, _, get in known)) for q in runs
    )
    columns = tuple(Column(n) for n in ("dataset", "subject", "run", *(k for k, _, _ in known)))
    table = Table(key, "Quality measures of every run", columns, rows)
    alt = f"Dots of {len(known)} quality measures for {len(runs)} runs of {len(subjects)} subjects."
    caption = (
        f"One dot per run (n = {count(len(runs), 'run')} of {count(len(subjects), 'subject')}); "
        "bar: median of the subject's runs. "
        "tSNR: temporal signal-to-noise ratio, median over targets; FD: framewise displacement."
    )
    return finish(figure, key, title="Quality of the runs", caption=caption, alt=alt, table=table)


def _draw_strip(
    axis: Axes, runs: tuple[RunQuality, ...], subjects: list[tuple[str, str]], get: Callable[[RunQuality], float]
) -> None:
    axis.grid(axis="y")
    for x, subject in enumerate(subjects):
        values = [get(q) for q in runs if (q.dataset, q.subject) == subject]
        values = sorted(v for v in values if math.isfinite(v))
        if not values:
            continue
        offsets = [((7 * i) % 11 - 5) / 28 for i in range(len(values))]  # spread neighbours apart, the same every time
        axis.plot([x + o for o in offsets], values, "o", markersize=2.6, color="#5B7FA6", markeredgewidth=0)
        middle = (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2
        axis.plot([x - 0.3, x + 0.3], [middle, middle], color="#1A1D21", linewidth=1.2)
    step = max(1, math.ceil(len(subjects) / 10))
    ticks = range(0, len(subjects), step)
    axis.set_xticks(list(ticks), [subjects[i][1].removeprefix("sub-") for i in ticks])
    axis.set_xlim(-0.7, len(subjects) - 0.3)
    axis.set_ylim(bottom=0)


def _missing(cell: Cell) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))
