"""Turn what cleaning saw of each run into one figure: a column per run, a strip per measure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from brainsim.report.content import RunQuality
from brainsim.report.figures.canvas import Drawing, draw_legend, drawing_style, finish, legend_height_in, panels
from brainsim.report.palette import FAINT, INK
from brainsim.report.tables import Cell, Column, Table
from brainsim.report.words import count

# Pixels per inch, where a file has any.
DPI = 200

# Up to so many runs each has its label; up to so many subjects each has its name.
MOST_RUN_LABELS, MOST_SUBJECT_NAMES = 48, 24

# Characters of a run's label that are shown.
LONGEST_LABEL = 14

DOT = "#3B6C9E"


@dataclass(frozen=True)
class Share:
    """A part of a run's TRs or targets, drawn as a bar.

    Parameters
    ----------
    key, label, colour : str
        Column of the table, word in the legend, and how it is drawn.
    get : callable
        Returns its count in a run, None where it was not looked for.
    """

    key: str
    label: str
    colour: str
    get: Callable[[RunQuality], int | None]


LEVELS: tuple[tuple[str, str, Callable[[RunQuality], float]], ...] = (
    ("tsnr_median", "tSNR", lambda q: q.tsnr_median),
    ("fd_mean_mm", "FD (mm)", lambda q: q.fd_mean_mm),
    ("variance_removed_median", "Variance\nremoved", lambda q: q.variance_removed_median),
)
TR_SHARES = (
    Share("n_outlier_trs", "outlier TRs", "#D08B3C", lambda q: q.n_outlier_trs),
    Share("n_scrubbed", "scrubbed TRs", "#5C4A8A", lambda q: q.n_scrubbed),
)
TARGET_SHARES = (
    Share("n_nan", "NaN targets", INK, lambda q: q.n_nan),
    Share("n_constant", "constant targets", FAINT, lambda q: q.n_constant),
    Share("n_other", "targets masked for other reasons", "#D5D8DC", lambda q: _n_other(q)),
)


def draw_runs(runs: tuple[RunQuality, ...], *, key: str) -> Drawing | None:
    """Draw every measure that is known of every run; none for a single run, of which the table says all."""
    figure = make_figure(runs)
    if figure is None or len(runs) < 2:
        return None
    n_subjects = len(_subjects(runs))
    levels = [level for level in LEVELS if _is_known(runs, level[2])]
    shares = [*_known(runs, TR_SHARES), *_known(runs, TARGET_SHARES)]
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            *(q.dataset, q.subject, q.run, q.n_trs, q.n_targets),
            *(get(q) for _, _, get in levels),
            *(share.get(q) for share in shares),
        )
        for q in runs
    )
    names = ("dataset", "subject", "run", "n_trs", "n_targets", *(k for k, _, _ in levels), *(s.key for s in shares))
    table = Table(key, "Quality measures of every run", tuple(Column(name) for name in names), rows)
    caption = (
        f"One column per run (n = {count(len(runs), 'run')} of {count(n_subjects, 'subject')}), in order; lines: "
        "median of a subject's runs. tSNR: mean over standard deviation in time before cleaning, median over targets; "
        "FD: framewise displacement, mean over TRs; variance removed: share that drifts and confounds explain, median "
        "over targets; TRs are outliers where the change from one to the next is above the third quartile by 1.5 "
        "interquartile ranges."
    )
    alt = f"Strips of {len(levels) + len(shares)} quality measures for {len(runs)} runs of {n_subjects} subjects."
    return finish(figure, key, title="Quality of every run", caption=caption, alt=alt, table=table)


def save_runs(runs: tuple[RunQuality, ...], path: Path) -> None:
    """Write the figure into a file, of the format that its ending says."""
    with drawing_style():
        figure = make_figure(runs)
        if figure is not None:
            figure.savefig(path, dpi=DPI)


def make_figure(runs: tuple[RunQuality, ...]) -> Figure | None:
    """Lay out a strip for each measure that some run has, with the style that the caller has set."""
    levels = [level for level in LEVELS if _is_known(runs, level[2])]
    tr_shares, target_shares = _known(runs, TR_SHARES), _known(runs, TARGET_SHARES)
    n_strips = len(levels) + bool(tr_shares) + bool(target_shares)
    if not n_strips:
        return None
    handles = [Patch(facecolor=share.colour, label=share.label) for share in (*tr_shares, *target_shares)]
    labels = _label_runs(runs)
    legend_in = legend_height_in(len(handles), 3) if handles else 0.0
    figure, axes = panels(
        n_strips, n_columns=1, panel_height_in=0.72, share_y=False, gap_in=(0.0, 0.16), left_in=0.72, top_in=0.26,
        bottom_in=0.9 if _are_long(labels) else 0.42, legend_in=legend_in,
    )  # fmt: skip
    if handles:
        draw_legend(figure, handles, n_columns=3, left_in=0.72)
    strips = iter(axes)
    for _, label, get in levels:
        axis = next(strips)
        _draw_level(axis, runs, get)
        axis.set_ylabel(label)
    if tr_shares:
        axis = next(strips)
        _draw_shares(axis, runs, tr_shares, [q.n_trs for q in runs], side_by_side=True)
        axis.set_ylabel("TRs (%)")
    if target_shares:
        axis = next(strips)
        _draw_shares(axis, runs, target_shares, [q.n_targets for q in runs], side_by_side=False)
        axis.set_ylabel("Targets (%)")
    figure.align_ylabels(axes)
    for axis in axes:
        _divide_subjects(axis, runs)
        axis.locator_params(axis="y", nbins=3)
        axis.tick_params(axis="x", length=0, labelbottom=False)
    _name_subjects(axes[0], runs)
    _name_runs(axes[-1], labels)
    return figure


def _draw_level(axis: Axes, runs: Sequence[RunQuality], get: Callable[[RunQuality], float]) -> None:
    values = np.array([get(q) for q in runs], float)
    axis.plot(values, "o", markersize=_marker_size(len(runs)), color=DOT, markeredgewidth=0)
    for first, last in _subjects(runs).values():
        own = values[first : last + 1]
        if np.isfinite(own).sum() > 1:
            middle = float(np.nanmedian(own))
            axis.plot([first - 0.3, last + 0.3], [middle, middle], color=INK, linewidth=0.9, zorder=1)
    top = float(np.nanmax(values))
    axis.set_ylim(0, 1.12 * top if top > 0 else 1)


def _draw_shares(
    axis: Axes, runs: Sequence[RunQuality], shares: Sequence[Share], totals: Sequence[int], *, side_by_side: bool
) -> None:
    """Draw counts as per cents: bars beside one another where they may be of the same TRs, else on top."""
    x = np.arange(len(runs))
    width = 0.7 / (len(shares) if side_by_side else 1)
    below, top = np.zeros(len(runs)), 0.0
    for k, share in enumerate(shares):
        percent = np.array([100 * (share.get(q) or 0) / max(n, 1) for q, n in zip(runs, totals, strict=True)])
        offset = (k - (len(shares) - 1) / 2) * width if side_by_side else 0.0
        axis.bar(x + offset, percent, width, bottom=0.0 if side_by_side else below, color=share.colour)
        below += percent
        top = max(top, float((percent if side_by_side else below).max()))
    axis.set_ylim(0, 1.12 * top if top > 0 else 1)


def _divide_subjects(axis: Axes, runs: Sequence[RunQuality]) -> None:
    axis.grid(axis="y")
    for first, _ in list(_subjects(runs).values())[1:]:
        axis.axvline(first - 0.5, color="#C9CDD2", linewidth=0.6, zorder=0)
    axis.set_xlim(-0.7, len(runs) - 0.3)


def _name_subjects(axis: Axes, runs: Sequence[RunQuality]) -> None:
    """Write subjects above the first strip, as many as there is room for."""
    subjects = _subjects(runs)
    step = math.ceil(len(subjects) / MOST_SUBJECT_NAMES)
    for (_, subject), (first, last) in list(subjects.items())[::step]:
        name = subject if len(subjects) <= 8 else subject.removeprefix("sub-")
        axis.annotate(
            name, ((first + last) / 2, 1), xycoords=("data", "axes fraction"), xytext=(0, 2),
            textcoords="offset points", ha="center", va="bottom", fontsize=7.5,
        )  # fmt: skip


def _name_runs(axis: Axes, labels: Sequence[str]) -> None:
    """Write the runs' labels below the last strip, if there are any."""
    is_long = _are_long(labels)
    axis.set_xticks(range(len(labels)), labels, rotation=40 if is_long else 0, ha="right" if is_long else "center")
    for text in axis.get_xticklabels() if is_long else ():
        text.set_rotation_mode("anchor")
    axis.tick_params(axis="x", labelbottom=bool(labels), pad=2)
    axis.set_xlabel("Run" if labels else "Runs, by subject")


