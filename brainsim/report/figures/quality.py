"""Turn what cleaning saw of each run into a table."""

from __future__ import annotations

import math

from brainsim.report.content import RunQuality
from brainsim.report.tables import Cell, Column, Table

LONG_TABLE = 16  # rows; beyond this the figure tells more than the table


def tabulate_quality(runs: tuple[RunQuality, ...], *, key: str) -> Table:
    """Return one row per run."""
    is_repeated = any(q.n_repeats > 1 for q in runs)
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            q.dataset, q.subject, q.run, q.n_trs, q.tr_s, q.n_targets, q.n_targets - q.n_valid, q.tsnr_median,
            q.variance_removed_median, q.fd_mean_mm, q.n_outlier_trs, q.n_scrubbed, q.n_constant, q.n_nan,
            q.n_repeats if is_repeated else None,
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
        Column("n_scrubbed", "Scrubbed TRs"),
        Column("n_constant", "Constant"),
        Column("n_nan", "NaN"),
        Column("n_repeats", "Viewings"),
    )
    shown = tuple(c for i, c in enumerate(columns) if i < 7 or any(not _missing(row[i]) for row in rows))
    keep = [columns.index(c) for c in shown]
    return Table(
        key,
        "Quality of every run",
        shown,
        tuple(tuple(row[i] for i in keep) for row in rows),
        "Masked targets (constant, NaN) have no score anywhere. tSNR before cleaning; FD: framewise displacement. "
        "Scrubbed TRs keep their place in time and take no part in fits; viewings of the same are averaged.",
        folded=len(rows) > LONG_TABLE,
    )


def _missing(cell: Cell) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))
