"""Turn q values into bars: in how many targets of each stream is the joint score, or a unique part, above chance."""

from __future__ import annotations

from brainsim.report.content import PartitionSet
from brainsim.report.figures.bars import Bars, Item, draw_grouped_bars
from brainsim.report.figures.canvas import Drawing, finish
from brainsim.report.figures.estimates import n_text, stream_n
from brainsim.report.figures.partition import JOINT, JOINT_COLOUR
from brainsim.report.palette import colour_families, order_families
from brainsim.report.reduce import FDR_LEVEL, estimate_of
from brainsim.report.tables import Cell, Column, Table
from brainsim.report.words import count, join_words


def draw_significant(partition: PartitionSet, *, key: str) -> Drawing | None:
    """Draw the share of targets whose joint score and unique parts are significant, per stream."""
    joint, unique = partition.significant.get("joint"), partition.significant.get("unique")
    families = order_families(partition.families) if unique is not None else ()
    colours = colour_families(families)
    items = [Item(JOINT, f"{JOINT} (joint)", JOINT_COLOUR, 0.35)] if joint is not None else []
    items += [Item(f, f"{f} (unique)", colours[f]) for f in families]
    if not items:
        return None
    subjects = {}
    for s, stream in enumerate(partition.streams):
        if joint is not None:
            subjects[stream, JOINT] = 100 * joint[:, s]
        if unique is not None:
            subjects |= {(stream, f): 100 * unique[:, s, partition.families.index(f)] for f in families}
    cells = list(subjects)
    bars = Bars(
        streams=partition.streams,
        items=tuple(items),
        estimates={cell: estimate_of(None, values) for cell, values in subjects.items()},
        subjects=subjects,
        y_label=f"Targets with q ≤ {FDR_LEVEL:g} (%)",
        notes={s: n_text(*stream_n(partition, s)) for s in partition.streams},
    )
    rows: list[tuple[Cell, ...]] = [
        (
            stream,
            "joint" if name == JOINT else "unique",
            None if name == JOINT else name,
            bars.estimates[stream, name].mean,
            *(float(v) for v in subjects[stream, name]),
        )
        for stream, name in cells
    ]
    names = ("stream", "quantity", "family", "percent_significant", *(f"subject_{n}" for n in partition.subjects))
    table = Table(key, "Share of significant targets", tuple(Column(n) for n in names), tuple(rows))
    shown = join_words(
        f"{s} {bars.estimates[s, items[0].name].mean:.0f} %"
        for s in partition.streams
        if (s, items[0].name) in subjects
    )
    what = [
        words
        for words, there in (
            ("all families together predict", joint is not None),
            ("each family adds to what the others predict", bool(families)),
        )
        if there
    ]
    caption = (
        f"Share of a stream's targets in which {join_words(what)}, above chance, at a false discovery rate of "
        f"{100 * FDR_LEVEL:g} % within the subject (q ≤ {FDR_LEVEL:g}, Benjamini–Hochberg). Bars: mean over n = "
        f"{count(len(partition.subjects), 'subject')}; dots: subjects. A small share does not say that a family "
        "explains little, only that few single targets show it."
    )
    alt = f"Grouped bars of the share of significant targets, {items[0].label}: {shown}."
    figure = draw_grouped_bars(bars)
    return finish(figure, key, title="Where it is significant", caption=caption, alt=alt, table=table)