def _label_runs(runs: Sequence[RunQuality]) -> list[str]:
    """Return what tells runs apart, without what all have in common; none where there is no room for them."""
    if len(runs) > MOST_RUN_LABELS:
        return []
    labels = [q.run for q in runs]
    alike = (letters[0] if len(set(letters)) == 1 else "\0" for letters in zip(*labels, strict=False))
    shared = "".join(alike).partition("\0")[0]
    shared = re.sub(r"[^\W_]*$", "", shared)  # whole words of it: run-10 and run-11 stay 10 and 11
    short = [label.removeprefix(shared) for label in labels]
    return [label if len(label) <= LONGEST_LABEL else f"…{label[1 - LONGEST_LABEL :]}" for label in short]


def _are_long(labels: Sequence[str]) -> bool:
    return bool(labels) and max(map(len, labels)) * len(labels) > 80


def _subjects(runs: Sequence[RunQuality]) -> dict[tuple[str, str], tuple[int, int]]:
    """Return the first and the last column of each subject; runs come subject by subject."""
    spans: dict[tuple[str, str], tuple[int, int]] = {}
    for column, q in enumerate(runs):
        first, _ = spans.get((q.dataset, q.subject), (column, column))
        spans[q.dataset, q.subject] = (first, column)
    return spans


def _is_known(runs: Sequence[RunQuality], get: Callable[[RunQuality], float]) -> bool:
    return any(math.isfinite(get(q)) for q in runs)


def _known(runs: Sequence[RunQuality], shares: Sequence[Share]) -> list[Share]:
    """Return what was looked for; of reasons to mask, those that occurred."""
    found = [share for share in shares if any(share.get(q) is not None for q in runs)]
    return [share for share in found if share.key != "n_other" or any(share.get(q) for q in runs)]


def _n_other(q: RunQuality) -> int | None:
    """Return how many targets are masked that are neither NaN nor constant: wholly explained by confounds."""
    if q.n_nan is None or q.n_constant is None:
        return None
    return max(q.n_targets - q.n_valid - q.n_nan - q.n_constant, 0)


def _marker_size(n_runs: int) -> float:
    return min(3.6, max(1.8, 120 / n_runs))
