"""Turn a page's content into sections in reading order; a section without data is left out."""

from __future__ import annotations

import re
from dataclasses import dataclass

from brainsim.report.caveats import list_caveats
from brainsim.report.content import AccuracySet, ClaimsSet, Content, FitSet, PartitionSet, RsaSet
from brainsim.report.figures.accuracy import draw_accuracy, tabulate_correlations
from brainsim.report.figures.canvas import Drawing, drawing_style
from brainsim.report.figures.claims import tabulate_answers, tabulate_tests, tell_declaration
from brainsim.report.figures.estimates import main_quantity
from brainsim.report.figures.joint import draw_joint, tabulate_joint
from brainsim.report.figures.layers import draw_layer_curves, has_curves
from brainsim.report.figures.partition import draw_families, draw_recovery, tabulate_families
from brainsim.report.figures.parts import draw_parts
from brainsim.report.figures.quality import tabulate_quality
from brainsim.report.figures.regions import draw_regions, tabulate_regions
from brainsim.report.figures.runs import draw_runs
from brainsim.report.figures.scores import draw_histograms, draw_split, tabulate_scores
from brainsim.report.figures.significance import draw_significant
from brainsim.report.figures.similarity import draw_similarity
from brainsim.report.tables import Cell, Column, Table

Block = Drawing | Table


@dataclass(frozen=True)
class Section:
    """One heading of the page and what stands below it: first what to know, then figures and tables."""

    key: str
    title: str
    blocks: tuple[Block, ...]
    points: tuple[str, ...] = ()


def build_sections(content: Content) -> tuple[Section, ...]:
    """Draw and tabulate everything that has data."""
    sections: list[Section] = []
    with drawing_style():
        keys = _KeyMaker()
        sections += [_claims_section(c, keys) for c in content.claims]
        sections += [_partition_section(p, content, keys) for p in content.partitions]
        sections += [_fit_section(f, keys) for f in content.fits]
        sections += [_rsa_section(r, keys) for r in content.rsas]
        sections += [_accuracy_section(a, keys) for a in content.accuracies]
        if content.runs:
            drawing = draw_runs(content.runs, key=keys.make("quality"))
            table = tabulate_quality(content.runs, key=keys.make("runs"))
            sections.append(Section(keys.make("qc"), "Quality of the data", _there(drawing, table)))
        if content.systems:
            sections.append(Section(keys.make("systems-section"), "Systems", (_tabulate_systems(content, keys),)))
    return tuple(sections)


