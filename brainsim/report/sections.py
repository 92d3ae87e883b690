"""Turn a page's content into sections in reading order; a section without data is left out."""

from __future__ import annotations

from brainsim.report.caveats import list_caveats
from brainsim.report.content import Content, FitSet, MapSet, PartitionSet
from brainsim.report.figures.canvas import Drawing, drawing_style
from brainsim.report.figures.crossing import draw_family_comparisons
from brainsim.report.figures.estimates import main_quantity
from brainsim.report.figures.joint import draw_joint, tabulate_joint
from brainsim.report.figures.layers import draw_layer_curves, has_curves
from brainsim.report.figures.maps import draw_maps
from brainsim.report.figures.partition import draw_families, draw_recovery, tabulate_families
from brainsim.report.figures.parts import draw_parts
from brainsim.report.figures.quality import tabulate_quality
from brainsim.report.figures.regions import draw_regions, tabulate_regions
from brainsim.report.figures.runs import draw_runs
from brainsim.report.figures.scores import draw_histograms, draw_split, tabulate_scores
from brainsim.report.figures.significance import draw_significant
from brainsim.report.figures.surfaces import why_not
from brainsim.report.figures.venn import draw_venn
from brainsim.report.section import Block, KeyMaker, Section, keep_blocks
from brainsim.report.sections_answers import accuracy_section, claims_section
from brainsim.report.sections_rsa import audit_section, rsa_section
from brainsim.report.tables import Cell, Column, Table


def build_sections(content: Content) -> tuple[Section, ...]:
    """Draw and tabulate everything that has data."""
    sections: list[Section] = []
    with drawing_style():
        keys = KeyMaker()
        sections += [claims_section(c, keys) for c in content.claims]
        sections += [_partition_section(p, content, keys) for p in content.partitions]
        sections += [_fit_section(f, content, keys) for f in content.fits]
        sections += [rsa_section(r, keys) for r in content.rsas]
        sections += [audit_section(a, keys) for a in content.audits]
        sections += [accuracy_section(a, keys) for a in content.accuracies]
        if content.runs:
            drawing = draw_runs(content.runs, key=keys.make("quality"))
            table = tabulate_quality(content.runs, key=keys.make("runs"))
            sections.append(Section(keys.make("qc"), "Quality of the data", keep_blocks(drawing, table)))
        if content.systems:
            sections.append(Section(keys.make("systems-section"), "Systems", (_tabulate_systems(content, keys),)))
    return tuple(sections)


def _partition_section(p: PartitionSet, content: Content, keys: KeyMaker) -> Section:
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
    blocks.append(draw_family_comparisons(p, key=keys.make(p.name, "comparisons")))
    blocks.append(tabulate_joint(p, key=keys.make(p.name, "joint", "table")))
    blocks.append(draw_venn(p, key=keys.make(p.name, "venn")))
    blocks.append(draw_parts(p, truth, key=keys.make(p.name, "parts")))
    blocks += _draw_maps(content, "partition", p, keys)
    if p.regions:
        blocks.append(draw_regions(p.regions, key=keys.make(p.name, "rois")))
        blocks.append(tabulate_regions(p.regions, key=keys.make(p.name, "rois", "table")))
    return Section(
        keys.make("partition", p.name, p.dataset),
        f"What each family explains: partition “{p.name}” of {p.dataset}",
        keep_blocks(*blocks),
        (*list_caveats(p), *_no_map(content, "partition", p)),
    )


def _find_map(content: Content, result: str, of: PartitionSet | FitSet) -> MapSet | None:
    return next((m for m in content.maps if (m.result, m.name, m.dataset) == (result, of.name, of.dataset)), None)


def _draw_maps(content: Content, result: str, of: PartitionSet | FitSet, keys: KeyMaker) -> list[Drawing]:
    found = _find_map(content, result, of)
    return [] if found is None else draw_maps(found, key=keys.make(of.name, "map"))


def _no_map(content: Content, result: str, of: PartitionSet | FitSet) -> tuple[str, ...]:
    """Return why there is no map, where the targets lie in space and there is none."""
    found = _find_map(content, result, of)
    reason = "" if found is None else why_not(found)
    return (reason,) if reason else ()


def _fit_section(f: FitSet, content: Content, keys: KeyMaker) -> Section:
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
        *_draw_maps(content, "fit", f, keys),
    ]
    if f.regions:
        blocks.append(draw_regions(f.regions, key=keys.make(f.name, "rois")))
        blocks.append(tabulate_regions(f.regions, key=keys.make(f.name, "rois", "table")))
    return Section(
        keys.make("fit", f.name, f.dataset),
        f"How well responses are predicted: encoding model “{f.name}” of {f.dataset}",
        keep_blocks(*blocks),
        (*list_caveats(f), *_no_map(content, "fit", f)),
    )


def _tabulate_systems(content: Content, keys: KeyMaker) -> Table:
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
