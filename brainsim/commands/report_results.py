"""Turn result nodes of a store into the plain values that a page is made of."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from brainsim.commands.report_answers import (
    CHANGED,
    find_answers,
    is_of_results,
    is_outdated,
    read_accuracy,
    read_claims,
)
from brainsim.commands.report_arrays import ArrayReader, read_masks
from brainsim.commands.report_maps import read_map
from brainsim.commands.report_rows import read_estimate, read_layers
from brainsim.commands.report_rsa import read_audit, read_rsa
from brainsim.commands.report_sources import (
    choose_truths,
    describe_dataset,
    describe_systems,
    number,
    read_runs,
    read_truth,
)
from brainsim.report.caveats import EDGE_SHARE_LIMIT
from brainsim.report.content import (
    AuditSet,
    Content,
    FitSet,
    MapSet,
    NodeNote,
    PartitionSet,
    RegionRow,
    RsaSet,
    SearchNote,
)
from brainsim.report.reduce import order_streams, significant, stream_means, stream_medians
from brainsim.report.words import join_words
from brainsim.store import NodeInfo, Store


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
        self._maps: list[MapSet] = []
        self._used: dict[str, NodeInfo] = {}
        self._warnings: dict[str, list[str]] = {}
        self._models: dict[str, None] = {}

    def add_fit(self, nodes: Sequence[NodeInfo]) -> None:
        """Add the fit of one name and dataset, one node per subject."""
        first = self._use(nodes)
        name, dataset, subjects = _name(nodes)
        reader, streams = self._reader(nodes)
        self._add_map(nodes)
        layers = read_layers(first.get("layers", []))
        has_layers = bool(layers) and reader.has("layer_r2")
        self._models |= dict.fromkeys(layer.model for layer in layers)
        self._fits.append(
            FitSet(
                name=name,
                dataset=dataset,
                subjects=subjects,
                streams=streams,
                r={s: reader.take("r", s) for s in streams},
                r2={s: reader.take("r2", s) for s in streams},
                bands=tuple(first.get("bands", [])),
                band_families=tuple(first.get("band_families", [])),
                split_r2=reader.means_if_there("split_r2"),
                layers=layers if has_layers else (),
                layer_r2=reader.means_if_there("layer_r2") if has_layers else None,
                significant=reader.reduced("q", lambda q, m, s: stream_means(significant(q), m, s)),
                normalised=reader.reduced("joint_normalised", stream_medians),
                regions=_regions(nodes),
                searches=self._searches(nodes, f"fits/{name}/{dataset}"),
                n_folds=len(first.get("folds", [])),
                options={**first.get("options", {}), **({"alphas": first["alphas"]} if first.get("alphas") else {})},
            )
        )

    def add_partition(self, nodes: Sequence[NodeInfo]) -> None:
        """Add the partition of one name and dataset, one node per subject, and its group node."""
        first = self._use(nodes)
        name, dataset, subjects = _name(nodes)
        reader, streams = self._reader(nodes)
        self._add_map(nodes)
        families = tuple(str(f) for f in first["families"])
        self._models |= dict.fromkeys(m for models in first.get("family_models", {}).values() for m in models)
        subsets = [tuple(str(f) for f in subset) for subset in first["subsets"]]
        parts = tuple(tuple(str(f) for f in part) for part in first.get("parts", subsets))
        singles = [subsets.index((f,)) for f in families if (f,) in subsets]
        shares = {
            "joint": reader.reduced("joint_q", lambda q, m, s: stream_means(significant(q), m, s)),
            "unique": reader.means_if_there("unique_q", turn=significant),
        }
        group = self._group(nodes, "partition-group", f"partitions/{name}", dataset)
        order = {family: i for i, family in enumerate(families)}
        self._partitions.append(
            PartitionSet(
                name=name,
                dataset=dataset,
                subjects=subjects,
                streams=streams,
                families=families,
                n_targets=reader.count("subset_r2"),
                joint=reader.means("subset_r2", rows=[max(range(len(subsets)), key=lambda i: len(subsets[i]))])[..., 0],
                unique=reader.means_if_there("unique"),
                alone=reader.means("subset_r2", rows=singles) if len(singles) == len(families) else None,
                shapley=reader.means_if_there("shapley"),
                product=reader.means_if_there("product"),
                parts=parts if reader.has("parts") else (),
                part_values=reader.means_if_there("parts"),
                n_subsets=len(subsets),
                significant={quantity: share for quantity, share in shares.items() if share is not None},
                normalised=reader.reduced("joint_normalised", stream_medians),
                regions=_regions(nodes),
                searches=self._searches(nodes, f"partitions/{name}/{dataset}"),
                n_folds=len(first.get("folds", [])),
                group={(w["quantity"], w["stream"], w["family"]): read_estimate(w) for w in group.get("rows", [])},
                group_joint={w["stream"]: read_estimate(w) for w in group.get("joint", [])},
                group_parts={
                    (w["stream"], tuple(sorted(w["families"], key=lambda f: order.get(f, 99)))): read_estimate(w)
                    for w in group.get("parts", [])
                },
                comparisons=tuple(group.get("comparisons", ())),
                interval=_tell_interval(group),
                options=first.get("options", {}),
            )
        )

    def add_rsa(self, nodes: Sequence[NodeInfo]) -> None:
        """Add the RSA of one name and dataset, one node per subject, and its group node."""
        self._use(nodes)
        name, dataset, _ = _name(nodes)
        group = self._group(nodes, "rsa-group", f"rsa/{name}", dataset)
        pictures = self._index.get(f"pictures/{name}/{dataset}")
        if pictures is not None and pictures.type == "rsa-pictures" and pictures.complete:
            self._used[pictures.path] = pictures
        else:
            pictures = None
        found = read_rsa(self._store, nodes, group, pictures)
        self._models |= dict.fromkeys(model for model, _ in found.models)
        self._rsas.append(found)

    def finish(self, *, truth: str | None, is_choice: bool) -> Content:
        """Return everything that was added, with the runs, systems, truths and nodes behind it.

        Parameters
        ----------
        truth : str or None
            See `choose_truths`.
        is_choice : bool
            Whether results were chosen: answers that were made from others are left out.
        """
        names = (
            [p.dataset for p in self._partitions] + [f.dataset for f in self._fits] + [r.dataset for r in self._rsas]
        )
        datasets = list(dict.fromkeys(names))
        answers, left_out = [], []
        for info in find_answers(self._index, datasets):
            if is_choice and not is_of_results(self._index, info, self._used):
                left_out.append(info.path)
                continue
            answers.append(info)
            self._used[info.path] = info  # what it warns of stands in its own section
            if is_outdated(self._index, info):
                self._warn(CHANGED, info.path)
        if left_out:
            told = "Answers that were made from other results than are shown here were left out"
            self._warn(f"{told}: {join_words(left_out)}.", "")
        audits = self._audits()
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
        random = list(dict.fromkeys(s.name for s in systems if "random" in s.weights.lower()))
        if random:
            self._warn(
                f"{len(random)} of {len({s.name for s in systems})} systems have random weights ({', '.join(random)}): "
                "what they explain says nothing about trained systems.",
                "",
            )
        return Content(
            fits=tuple(self._fits),
            partitions=tuple(self._partitions),
            rsas=tuple(self._rsas),
            audits=audits,
            maps=tuple(self._maps),
            claims=tuple(read_claims(info) for info in answers if info.type == "claims"),
            accuracies=tuple(read_accuracy(info) for info in answers if info.type == "accuracy"),
            truths={d: read_truth(info, families) for d, info in chosen.items()},
            runs=tuple(q for d in datasets for q in read_runs(self._store, self._index, d)),
            datasets=tuple(describe_dataset(self._index, d) for d in datasets),
            systems=systems,
            nodes=tuple(_note(info) for info in self._used.values()),
            warnings=_merge_warnings(self._warnings),
        )

    def _add_map(self, nodes: Sequence[NodeInfo]) -> None:
        found = read_map(self._store, self._index, nodes)
        if found is not None:
            self._maps.append(found)

    def _audits(self) -> tuple[AuditSet, ...]:
        """Return the audits of the results that were added."""
        found = []
        for rsa in self._rsas:
            info = self._index.get(f"audits/{rsa.name}/{rsa.dataset}")
            if info is None or not info.complete:
                continue
            audit = read_audit(info, self._index)
            if audit is not None:
                self._use([info])
                found.append(audit)
        return tuple(found)

    # -- arrays ----------------------------------------------------------------------------------------------------

    def _reader(self, nodes: Sequence[NodeInfo]) -> tuple[ArrayReader, tuple[str, ...]]:
        """Return what reads the arrays of a result, and its streams."""
        masks = []
        for info in nodes:
            _, _, dataset, subject = info.path.split("/", 3)
            targets = self._index.get(f"rois/{dataset}/{subject}")
            if targets is not None:
                self._used.setdefault(targets.path, targets)
            masks.append(read_masks(self._store, info, targets))
        streams = order_streams([s for m in masks for s in m])
        return ArrayReader(self._store, nodes, streams, masks), streams

    def _searches(self, nodes: Sequence[NodeInfo], where: str) -> tuple[SearchNote, ...]:
        """Return what happened in each subject's search, and warn where the nodes do not do so themselves."""
        notes = tuple(_search(info) for info in nodes)
        shares = [note.edge_share for note in notes if math.isfinite(note.edge_share)]
        share = float(np.mean(shares)) if shares else 0.0
        if share > EDGE_SHARE_LIMIT and not any("grid" in w for info in nodes for w in _texts(info)):
            self._warn(f"{100 * share:.1f} % of choices are a penalty at an end of the alpha grid; widen it.", where)
        return notes

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