class _KeyMaker:
    """Hands out keys that are safe as file names and anchors, each once."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def make(self, *words: str) -> str:
        stem = "-".join(filter(None, (re.sub(r"[^a-z0-9]+", "-", w.lower()).strip("-") for w in words)))[:60]
        key, n = stem or "part", 2
        while key in self._used:
            key, n = f"{stem}-{n}", n + 1
        self._used.add(key)
        return key


def _there(*blocks: Block | None) -> tuple[Block, ...]:
    return tuple(b for b in blocks if b is not None)


def _partition_section(p: PartitionSet, content: Content, keys: _KeyMaker) -> Section:
    truth = content.truths.get(p.dataset)
    planted = truth is not None and any((s, f) in truth.unique for s in p.streams for f in p.families)
    has_unique = p.unique is not None
    quantity = main_quantity(p)
    blocks: list[Block | None] = []
    if quantity is not None:
        blocks.append(draw_families(p, truth, quantity, key=keys.make(p.name, quantity)))
        blocks.append(tabulate_families(p, truth, quantity, key=keys.make(p.name, quantity, "table")))
    if truth is not None and planted and has_unique:
        blocks.append(draw_recovery(p, truth, key=keys.make(p.name, "recovery")))
    if p.significant:
        blocks.append(draw_significant(p, key=keys.make(p.name, "significant")))
    if has_unique:
        blocks.append(draw_joint(p, truth, key=keys.make(p.name, "joint")))
    blocks.append(tabulate_joint(p, key=keys.make(p.name, "joint", "table")))
    blocks.append(draw_parts(p, truth, key=keys.make(p.name, "parts")))
    if p.regions:
        blocks.append(draw_regions(p.regions, key=keys.make(p.name, "rois")))
        blocks.append(tabulate_regions(p.regions, key=keys.make(p.name, "rois", "table")))
    return Section(
        keys.make("partition", p.name, p.dataset),
        f"What each family explains: partition “{p.name}” of {p.dataset}",
        _there(*blocks),
        list_caveats(p),
    )


def _fit_section(f: FitSet, keys: _KeyMaker) -> Section:
    curves = None
    if f.layer_r2 is not None and has_curves(f.layers):
        curves = draw_layer_curves(
            f.layers,
            f.layer_r2,
            streams=f.streams,
            subjects=f.subjects,
            key=keys.make(f.name, "layers"),
            title="Prediction by each layer alone",
            y_label="Cross-validated R²",
            what="Cross-validated R² of each layer fitted alone, mean over the stream's targets.",
        )
    blocks: list[Block | None] = [
        draw_histograms(f, key=keys.make(f.name, "scores")),
        tabulate_scores(f, key=keys.make(f.name, "scores-table")),
        curves,
        draw_split(f, key=keys.make(f.name, "split")),
    ]
    if f.regions:
        blocks.append(draw_regions(f.regions, key=keys.make(f.name, "rois")))
        blocks.append(tabulate_regions(f.regions, key=keys.make(f.name, "rois", "table")))
    return Section(
        keys.make("fit", f.name, f.dataset),
        f"How well responses are predicted: encoding model “{f.name}” of {f.dataset}",
        _there(*blocks),
        list_caveats(f),
    )


def _rsa_section(r: RsaSet, keys: _KeyMaker) -> Section:
    drawing = draw_similarity(r, key=keys.make(r.name, "similarity"))
    curves = None
    if r.layer_score is not None and has_curves(r.layers):
        curves = draw_layer_curves(
            r.layers,
            r.layer_score,
            streams=r.streams,
            subjects=r.subjects,
            key=keys.make(r.name, "rsa-layers"),
            title="Representational similarity of each layer",
            y_label=f"RDM similarity ({r.comparison or 'score'})",
            what=f"{(r.comparison or 'score').capitalize()} (no unit) between each layer's RDM and the stream's.",
        )
    return Section(
        keys.make("rsa", r.name, r.dataset),
        f"Whose geometry is alike: representational similarity “{r.name}” of {r.dataset}",
        _there(drawing, curves),
    )


def _claims_section(c: ClaimsSet, keys: _KeyMaker) -> Section:
    return Section(
        keys.make("claims", c.name, c.dataset),
        f"What was claimed before: answers “{c.name}” from {c.dataset}",
        _there(
            tabulate_answers(c, key=keys.make(c.name, "answers")), tabulate_tests(c, key=keys.make(c.name, "tests"))
        ),
        tell_declaration(c),
    )


def _accuracy_section(a: AccuracySet, keys: _KeyMaker) -> Section:
    measures = dict.fromkeys(str(row["measure"]) for row in a.correlations)
    drawings = [draw_accuracy(a, measure, key=keys.make(a.name, "accuracy", measure)) for measure in measures]
    return Section(
        keys.make("accuracy", a.name, a.dataset),
        f"Is accuracy related to similarity with the brain? “{a.name}” of {a.dataset}",
        _there(*drawings, tabulate_correlations(a, key=keys.make(a.name, "correlations"))),
    )


def _tabulate_systems(content: Content, keys: _KeyMaker) -> Table:
    columns = (
        Column("system", "System"),
        Column("family", "Family"),
        Column("kind", "Kind"),
        Column("n_layers", "Layers"),
        Column("training_set", "Training set"),
        Column("weights", "Weights"),
        Column("clip_window", "Clip window"),
        Column("step_s", "Step (s)", 2),
        Column("pool", "Pooling"),
        Column("protocol", "Protocol"),
        Column("citation", "Citation", where="tsv"),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            s.name, s.family, s.kind or None, s.n_layers, s.training_set or None, s.weights or None,
            s.clip_window or None, s.step_s, s.pool or None, s.protocol or None, s.citation or None,
        )
        for s in content.systems
    ]  # fmt: skip
    keep = [i for i, c in enumerate(columns) if i < 2 or any(r[i] is not None and r[i] == r[i] for r in rows)]
    shown = tuple(columns[i] for i in keep)
    title = "Systems whose activations were used"
    return Table(keys.make("systems"), title, shown, tuple(tuple(r[i] for i in keep) for r in rows))
