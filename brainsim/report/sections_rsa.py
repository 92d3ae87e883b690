"""Turn representational similarity, and two protocols side by side, into sections of the page."""

from __future__ import annotations

from brainsim.report.content import AuditSet, RsaSet
from brainsim.report.figures.audit import draw_audit, tabulate_changes, tabulate_steps, tell_audit
from brainsim.report.figures.best_layers import draw_best_layers, tabulate_best_layers
from brainsim.report.figures.crossing import (
    draw_comparisons,
    draw_family_comparisons,
    draw_pairs,
    draw_residuals,
)
from brainsim.report.figures.estimates import main_quantity
from brainsim.report.figures.joint import tabulate_joint
from brainsim.report.figures.layers import draw_layer_curves, has_curves
from brainsim.report.figures.mds import draw_mds
from brainsim.report.figures.partition import draw_families, tabulate_families
from brainsim.report.figures.parts import draw_parts
from brainsim.report.figures.rdms import draw_rdms
from brainsim.report.figures.similarity import draw_similarity, tabulate_similarity
from brainsim.report.figures.venn import draw_venn
from brainsim.report.rdm_parts import as_partition
from brainsim.report.section import Block, KeyMaker, Section, keep_blocks


def rsa_section(r: RsaSet, keys: KeyMaker) -> Section:
    """Return scores of systems, who differs from whom, layers, parts, pairs, and RDMs to look at."""
    blocks: list[Block | None] = [
        draw_similarity(r, key=keys.make(r.name, "similarity")),
        tabulate_similarity(r, key=keys.make(r.name, "similarity", "table")),
        draw_comparisons(r, key=keys.make(r.name, "comparisons")),
    ]
    if r.layer_score is not None and has_curves(r.layers):
        measure = r.comparison or "score"
        blocks.append(
            draw_layer_curves(
                r.layers,
                r.layer_score,
                streams=r.streams,
                subjects=r.subjects,
                key=keys.make(r.name, "rsa-layers"),
                title="Representational similarity of each layer",
                y_label=f"RDM similarity ({measure})",
                what=f"{measure.capitalize()} (no unit) between each layer's RDM and the stream's.",
            )
        )
    blocks.append(draw_best_layers(r, key=keys.make(r.name, "best-layers")))
    blocks.append(tabulate_best_layers(r, key=keys.make(r.name, "best-layers", "table")))
    blocks += _parts(r, keys)
    if r.pairs:
        blocks.append(draw_pairs(r, key=keys.make(r.name, "pairs")))
    if r.residuals:
        blocks.append(draw_residuals(r, key=keys.make(r.name, "residuals")))
    if r.geometry is not None:
        blocks.append(draw_rdms(r, r.geometry, key=keys.make(r.name, "rdms")))
        if len(r.geometry.similarity) > 2:
            blocks.append(draw_mds(r, r.geometry, key=keys.make(r.name, "mds")))
    return Section(
        keys.make("rsa", r.name, r.dataset),
        f"Whose geometry is alike: representational similarity “{r.name}” of {r.dataset}",
        keep_blocks(*blocks),
    )


def _parts(r: RsaSet, keys: KeyMaker) -> list[Block | None]:
    """Return what families explain of the variance of RDMs, drawn as a partition of responses is."""
    p = as_partition(r)
    quantity = None if p is None else main_quantity(p)
    if p is None or quantity is None:
        return []
    return [
        draw_families(p, None, quantity, key=keys.make(r.name, "rdm", quantity)),
        tabulate_families(p, None, quantity, key=keys.make(r.name, "rdm", quantity, "table")),
        draw_family_comparisons(p, key=keys.make(r.name, "rdm", "comparisons")),
        tabulate_joint(p, key=keys.make(r.name, "rdm", "joint", "table")),
        draw_venn(p, key=keys.make(r.name, "rdm", "venn")),
        draw_parts(p, None, key=keys.make(r.name, "rdm", "parts")),
    ]


def audit_section(a: AuditSet, keys: KeyMaker) -> Section:
    """Return both protocols' scores, the conclusions that differ, and which step changes them."""
    return Section(
        keys.make("audit", a.name, a.dataset),
        f"What the protocol decides: audit of “{a.name}” and “{a.name}-study” of {a.dataset}",
        keep_blocks(
            draw_audit(a, key=keys.make(a.name, "protocols")),
            tabulate_steps(a, key=keys.make(a.name, "steps")),
            tabulate_changes(a, key=keys.make(a.name, "changed")),
        ),
        tell_audit(a),
    )
