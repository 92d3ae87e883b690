"""Turn two protocols side by side into paired dots, a table of conclusions that differ, and one of the steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from matplotlib.lines import Line2D

from brainsim.report.content import AuditSet
from brainsim.report.figures.canvas import Drawing, draw_legend, finish, legend_height_in, panels
from brainsim.report.figures.crossing import order_models
from brainsim.report.palette import INK, colour_families
from brainsim.report.tables import Cell, Column, Table, format_cell
from brainsim.report.words import count, join_words

LONG_TABLE = 30


def draw_audit(audit: AuditSet, *, key: str) -> Drawing:
    """Draw each system's score by both protocols, one panel per stream."""
    models = order_models(audit.models)
    colours = colour_families([f for _, f in models])
    handles = [
        Line2D([], [], linestyle="none", marker="o", color=INK, markersize=4.4, label="protocol default"),
        Line2D([], [], linestyle="none", marker="D", color=INK, markerfacecolor="white", markersize=4.2,
               label="protocol study"),
        Line2D([], [], color=INK, linewidth=0.8, label="95 % interval"),
    ]  # fmt: skip
    n_columns = min(len(audit.streams), 4)
    longest = max(len(m) for m, _ in models)
    figure, axes = panels(
        len(audit.streams), n_columns=n_columns, panel_height_in=0.24 * len(models) + 0.1,
        left_in=0.35 + 0.058 * longest, gap_in=(0.16, 0.66), bottom_in=0.46, legend_in=legend_height_in(3, 3),
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for s, (axis, stream) in enumerate(zip(axes, audit.streams, strict=True)):
        axis.grid(axis="x")
        axis.axvline(0.0, color=INK, linewidth=0.7)
        for y, (model, family) in enumerate(models):
            for protocol, found, offset in (("default", audit.default, -0.14), ("study", audit.study, 0.14)):
                e = found.get((stream, model))
                if e is None or not math.isfinite(e.mean):
                    continue
                if e.has_interval:
                    axis.plot([e.low, e.high], [y + offset] * 2, color=colours[family], linewidth=0.9, zorder=2)
                is_default = protocol == "default"
                axis.plot(
                    e.mean, y + offset, marker="o" if is_default else "D", markersize=4.4 if is_default else 4.0,
                    color=colours[family], markerfacecolor=colours[family] if is_default else "white", zorder=3,
                )  # fmt: skip
                rows.append((stream, model, family, protocol, e.mean, e.low, e.high))
        axis.set(title=stream, xlabel="Score")
        axis.spines["left"].set_visible(False)
        axis.tick_params(axis="y", length=0, labelleft=s % n_columns == 0)
    limits = [axis.get_xlim() for axis in axes]
    for axis in axes:  # one scale: streams can be compared
        axis.set_xlim(min(low for low, _ in limits), max(high for _, high in limits))
    axes[0].set_yticks(range(len(models)), [m for m, _ in models])
    axes[0].set_ylim(len(models) - 0.4, -0.6)
    draw_legend(figure, handles, n_columns=3)
    names = " and ".join(f"{w} ({p})" for w, p in zip(audit.comparisons, ("default", "study"), strict=True) if w)
    caption = (
        f"Score of each system by both protocols: {names or 'similarity of RDMs'}, no unit; mean over n = "
        f"{count(audit.n_subjects, 'subject')}. The two scales differ: what matters is the order of systems, and "
        f"{len(audit.changed)} of {audit.n_conclusions} conclusions about two systems differ (table below)."
    )
    alt = f"Paired dots of {len(models)} systems in {len(audit.streams)} streams, by two protocols."
    heads = ("stream", "system", "family", "protocol", "score", "low", "high")
    table = Table(key, "Scores by both protocols", tuple(map(Column, heads)), tuple(rows))
    return finish(figure, key, title="Two protocols side by side", caption=caption, alt=alt, table=table)


def tabulate_changes(audit: AuditSet, *, key: str) -> Table | None:
    """Return one row per conclusion that differs; None where none does."""
    rows: list[tuple[Cell, ...]] = [
        (
            row["stream"], row["a"], row["b"], row["default"], row["study"],
            join_words(row["changed_by"]) or "no single step",
        )
        for row in audit.changed
    ]  # fmt: skip
    if not rows:
        return None
    columns = (
        Column("stream", "Stream"),
        Column("a", "System"),
        Column("b", "and system"),
        Column("default", "By default, more like the brain"),
        Column("study", "As the study does it"),
        Column("changed_by", "Also changed by"),
    )
    note = (
        "A conclusion is which of two systems is more like a stream, at a false discovery rate of "
        f"{100 * audit.max_q:g} % "
        f"(n = {count(audit.n_subjects, 'subject')}); “neither” where none is shown to be. Last column: single steps "
        "from "
        "the default to the study that, taken alone, change the default's verdict too."
    )
    title = f"The {count(len(rows), 'conclusion')} of {audit.n_conclusions} that differ"
    return Table(key, title, columns, tuple(rows), note, folded=len(rows) > LONG_TABLE)


def tabulate_steps(audit: AuditSet, *, key: str) -> Table:
    """Return one row per step between the protocols: what it is, and how many conclusions it changes."""
    rows: list[tuple[Cell, ...]] = []
    for step in audit.steps:
        n = sum(step["quirk"] in row["changed_by"] for row in audit.changed)
        moved = [
            abs(row["mean"] - e.mean)
            for row in step["rows"]
            if row["mean"] is not None and (e := audit.default.get((row["stream"], row["model"]))) is not None
        ]
        shift = sum(moved) / len(moved) if moved else None
        known = (shift, n) if audit.is_known(step) else (None, None)
        rows.append((step["quirk"], step["words"], _tell_difference(step), *known))
    columns = (
        Column("step", "Step"),
        Column("words", "What is done as the study does it"),
        Column("differs", "Changes anything"),
        Column("mean_absolute_change", "Mean change of a score"),
        Column("n_conclusions", "Differing conclusions it changes alone"),
    )
    note = (
        "Each step alone, all others by default. Change of a score: absolute, over systems and streams (no unit). "
        "Changed "
        f"conclusions: of the {len(audit.changed)} that differ between the protocols."
    )
    return Table(key, "Which step changes what", columns, tuple(rows), note)


def _tell_difference(step: Mapping[str, Any]) -> str:
    """Return whether a step changed anything, and for whom that is not known."""
    lacking = join_words(step.get("not_stored", ()))
    if step["differs"]:
        return f"yes; not known for {lacking}, whose activations by it are not stored" if lacking else "yes"
    return f"not known: activations of {lacking} by it are not stored" if lacking else "no: the data have it already"


def tell_audit(audit: AuditSet) -> tuple[str, ...]:
    """Return what was found, as a point to know."""
    n, n_all = len(audit.changed), audit.n_conclusions
    if not n:
        return (f"None of {n_all} conclusions about two systems depends on which protocol is followed.",)
    counts: dict[str, int] = {}
    for row in audit.changed:
        for name in row["changed_by"]:
            counts[name] = counts.get(name, 0) + 1
    most = sorted(counts, key=lambda name: -counts[name])[:3]
    told = join_words(f"{name} ({counts[name]})" for name in most)
    share = format_cell(100 * n / n_all, 0)
    return (
        f"{n} of {n_all} conclusions about two systems ({share} %) depend on the protocol"
        + (f"; single steps that change most of them: {told}." if told else "; no single step alone changes them."),
    )
