"""Turn result nodes of a store into the plain values that a page is made of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from brainsim.commands.report_sources import (
    choose_truths,
    describe_dataset,
    describe_systems,
    number,
    read_runs,
    read_truth,
)
from brainsim.report.content import (
    Content,
    Estimate,
    FitSet,
    Layer,
    NodeNote,
    PartitionSet,
    RsaSet,
)
from brainsim.report.reduce import order_streams, stream_masks, stream_means
from brainsim.store import NodeInfo, Store

ROWS_AT_ONCE = 64  # parts of nine families are 511 rows of every target; a block of 64 stays small
EDGE_SHARE_LIMIT = 0.05  # above this share of targets at an end of the alpha grid, the grid was too narrow


class ResultReader:
    """Collects results node by node; `finish` adds what they were made from.

    Parameters
    ----------
    store : Store
        Open for reading. Per-target arrays are reduced to means per stream as they are read.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._index = {info.path: info for info in store.nodes()}
        self._fits: list[FitSet] = []
        self._partitions: list[PartitionSet] = []
        self._rsas: list[RsaSet] = []
        self._used: dict[str, NodeInfo] = {}
        self._warnings: dict[str, list[str]] = {}
        self._models: dict[str, None] = {}

    def add_fit(self, nodes: Sequence[NodeInfo]) -> None:
        """Add the fit of one name and dataset, one node per subject."""
        first = self._use(nodes)
        name, dataset, subjects = _name(nodes)
        masks = [self._masks(info) for info in nodes]
        streams = order_streams([s for m in masks for s in m])
        r = [self._store.read(info.path, "r") for info in nodes]
        r2 = [self._store.read(info.path, "r2") for info in nodes]
        layers = _layers(first.get("layers", []))
        has_layers = bool(layers) and all("layer_r2" in info.arrays for info in nodes)
        has_split = all("split_r2" in info.arrays for info in nodes)
        shares = [number(info.attributes.get("summary", {}).get("edge_share")) for info in nodes]
        known = [s for s in shares if math.isfinite(s)]
        self._models |= dict.fromkeys(layer.model for layer in layers)
        fit = FitSet(
            name=name,
            dataset=dataset,
            subjects=subjects,
            streams=streams,
            r={s: _take(r, masks, s) for s in streams},
            r2={s: _take(r2, masks, s) for s in streams},
            bands=tuple(first.get("bands", [])),
            band_families=tuple(first.get("band_families", [])),
            split_r2=self._means(nodes, "split_r2", masks, streams) if has_split else None,
            layers=layers if has_layers else (),
            layer_r2=self._means(nodes, "layer_r2", masks, streams) if has_layers else None,
            edge_share=float(np.mean(known)) if known else math.nan,
            n_masked=sum(int(info.attributes.get("summary", {}).get("n_masked", 0)) for info in nodes),
            n_folds=len(first.get("folds", [])),
            options={**first.get("options", {}), **({"alphas": first["alphas"]} if first.get("alphas") else {})},
        )
        if fit.edge_share > EDGE_SHARE_LIMIT and not any("grid" in w for i in nodes for w in _texts(i)):
            self._warn(
                f"{100 * fit.edge_share:.1f} % of targets chose a penalty at an end of the alpha grid; widen it.",
                f"fits/{name}/{dataset}",
            )
        self._fits.append(fit)

    def add_partition(self, nodes: Sequence[NodeInfo]) -> None:
        """Add the partition of one name and dataset, one node per subject, and its group node."""
        first = self._use(nodes)
        name, dataset, subjects = _name(nodes)
        masks = [self._masks(info) for info in nodes]
        streams = order_streams([s for m in masks for s in m])
        families = tuple(str(f) for f in first["families"])
        self._models |= dict.fromkeys(m for models in first.get("family_models", {}).values() for m in models)
        parts = tuple(tuple(str(f) for f in subset) for subset in first["subsets"])
        unique = self._means(nodes, "unique", masks, streams)
        full = max(range(len(parts)), key=lambda i: len(parts[i]))
        joint = self._means(nodes, "subset_r2", masks, streams, rows=slice(full, full + 1))[..., 0]
        group = self._group(nodes, "partition-group", f"partitions/{name}", dataset)
        order = {family: i for i, family in enumerate(families)}
        self._partitions.append(
            PartitionSet(
                name=name,
                dataset=dataset,
                subjects=subjects,
                streams=streams,
                families=families,
                n_targets=self._count(nodes, "unique", masks, streams),
                unique=unique,
                joint=joint,
                shapley=self._means_if_there(nodes, "shapley", masks, streams),
                product=self._means_if_there(nodes, "product", masks, streams),
                parts=parts,
                part_values=self._means_if_there(nodes, "parts", masks, streams),
                group={(w["quantity"], w["stream"], w["family"]): _estimate(w) for w in group.get("rows", [])},
                group_joint={w["stream"]: _estimate(w) for w in group.get("joint", [])},
                group_parts={
                    (w["stream"], tuple(sorted(w["families"], key=lambda f: order.get(f, 99)))): _estimate(w)
                    for w in group.get("parts", [])
                },
                interval=_tell_interval(group),
                options=first.get("options", {}),
            )
        )

    def add_rsa(self, nodes: Sequence[NodeInfo]) -> None:
        """Add the RSA of one name and dataset, one node per subject, and its group node."""
        first = self._use(nodes)
        name, dataset, subjects = _name(nodes)
        streams = order_streams([s for info in nodes for s in info.attributes["streams"]])
        models = tuple((str(m["model"]), str(m["family"])) for m in first["models"])
        layers = _layers(first.get("layers", []))
        has_layers = bool(layers) and all("layer_score" in info.arrays for info in nodes)
        group = self._group(nodes, "rsa-group", f"rsa/{name}", dataset)
        self._models |= dict.fromkeys(model for model, _ in models)
        self._rsas.append(
            RsaSet(
                name=name,
                dataset=dataset,
                subjects=subjects,
                streams=streams,
                models=models,
                model_score=self._scores(nodes, "model_score", streams),
                layers=layers if has_layers else (),
                layer_score=self._scores(nodes, "layer_score", streams) if has_layers else None,
                group={(w["stream"], w["model"]): _estimate(w) for w in group.get("rows", [])},
                ceilings={
                    w["stream"]: (number(w["lower"]), number(w["upper"]))
                    for w in group.get("ceilings", [])
                    if math.isfinite(number(w["lower"])) and math.isfinite(number(w["upper"]))
                },
                comparison=str(first.get("comparison", "")),
                distance=str(first.get("distance", "")),
                interval=_tell_interval(group),
                options=first.get("options", {}),
            )
        )

    def finish(self, *, truth: str | None) -> Content:
        """Return everything that was added, with the runs, systems, truths and nodes behind it."""
        names = (
            [p.dataset for p in self._partitions] + [f.dataset for f in self._fits] + [r.dataset for r in self._rsas]
        )
        datasets = list(dict.fromkeys(names))
        families = list(dict.fromkeys(f for p in self._partitions for f in p.families))
        chosen = choose_truths(self._index, datasets, truth, store=self._store)
        self._used |= {info.path: info for info in chosen.values()}
        sources = [s for info in self._used.values() for s in info.attributes.get("sources", [])]
        for path in sources:
            if isinstance(path, str) and path in self._index:
                self._used.setdefault(path, self._index[path])
        systems = describe_systems(self._index, list(self._models), families, sources=list(self._used.values()))
        for folder in ("fits/", "partitions/", "rsa/"):
            for info in self._store.nodes(folder, complete=False):
                if not info.complete:
                    self._warn("An unfinished result was left out.", info.path)
        random = [s.name for s in systems if "random" in s.weights.lower()]
        if random:
            self._warn(
                f"{len(random)} of {len(systems)} systems have random weights ({', '.join(random)}): "
                "what they explain says nothing about trained systems.",
                "",
            )
        return Content(
            fits=tuple(self._fits),
            partitions=tuple(self._partitions),
            rsas=tuple(self._rsas),
            truths={d: read_truth(info, families) for d, info in chosen.items()},
            runs=tuple(q for d in datasets for q in read_runs(self._store, self._index, d)),
            datasets=tuple(describe_dataset(self._index, d) for d in datasets),
            systems=systems,
            nodes=tuple(_note(info) for info in self._used.values()),
            warnings=tuple(_tell_warning(text, where) for text, where in self._warnings.items()),
        )

    # -- arrays ----------------------------------------------------------------------------------------------------

    def _masks(self, info: NodeInfo) -> dict[str, np.ndarray]:
        """Return which targets of a subject's result each stream holds."""
        _, _, dataset, subject = info.path.split("/", 3)
        array = "unique" if "unique" in info.arrays else "r"
        n_targets = info.arrays[array][0][-1]
        targets = self._index.get(f"rois/{dataset}/{subject}")
        attributes = targets.attributes if targets else {}
        names = attributes.get("roi_names") or info.attributes.get("roi_names") or []
        streams = info.attributes.get("streams") or attributes.get("streams") or {}
        membership = None
        if targets is not None and "membership" in targets.arrays:
            membership = self._store.read(targets.path, "membership")
            self._used.setdefault(targets.path, targets)
        return stream_masks(names, membership, streams, n_targets)

    def _means(
        self,
        nodes: Sequence[NodeInfo],
        array: str,
        masks: Sequence[Mapping[str, np.ndarray]],
        streams: Sequence[str],
        rows: slice | None = None,
    ) -> np.ndarray:
        """Return means over targets of an (n_rows, n_targets) array: (n_subjects, n_streams, n_rows)."""
        subjects = []
        for info, mask in zip(nodes, masks, strict=True):
            n_rows = info.arrays[array][0][0]
            start, stop, _ = (rows or slice(0, n_rows)).indices(n_rows)
            blocks = [
                stream_means(
                    self._store.read(info.path, array, rows=slice(a, min(a + ROWS_AT_ONCE, stop))), mask, streams
                )
                for a in range(start, stop, ROWS_AT_ONCE)
            ]
            subjects.append(np.concatenate(blocks, axis=1))
        return np.stack(subjects)

    def _means_if_there(
        self, nodes: Sequence[NodeInfo], array: str, masks: Sequence[Mapping[str, np.ndarray]], streams: Sequence[str]
    ) -> np.ndarray | None:
        there = all(array in info.arrays for info in nodes)
        return self._means(nodes, array, masks, streams) if there else None

    def _count(
        self, nodes: Sequence[NodeInfo], array: str, masks: Sequence[Mapping[str, np.ndarray]], streams: Sequence[str]
    ) -> np.ndarray:
        """Return how many targets have a score: (n_subjects, n_streams)."""
        counts = []
        for info, mask in zip(nodes, masks, strict=True):
            finite = np.isfinite(self._store.read(info.path, array, rows=slice(0, 1))[0])
            counts.append([int(finite[mask[s]].sum()) if s in mask else 0 for s in streams])
        return np.array(counts, np.int64)

    def _scores(self, nodes: Sequence[NodeInfo], array: str, streams: Sequence[str]) -> np.ndarray:
        """Return an (n_rows, n_streams) array of each subject: (n_subjects, n_streams, n_rows)."""
        subjects = []
        for info in nodes:
            values = self._store.read(info.path, array)
            column = {s: values[:, i] for i, s in enumerate(info.attributes["streams"])}
            missing = np.full(len(values), np.nan)
            subjects.append(np.stack([column.get(s, missing) for s in streams]))
        return np.stack(subjects).astype(np.float64)

    # -- nodes -----------------------------------------------------------------------------------------------------

    def _use(self, nodes: Sequence[NodeInfo]) -> Mapping[str, Any]:
        """Remember the nodes and their warnings; return the first one's attributes."""
        for info in nodes:
            self._used[info.path] = info
            for text in _texts(info):
                self._warn(text, info.path)
        attributes: Mapping[str, Any] = nodes[0].attributes
        return attributes

    def _warn(self, text: str, where: str) -> None:
        self._warnings.setdefault(text, []).append(where)

    def _group(self, nodes: Sequence[NodeInfo], kind: str, folder: str, dataset: str) -> Mapping[str, Any]:
        """Return the group node's attributes where it speaks of just these subjects, else nothing and a warning."""
        candidates = [self._index.get(f"{folder}/{dataset}/group"), self._index.get(f"{folder}/group")]
        for info in candidates:
            if info is None or info.type != kind:
                continue
            sources = info.attributes.get("sources")
            if sources and {n.path for n in nodes} != {s for s in sources if s.startswith(folder + "/")}:
                self._warn("The group result was made from other subjects than there are now; run it again.", info.path)
                continue
            self._used[info.path] = info
            for text in _texts(info):
                if not any(text.endswith(known) for known in self._warnings):  # the subjects' own, told again
                    self._warn(text, info.path)
            attributes: Mapping[str, Any] = info.attributes
            return attributes
        self._warn("There is no group result: means over subjects are shown without intervals.", folder)
        return {}


