"""Turn representational similarity scores into bars per stream and system, with noise ceilings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from brainsim.report.content import Estimate, RsaSet
from brainsim.report.figures.bars import Bars, Item, draw_grouped_bars
from brainsim.report.figures.canvas import Drawing, finish
from brainsim.report.figures.crossing import order_models
from brainsim.report.figures.estimates import found
from brainsim.report.palette import colour_families, order_families
from brainsim.report.reduce import FDR_LEVEL, estimate_of
from brainsim.report.tables import Cell, Column, Table, format_cell, format_interval
from brainsim.report.words import count, sentence

CHANCES = ("p", "q", "p_subjects", "q_subjects")
LONG_TABLE = 40
TINTS = (0.0, 0.5, 0.75)  # first, second, third system of a family


def draw_similarity(rsa: RsaSet, *, key: str) -> Drawing:
    """Draw each system's similarity to each stream."""
    families = order_families([family for _, family in rsa.models])
    colours = colour_families(families)
    models = order_models(rsa.models)
    place: dict[str, int] = {}
    items = []
    for model, family in models:
        place[family] = place.get(family, -1) + 1
        items.append(Item(model, model, colours[family], TINTS[min(place[family], len(TINTS) - 1)]))
    subjects = _subject_values(rsa)
    cells = list(subjects)
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
        + f". No unit. {_tell_tests(rsa, estimates, len(marks))}"
        + (" This is the study's protocol; see the audit for what it decides." if rsa.is_study else "")
    )
    table = _tabulate(rsa, estimates, key)
    figure = draw_grouped_bars(bars, legend_columns=4)
    return finish(
        figure, key, title="Representational similarity by stream and system", caption=caption, alt=alt, table=table
    )


def _subject_values(rsa: RsaSet) -> dict[tuple[str, str], np.ndarray]:
    """Return the subjects' scores by stream and system, in the order in which they are drawn."""
    place = {model: i for i, (model, _) in enumerate(rsa.models)}
    cells = [(stream, model) for stream in rsa.streams for model, _ in order_models(rsa.models)]
    return {(s, m): rsa.model_score[:, rsa.streams.index(s), place[m]] for s, m in cells}


def tabulate_similarity(rsa: RsaSet, *, key: str) -> Table:
    """Return the numbers of the bars as a table of the page, with their tests."""
    estimates = {cell: estimate_of(rsa.group.get(cell), values) for cell, values in _subject_values(rsa).items()}
    table = _tabulate(rsa, estimates, key)
    note = f"Score: {rsa.comparison or 'similarity'} (no unit), mean over subjects."
    if rsa.group and rsa.interval:
        note += f" [low, high]: {rsa.interval}."
    tests = []
    if any(math.isfinite(e.p) for e in estimates.values()):
        tests.append(f"p: of a mean above 0, {rsa.random} as random effects")
    if any(math.isfinite(e.p_subjects) for e in estimates.values()):
        tests.append(f"p (subjects): flipping the signs of subjects, for these {_units(rsa)} alone")
    if tests:
        note += f" {'; '.join(tests)}; q: false discovery rates over all systems and streams."
    return replace(
        table, title="Similarity of each system, and its tests", note=note, folded=len(table.rows) > LONG_TABLE
    )


def _tabulate(rsa: RsaSet, estimates: Mapping[tuple[str, str], Estimate], key: str) -> Table:
    rows: list[tuple[Cell, ...]] = []
    subjects = _subject_values(rsa)
    for (stream, model), e in estimates.items():
        values = [float(v) for v in subjects[stream, model]]
        rows.append(
            (
                stream, model, dict(rsa.models)[model], e.mean, format_interval(e.low, e.high), e.low, e.high, e.p, e.q,
                e.p_subjects, e.q_subjects, *rsa.ceilings.get(stream, (math.nan, math.nan)),
                sum(v == v for v in values), *values,
            )
        )  # fmt: skip
    there = {name: any(getattr(e, name) == getattr(e, name) for e in estimates.values()) for name in CHANCES}
    columns = (
        Column("stream", "Stream"),
        Column("system", "System"),
        Column("family", "Family", where="tsv"),
        Column("score", "Score (mean)"),
        Column("interval", "[low, high]", where="page" if rsa.group else "none"),
        Column("low", where="tsv"),
        Column("high", where="tsv"),
        *(
            Column(name, name.replace("_subjects", " (subjects)"), where="both" if there[name] else "tsv")
            for name in CHANCES
        ),
        Column("ceiling_lower", where="tsv"),  # of a stream, not of a system: the figure has them
        Column("ceiling_upper", where="tsv"),
        Column("n_subjects", "Subjects"),
        *(Column(f"subject_{name}", where="tsv") for name in rsa.subjects),
    )
    return Table(key, "RDM similarity of each system in each stream", columns, tuple(rows))


def _tell_layers(rsa: RsaSet) -> str:
    """Return how layers make a system's score, as the end of a sentence."""
    if not rsa.is_of_stimuli:
        return "layers of a system combined, held-out runs"
    combined, alone = "layers of a system combined, pairs among held-out stimuli", "all pairs of stimuli"
    counts = set(rsa.n_layers.values())
    if counts == {1}:
        return f"{alone} (systems have one layer each)"
    return combined if counts and 1 not in counts else f"{combined}; systems of one layer: {alone}"


def _units(rsa: RsaSet) -> str:
    """Return what conditions come in, which a test over subjects alone takes as they are."""
    return "stimuli" if rsa.is_of_stimuli else "runs"


def _tell_tests(rsa: RsaSet, estimates: Mapping[tuple[str, str], Estimate], n_found: int) -> str:
    """Return what stars are, or why there are none, as a sentence."""
    n_tested = sum(math.isfinite(e.p) for e in estimates.values())
    if n_tested:
        return sentence(
            f"Stars: q ≤ {FDR_LEVEL:g}, the false discovery rate over {_of_all(n_tested, len(estimates))} systems and "
            f"streams, one-sided, {rsa.random} as random effects; {n_found} of {n_tested} are"
        )
    if rsa.untested:
        return sentence(rsa.untested)
    if any(math.isfinite(e.p_subjects) for e in estimates.values()):
        return f"Chances of these {_units(rsa)} alone, over subjects, are in the table; of others none is known."
    return "No p or q is known: nothing was tested."


def _of_all(n: int, n_all: int) -> str:
    return f"all {n}" if n == n_all else f"{n} (of {n_all}; others could not be tested)"
