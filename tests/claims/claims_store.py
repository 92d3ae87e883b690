"""Turn planted scores into the nodes of a store that claims and accuracy are asked of, as the analyses write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from brainsim.stats.claims import Scores
from brainsim.store import Store

OPTIONS = {"dataset": "d", "delays": [1, 2, 3, 4], "cv": "runs", "seed": 0}
N_FOLDS = 4


def write_targets(store: Store, scores: Scores, *, dataset: str = "d", ceiling: float | None = None) -> None:
    """Write two targets for each stream."""
    n = 2 * len(scores.streams)
    for subject in scores.subjects:
        arrays = {
            "ijk": np.arange(n, dtype=np.int32)[:, None],
            "membership": np.repeat(np.eye(len(scores.streams), dtype=np.uint8), 2, axis=1),
            **({} if ceiling is None else {"ceiling": np.full(n, ceiling, np.float32)}),
        }
        attributes = {
            "roi_names": list(scores.streams), "streams": {s: [s] for s in scores.streams}, "affine": None,
            "volume_shape": None, "space": "table", "n_targets": n,
        }  # fmt: skip
        path = f"rois/{dataset}/{subject}"
        store.write(path, type="targets", key={"of": path}, arrays=arrays, attributes=attributes)


def _folds(values: np.ndarray) -> np.ndarray:
    """Return folds, the last axis, whose mean the values are."""
    offsets = np.linspace(-0.05, 0.05, N_FOLDS)
    return np.asarray(values[..., None] + offsets, np.float32)


def write_partition(
    store: Store,
    scores: Scores,
    name: str,
    families: Mapping[str, Sequence[str]],
    subsets: Sequence[Sequence[str]],
    *,
    only: Sequence[str] = (),
) -> None:
    """Write a partition of some families whose subsets have the scores of their systems, of some streams if asked."""
    n_targets = np.array([2 if not only or stream in only else 0 for stream in scores.streams], np.int32)
    for row, subject in enumerate(scores.subjects):
        members = [frozenset(s for family in subset for s in families[family]) for subset in subsets]
        r2 = np.stack([scores.sets[some][row] for some in members], axis=1)  # (n_streams, n_subsets)
        path = f"partitions/{name}/d/{subject}"
        store.write(
            path,
            type="partition",
            key={"of": path},
            arrays={
                "subset_r2": np.repeat(r2.T.astype(np.float32), 2, axis=1),
                "stream_subset_r2": _folds(r2),
                "stream_n_targets": n_targets,
            },
            attributes={
                "families": list(families), "family_models": {f: list(m) for f, m in families.items()},
                "subsets": [list(s) for s in subsets], "options": OPTIONS, "warnings": [], "sources": [],
            },
        )  # fmt: skip


def write_systems(store: Store, scores: Scores, name: str = "systems", *, only: Sequence[str] = ()) -> None:
    """Write a partition in which each system is a family, with single systems and all of them."""
    systems = sorted(scores.systems)
    families = {system: [system] for system in systems}
    write_partition(store, scores, name, families, [*([s] for s in systems), systems], only=only)


def write_families(store: Store, scores: Scores, name: str = "families") -> None:
    """Write a partition of the flow systems and all others, leave one out."""
    flow = ["cnn-flow-action", "cnn-flow-selfsup"]
    rest = sorted(scores.systems - set(flow))
    both = frozenset(flow)
    whole = Scores(
        scores.source, scores.measure, scores.subjects, scores.streams,
        {**scores.sets, both: scores.sets[frozenset(scores.systems)]},
    )  # fmt: skip
    write_partition(store, whole, name, {"flow": flow, "rest": rest}, [["flow"], ["rest"], ["flow", "rest"]])


def write_fit(store: Store, scores: Scores, name: str, systems: Sequence[str], **options: Any) -> None:
    """Write a fit of some systems."""
    for row, subject in enumerate(scores.subjects):
        r2 = scores.sets[frozenset(systems)][row]
        path = f"fits/{name}/d/{subject}"
        layers = [{"model": s, "layer": "top", "index": 0, "family": "any"} for s in systems]
        store.write(
            path,
            type="fit",
            key={"of": path, "options": options},
            arrays={
                "r2": np.repeat(r2.astype(np.float32), 2),
                "r": np.repeat(r2.astype(np.float32), 2),
                "stream_r2_folds": _folds(r2),
                "stream_n_targets": np.full(len(r2), 2, np.int32),
            },
            attributes={
                "layers": layers,
                "options": {**OPTIONS, "models": list(systems), **options},
                "warnings": [],
                "sources": [],
            },
        )


def write_rsa(
    store: Store,
    scores: Scores,
    name: str = "geometry",
    *,
    ceiling: float | None = 0.4,
    joint: bool = False,
    protocol: str = "default",
) -> None:
    """Write an RSA of single systems, and where asked of several together; its similarities are the scores."""
    options = {**OPTIONS, "protocol": protocol}
    sets = [sorted(members) for members in scores.sets if joint and len(members) > 1]
    systems = sorted(scores.systems)
    models = [{"model": system, "family": "any"} for system in systems]
    for row, subject in enumerate(scores.subjects):
        values = np.stack([np.asarray(scores.single(s))[row] for s in systems]).astype(np.float32)
        path = f"rsa/{name}/d/{subject}"
        attributes = {"models": models, "streams": list(scores.streams), "layers": [], "comparison": "spearman",
                      "distance": "correlation", "options": options, "sources": [], "warnings": [],
                      "joint_sets": sets}  # fmt: skip
        arrays = {"layer_score": values, "model_score": values}
        if sets:
            together = np.stack([scores.sets[frozenset(members)][row] for members in sets]).astype(np.float32)
            arrays["joint_score_folds"] = np.repeat(together[..., None], 2, axis=-1)
        store.write(path, type="rsa", key={"of": path}, arrays=arrays, attributes=attributes)
    ceilings = (
        [] if ceiling is None else [{"stream": s, "lower": ceiling, "upper": 1.2 * ceiling} for s in scores.streams]
    )
    group = {"rows": [], "layers": [], "ceilings": ceilings, "options": options, "sources": []}
    path = f"rsa/{name}/d/group"
    store.write(path, type="rsa-group", key={"of": path}, arrays={}, attributes=group)