def _regions(nodes: Sequence[NodeInfo]) -> tuple[RegionRow, ...]:
    """Return the rows of ROIs of all subjects."""
    return tuple(
        RegionRow(
            subject=info.path.rsplit("/", 1)[1],
            region=str(row["roi"]),
            quantity=str(row["quantity"]),
            family=None if row.get("family") is None else str(row["family"]),
            estimate=read_estimate(row),
            n_targets=int(row.get("n_targets", 0)),
        )
        for info in nodes
        for row in info.attributes.get("roi_rows", [])
    )


def _search(info: NodeInfo) -> SearchNote:
    """Return what one subject's node tells of its search."""
    a = info.attributes
    summary, stopped = a.get("summary", {}), a.get("stopped")
    return SearchNote(
        subject=info.path.rsplit("/", 1)[1],
        n_fitted=int(summary.get("n_fitted", 0)),
        n_masked=int(summary.get("n_masked", 0)),
        masked={str(reason): int(n) for reason, n in summary.get("masked", {}).items()},
        edge_share=number(summary.get("edge_share")),
        n_candidates=int(summary.get("n_candidates", 0)),
        n_factored=int(summary.get("n_factored", 0)),
        n_float64=int(summary.get("n_float64", 0)),
        n_failed=int(summary.get("n_failed", 0)),
        stopped=None if not stopped else (int(stopped["n_candidates_done"]), int(stopped["n_candidates"])),
        gain=a.get("gain") or {},
        nulls=a.get("nulls") or {},
    )


def _texts(info: NodeInfo) -> list[str]:
    return [str(w) for w in info.attributes.get("warnings", [])]


def _merge_warnings(warnings: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Return one line for each kind of warning: those that differ in their numbers alone are told once."""
    kinds: dict[str, list[str]] = {}
    for text in warnings:
        kinds.setdefault(re.sub(r"\d[\d,.]*", "#", text), []).append(text)
    lines = []
    for texts in kinds.values():
        where = [place for text in texts for place in warnings[text] if place]
        text = texts[0][:1].upper() + texts[0][1:]
        lines.append(_tell_warning(text, where, n_like_it=len(texts) - 1))
    return tuple(lines)


def _tell_warning(text: str, where: Sequence[str], *, n_like_it: int = 0) -> str:
    if not where:
        return text
    more = f" and {len(where) - 1} more" if len(where) > 1 else ""
    return f"{text} ({where[0]}{more}{', with other numbers' if n_like_it else ''})"


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
