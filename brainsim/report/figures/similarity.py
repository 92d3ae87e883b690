"""Turn representational similarity scores into bars per stream and system, with noise ceilings."""

from __future__ import annotations

import math

from brainsim.report.content import RsaSet
from brainsim.report.figures.bars import Bars, Item, draw_grouped_bars
from brainsim.report.figures.canvas import Drawing, finish
from brainsim.report.figures.estimates import found
from brainsim.report.palette import colour_families, order_families
from brainsim.report.reduce import FDR_LEVEL, estimate_of
from brainsim.report.tables import Cell, Column, Table, format_cell
from brainsim.report.words import count

TINTS = (0.0, 0.5, 0.75)  # first, second, third system of a family


def draw_similarity(rsa: RsaSet, *, key: str) -> Drawing:
    """Draw each system's similarity to each stream."""
    families = order_families([family for _, family in rsa.models])
    colours = colour_families(families)
    models = sorted(rsa.models, key=lambda pair: families.index(pair[1]))
    place: dict[str, int] = {}
    items = []
    for model, family in models:
        place[family] = place.get(family, -1) + 1
        items.append(Item(model, model, colours[family], TINTS[min(place[family], len(TINTS) - 1)]))
    column = {model: i for i, (model, _) in enumerate(rsa.models)}
    cells = [(s, m) for s in rsa.streams for m, _ in models]
    subjects = {(s, m): rsa.model_score[:, rsa.streams.index(s), column[m]] for s, m in cells}
    estimates = {c: estimate_of(rsa.group.get(c), subjects[c]) for c in cells}
    marks = found(estimates)
    bars = Bars(
        streams=rsa.streams,
        items=tuple(items),
        estimates=estimates,
        subjects=subjects,
        y_label=f"RDM similarity ({rsa.comparison or 'score'})",
        ceilings=rsa.ceilings,
        marks=marks,
        mark_label=f"q ≤ {FDR_LEVEL:g}",
    )
    rows: list[tuple[Cell, ...]] = []
    for stream, model in cells:
        estimate = bars.estimates[stream, model]
        lower, upper = rsa.ceilings.get(stream, (float("nan"), float("nan")))
        family = dict(rsa.models)[model]
        values = (float(v) for v in subjects[stream, model])
        n = int(sum(v == v for v in subjects[stream, model]))
        e = estimate
        chances = (e.p, e.q, e.p_subjects, e.q_subjects)
        rows.append((stream, model, family, e.mean, e.low, e.high, *chances, lower, upper, n, *values))
    has_p = any(math.isfinite(e.p) for e in bars.estimates.values())
    columns = (
        Column("stream", "Stream"),
        Column("system", "System"),
        Column("family", "Family"),
        Column("score", "Score (mean)"),
        Column("low", "Low"),
        Column("high", "High"),
        Column("p", "p", 4, where="both" if has_p else "tsv"),
        Column("q", "q", 4, where="both" if has_p else "tsv"),
        Column("p_subjects", where="tsv"),
        Column("q_subjects", where="tsv"),
        Column("ceiling_lower", "Ceiling, lower"),
        Column("ceiling_upper", "Ceiling, upper"),
        Column("n_subjects", "Subjects"),
        *(Column(f"subject_{name}", where="tsv") for name in rsa.subjects),
    )
    best = max(cells, key=lambda c: bars.estimates[c].mean if bars.estimates[c].mean == bars.estimates[c].mean else -9)
    alt = (
        f"Grouped bars of RDM similarity of {len(items)} systems in {len(rsa.streams)} streams. "
        f"Largest: {best[1]} in {best[0]}, {format_cell(bars.estimates[best].mean)}."
    )
    caption = (
        f"Similarity ({rsa.comparison or 'score'}) of model and brain RDMs ({rsa.distance or 'correlation'} distance), "
        f"{_tell_layers(rsa)}. Bars: mean over n = {count(len(rsa.subjects), 'subject')}; "
        "dots: subjects"
        + (f"; whiskers: {rsa.interval}" if rsa.group and rsa.interval else "")
        + ("; grey: noise ceiling, lower to upper" if rsa.ceilings else "")
        + (f". {_tell_tests(rsa, len(marks), len(cells))}" if has_p else "")
        + ". No unit."
        + (f" {rsa.untested}" if rsa.untested else "")
        + (" This is the study's protocol; see the audit for what it decides." if rsa.is_study else "")
    )
    table = Table(key, "RDM similarity of each system in each stream", columns, tuple(rows))
    figure = draw_grouped_bars(bars, legend_columns=4)
    return finish(
        figure, key, title="Representational similarity by stream and system", caption=caption, alt=alt, table=table
    )


def _tell_layers(rsa: RsaSet) -> str:
    """Return how layers make a system's score, as the end of a sentence."""
    if not rsa.is_of_stimuli:
        return "layers of a system combined, held-out runs"
    return "layers of a system combined, pairs among held-out stimuli; systems of one layer: all pairs of stimuli"


def _tell_tests(rsa: RsaSet, n_found: int, n_cells: int) -> str:
    what = "stimuli" if rsa.is_of_stimuli else "runs"
    return (
        f"Stars: q ≤ {FDR_LEVEL:g}, the false discovery rate over all {n_cells} systems and streams, one-sided, "
        f"subjects and {what} as random effects; {n_found} are"
    )
