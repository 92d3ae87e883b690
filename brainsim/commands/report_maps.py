"""Turn per-target results whose targets lie in space into what maps are drawn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from brainsim.datasets.structures import LEFT, RIGHT
from brainsim.report.content_maps import MapSet, SurfacePlaces, VolumePlaces
from brainsim.store import NodeInfo, Store

# Fewer targets than this make no map.
MIN_TARGETS = 8

# Spaces in which the targets of all subjects are the same places of the brain.
STANDARD = ("mni", "fsaverage", "fslr", "grayordinates", "91k", "170k")

Index = Mapping[str, NodeInfo]


def read_map(store: Store, index: Index, nodes: Sequence[NodeInfo]) -> MapSet | None:
    """Return the maps of a fit or a partition; None where its targets lie nowhere in space.

    Parameters
    ----------
    store : Store
        Open for reading.
    index : mapping of path to NodeInfo
    nodes : sequence of NodeInfo
        One per subject.
    """
    first = nodes[0]
    _, name, dataset, _ = first.path.split("/", 3)
    targets = [index.get(f"rois/{dataset}/{info.path.split('/', 3)[3]}") for info in nodes]
    there = targets[0]
    if there is None or int(there.attributes.get("n_targets", 0)) < MIN_TARGETS:
        return None
    space = str(there.attributes.get("space") or "")
    places = _read_places(store, there)
    if places is None:
        return None
    shared = [nodes[0]]
    if space.lower().startswith(STANDARD):
        own = store.read(there.path, "ijk")
        shared = [n for n, t in zip(nodes, targets, strict=True) if t is not None and _is_same(store, there, own, t)]
    quantities, values = _read_values(store, first, shared)
    volume, surfaces = places
    return MapSet(
        result=first.type,
        name=name,
        dataset=dataset,
        subjects=tuple(n.path.split("/", 3)[3] for n in shared),
        n_subjects=len(nodes),
        space=space,
        quantities=quantities,
        values=values,
        volume=volume,
        surfaces=surfaces,
    )


def _is_same(store: Store, one: NodeInfo, ijk: np.ndarray, other: NodeInfo) -> bool:
    if one.path == other.path:
        return True
    a: Mapping[str, Any] = one.attributes
    b: Mapping[str, Any] = other.attributes
    if a.get("affine") != b.get("affine") or a.get("volume_shape") != b.get("volume_shape"):
        return False
    return one.arrays["ijk"][0] == other.arrays["ijk"][0] and bool(np.array_equal(ijk, store.read(other.path, "ijk")))


def _read_places(store: Store, targets: NodeInfo) -> tuple[VolumePlaces | None, dict[str, SurfacePlaces]] | None:
    """Return where targets lie: voxels, or vertices of the cortex; None for columns of a table."""
    a = targets.attributes
    ijk = store.read(targets.path, "ijk").astype(np.int64)
    if "place_index" in targets.arrays:
        place = store.read(targets.path, "place_index").astype(np.int64)
        surfaces: dict[str, SurfacePlaces] = {}
        start = 0
        for structure in a["structures"]:
            n = int(structure["n_places"])
            side = {LEFT: "left", RIGHT: "right"}.get(str(structure["name"])) or _side(str(structure["name"]))
            if structure["n_vertices"] and side:
                rows = np.flatnonzero((ijk[:, 0] >= start) & (ijk[:, 0] < start + n))
                surfaces[side] = SurfacePlaces(rows, place[ijk[rows, 0], 0], int(structure["n_vertices"]))
            start += n
        return (None, surfaces) if surfaces else None
    if a.get("affine") is None or ijk.shape[1] != 3:
        return None
    shape = tuple(int(n) for n in a["volume_shape"][:3])
    return VolumePlaces(ijk, np.asarray(a["affine"], np.float64), (shape[0], shape[1], shape[2])), {}


def _side(name: str) -> str:
    """Return the hemisphere that a name of a surface speaks of, "" where it speaks of none."""
    word = name.lower()
    if word in ("l", "lh", "left") or "left" in word:
        return "left"
    return "right" if word in ("r", "rh", "right") or "right" in word else ""


def _read_values(
    store: Store, first: NodeInfo, nodes: Sequence[NodeInfo]
) -> tuple[tuple[tuple[str, str], ...], np.ndarray]:
    """Return what is mapped, and its mean over subjects, (n_quantities, n_targets)."""
    if first.type == "fit":
        return (("prediction (r)", ""),), _mean([store.read(n.path, "r")[None] for n in nodes])
    families = [str(f) for f in first.attributes["families"]]
    names = [("all families (joint R²)", "")]
    joint = len(first.attributes["subsets"]) - 1
    parts = [[store.read(n.path, "subset_r2", rows=slice(joint, joint + 1)) for n in nodes]]
    if all("unique" in n.arrays for n in nodes):
        names += [(f"{f} (unique R²)", f) for f in families]
        parts.append([store.read(n.path, "unique") for n in nodes])
    return tuple(names), np.concatenate([_mean(part) for part in parts])


def _mean(values: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean over subjects without NaN, float64."""
    stacked = np.stack(values).astype(np.float64)
    n = np.isfinite(stacked).sum(axis=0)
    total = np.where(np.isfinite(stacked), stacked, 0).sum(axis=0)
    mean: np.ndarray = np.where(n > 0, total / np.maximum(n, 1), np.nan)
    return mean
