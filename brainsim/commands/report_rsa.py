"""Turn RSA nodes, pictures of RDMs and audits of a store into the plain values that a page is made of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from brainsim.commands.report_arrays import read_scores
from brainsim.commands.report_rows import read_estimate, read_layers
from brainsim.commands.report_sources import number
from brainsim.report.content import AuditSet, Estimate, GeometrySet, RsaSet
from brainsim.report.reduce import order_streams
from brainsim.store import NodeInfo, Store

Index = Mapping[str, NodeInfo]


def read_rsa(store: Store, nodes: Sequence[NodeInfo], group: Mapping[str, Any], pictures: NodeInfo | None) -> RsaSet:
    """Return the RSA of one name and dataset.

    Parameters
    ----------
    store : Store
        Open for reading.
    nodes : sequence of NodeInfo
        One per subject.
    group : mapping
        Attributes of the group's node; empty where there is none.
    pictures : NodeInfo or None
        Its RDMs to look at.
    """
    first = nodes[0].attributes
    _, name, dataset, _ = nodes[0].path.split("/", 3)
    streams = order_streams([s for info in nodes for s in info.attributes["streams"]])
    models = tuple((str(m["model"]), str(m["family"])) for m in first["models"])
    layers = read_layers(first.get("layers", []))
    has = {a for a in nodes[0].arrays if all(a in info.arrays for info in nodes)}
    has_layers = bool(layers) and "layer_score" in has
    parts = _read_families(store, nodes, group, streams) if "subset_r2_folds" in has and group.get("families") else {}
    return RsaSet(
        name=name,
        dataset=dataset,
        subjects=tuple(info.path.split("/", 3)[3] for info in nodes),
        streams=streams,
        models=models,
        model_score=read_scores(store, nodes, "model_score", streams),
        layers=layers if has_layers else (),
        layer_score=read_scores(store, nodes, "layer_score", streams) if has_layers else None,
        group=_by(group.get("rows", []), "stream", "model"),
        ceilings={
            w["stream"]: (number(w["lower"]), number(w["upper"]))
            for w in group.get("ceilings", [])
            if math.isfinite(number(w["lower"])) and math.isfinite(number(w["upper"]))
        },
        best_score=read_scores(store, nodes, "best_score", streams) if "best_score" in has else None,
        best_layer=read_scores(store, nodes, "best_layer", streams) if "best_layer" in has else None,
        best=_by(group.get("best_layers", []), "stream", "model"),
        comparisons=tuple(group.get("comparisons", ())),
        pairs=_by(group.get("pairs", []), "stream", "a", "b"),
        residuals=_by(group.get("residuals", []), "stream", "control", "target"),
        together={w["stream"]: read_estimate(w) for w in group.get("together", [])},
        geometry=None if pictures is None else _read_geometry(store, pictures),
        comparison=str(first.get("comparison", "")),
        distance=str(first.get("distance", "")),
        interval=str(group.get("interval", "interval over subjects")) if group else "",
        interval_of_parts=str(group.get("interval_of_parts") or ""),
        untested=str(group.get("untested") or ""),
        options=first.get("options", {}),
        **parts,
    )


def _by(rows: Sequence[Mapping[str, Any]], *names: str) -> dict[Any, Estimate]:
    """Return estimates by the values of some columns."""
    return {tuple(row[name] for name in names): read_estimate(row) for row in rows}


def _read_families(
    store: Store, nodes: Sequence[NodeInfo], group: Mapping[str, Any], streams: Sequence[str]
) -> dict[str, Any]:
    """Return each subject's parts of RDM variance, by the lattice that made the group's."""
    from brainsim.variance.lattice import commonality_parts, subset_names, subset_plan, unique_parts

    families = tuple(str(f) for f in group["families"])
    plan = subset_plan(len(families), str(nodes[0].attributes["options"].get("subsets", "leave-one-out")))
    order = {family: i for i, family in enumerate(families)}
    scores = []  # (n_subsets, n_streams) of each subject
    for info in nodes:
        folds = store.read(info.path, "subset_r2_folds").astype(np.float64).mean(axis=-1)
        column = {s: folds[:, i] for i, s in enumerate(info.attributes["streams"])}
        scores.append(np.stack([column.get(s, np.full(len(folds), np.nan)) for s in streams], axis=1))
    subsets = np.stack(scores, axis=1)  # (n_subsets, n_subjects, n_streams)
    alone = [row for row, mask in enumerate(plan.masks) if mask.bit_count() == 1]
    found: dict[str, Any] = {
        "families": families,
        "n_subsets": len(plan.masks),
        "joint": subsets[-1],
        "group_joint": {w["stream"]: read_estimate(w) for w in group.get("joint", [])},
        "group_families": _by(group.get("unique", []), "quantity", "stream", "family"),
        "family_comparisons": tuple(group.get("family_comparisons", ())),
    }
    if len(alone) == len(families):
        found["alone"] = np.moveaxis(subsets[alone], 0, -1)
    if plan.has_unique:
        names = [tuple(sorted(n, key=order.__getitem__)) for n in subset_names(families, plan.part_masks)]
        found |= {
            "unique": np.moveaxis(unique_parts(subsets, plan), 0, -1),
            "parts": tuple(names),
            "part_values": np.moveaxis(commonality_parts(subsets, plan), 0, -1),
            "group_parts": {
                (w["stream"], tuple(sorted(w["families"], key=order.__getitem__))): read_estimate(w)
                for w in group.get("parts", [])
            },
        }
    return found


def _read_geometry(store: Store, info: NodeInfo) -> GeometrySet:
    a: Mapping[str, Any] = info.attributes
    return GeometrySet(
        names=tuple(p["name"] for p in a["pictured"]),
        kinds=tuple(p["kind"] for p in a["pictured"]),
        pictures=store.read(info.path, "picture"),
        similarity=store.read(info.path, "similarity"),
        layers=read_layers(a["layers"]),
        streams=tuple(a["streams"]),
        rows=str(a["rows"]),
        block=str(a["block"]),
        n_rows=int(a["n_rows"]),
        n_per_pixel=int(a["n_per_pixel"]),
        comparison=str(a["comparison"]),
        n_subjects=int(a["n_subjects"]),
        n_blocks=int(a["n_blocks"]),
    )


def read_audit(info: NodeInfo, index: Index) -> AuditSet | None:
    """Return an audit beside the scores that it speaks of; None where one of the two results is gone."""
    a: Mapping[str, Any] = info.attributes
    groups = [index.get(path) for path in a["sources"]]
    if any(group is None for group in groups):
        return None
    default, study = (group.attributes for group in groups if group is not None)
    scores = [_by(g["rows"], "stream", "model") for g in (default, study)]
    streams = order_streams([row["stream"] for row in default["rows"]])
    return AuditSet(
        name=info.path.split("/")[1],
        dataset=str(a["dataset"]),
        streams=streams,
        models=tuple(dict.fromkeys((str(row["model"]), str(row["family"])) for row in default["rows"])),
        default=scores[0],
        study=scores[1],
        changed=tuple(a["changed"]),
        steps=tuple(a["steps"]),
        n_conclusions=int(a["n_conclusions"]),
        max_q=float(a["max_q"]),
        n_subjects=len(default["subjects"]),
        comparisons=(str(default["comparison"]), str(study["comparison"])),
    )