def _name(nodes: Sequence[NodeInfo]) -> tuple[str, str, tuple[str, ...]]:
    """Return name, dataset and subjects from paths like `fits/{name}/{dataset}/{subject}`."""
    parts = [info.path.split("/", 3) for info in nodes]
    return parts[0][1], parts[0][2], tuple(p[3] for p in parts)


def _layers(rows: Iterable[Mapping[str, Any]]) -> tuple[Layer, ...]:
    return tuple(Layer(str(w["model"]), str(w["layer"]), int(w["index"]), str(w["family"])) for w in rows)


def _take(
    values: Sequence[np.ndarray], masks: Sequence[Mapping[str, np.ndarray]], stream: str
) -> tuple[np.ndarray, ...]:
    empty = np.zeros(0, np.float32)
    return tuple(v[m[stream]] if stream in m else empty for v, m in zip(values, masks, strict=True))


def _estimate(row: Mapping[str, Any]) -> Estimate:
    return Estimate(number(row["mean"]), number(row.get("low")), number(row.get("high")))


def _texts(info: NodeInfo) -> list[str]:
    return [str(w) for w in info.attributes.get("warnings", [])]


def _tell_warning(text: str, where: Sequence[str]) -> str:
    places = [w for w in where if w]
    if not places:
        return text
    return f"{text} ({places[0]}{f' and {len(places) - 1} more' if len(places) > 1 else ''})"


def _tell_interval(group: Mapping[str, Any]) -> str:
    """Return what the group node says its intervals are."""
    said = group.get("interval")
    if isinstance(said, str):
        return said
    return "interval over subjects" if group else ""


def _note(info: NodeInfo) -> NodeNote:
    options = info.attributes.get("options", {})
    return NodeNote(
        path=info.path,
        type=info.type,
        digest=info.digest,
        created=info.created,
        seed=info.seed,
        n_bytes=info.nbytes,
        options=options,
        software=info.software if isinstance(info.software, Mapping) else {},
    )
