"""Turn nodes that results were made from into notes for a page: runs, datasets, systems and planted truth."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from brainsim.core.errors import UnknownNameError
from brainsim.core.ordering import natural_order
from brainsim.core.registry import unknown_name
from brainsim.report.content import DatasetNote, RunQuality, SystemNote, Truth
from brainsim.report.reduce import order_streams
from brainsim.store import NodeInfo, Store

if TYPE_CHECKING:
    from brainsim.models import ModelRow

Index = Mapping[str, NodeInfo]


def number(value: Any) -> float:
    """Return a number, or NaN for what JSON writes where there is none."""
    return math.nan if value is None else float(value)


def choose_truths(index: Index, datasets: Sequence[str], truth: str | None, *, store: Store) -> dict[str, NodeInfo]:
    """Return the truth node of each dataset that has one.

    Parameters
    ----------
    index : mapping of path to NodeInfo
    datasets : sequence of str
    truth : str or None
        "auto" for `truth/{dataset}`, a name for `truth/{name}`, None for none.
    store : Store
        Named in the hint.
    """
    if truth is None:
        return {}
    there = [info.path.removeprefix("truth/") for info in index.values() if info.type == "truth"]
    if truth != "auto" and truth not in there:
        raise unknown_name("truth", truth, there, hint=f"brainsim store ls truth --store {store.path}")
    chosen = {d: d if truth == "auto" else truth for d in datasets}
    nodes = {d: index.get(f"truth/{name}") for d, name in chosen.items()}
    return {d: info for d, info in nodes.items() if info is not None and info.type == "truth"}


def read_truth(info: NodeInfo, families: Sequence[str]) -> Truth:
    """Return what was planted; the families of a part come in the order of `families`."""
    a = info.attributes
    return Truth(
        dataset=info.path.removeprefix("truth/"),
        unique={(w["stream"], w["family"]): number(w["unique"]) for w in a.get("rows", [])},
        joint={w["stream"]: number(w["r2"]) for w in a.get("joint", [])},
        parts={
            (w["stream"], tuple(f for f in families if f in w["families"])): number(w["r2"]) for w in a.get("parts", [])
        },
        null=frozenset((stream, family) for stream, family in a.get("null", [])),
        description=str(a.get("description", "")),
    )


def read_runs(store: Store, index: Index, dataset: str) -> list[RunQuality]:
    """Return what cleaning saw of every run of a dataset, run 2 before run 10."""
    runs = []
    for info in index.values():
        if info.type != "bold" or not info.path.startswith(f"bold/{dataset}/"):
            continue
        n_trs, n_targets = info.arrays["values"][0]
        valid = store.read(info.path, "valid") if "valid" in info.arrays else np.ones(n_targets)
        a = info.attributes
        qc = a.get("qc", {})
        _, _, subject, run = info.path.split("/", 3)
        runs.append(
            RunQuality(
                dataset=dataset,
                subject=subject,
                run=run,
                n_trs=int(n_trs),
                tr_s=number(a.get("tr_s")),
                n_valid=int(np.count_nonzero(valid)),
                n_targets=int(n_targets),
                tsnr_median=number(qc.get("tsnr_median")),
                variance_removed_median=number(qc.get("variance_removed_median")),
                fd_mean_mm=number(qc.get("fd_mean")),
                n_outlier_trs=qc.get("n_outlier_trs"),
                n_constant=qc.get("n_constant"),
                n_nan=qc.get("n_nan"),
                n_scrubbed=_count_scrubbed(store, info),
                n_repeats=int(a.get("n_repeats", 1)),
            )
        )
    return sorted(runs, key=lambda run: (natural_order(run.subject), natural_order(run.run)))


def _count_scrubbed(store: Store, info: NodeInfo) -> int | None:
    if "kept" not in info.arrays:
        return None
    kept = store.read(info.path, "kept")
    return int(len(kept) - np.count_nonzero(kept))


def describe_dataset(index: Index, dataset: str) -> DatasetNote:
    """Return a dataset's space, streams and cleaning."""
    targets = [i for i in index.values() if i.type == "targets" and i.path.startswith(f"rois/{dataset}/")]
    bold = [i for i in index.values() if i.type == "bold" and i.path.startswith(f"bold/{dataset}/")]
    a = targets[0].attributes if targets else {}
    streams = a.get("streams") or {name: (name,) for name in a.get("roi_names", [])}
    cleaning = bold[0].attributes.get("cleaning", {}) if bold else {}
    return DatasetNote(
        name=dataset,
        space=str(a.get("space") or ""),
        streams={s: tuple(streams[s]) for s in order_streams(list(streams))},
        cleaning=cleaning,
        rows="stimuli" if any(map(is_betas, bold)) else "TRs",
    )


def describe_systems(
    index: Index, models: Sequence[str], families: Sequence[str], *, sources: Sequence[NodeInfo]
) -> tuple[SystemNote, ...]:
    """Return the systems that results speak of, from their activations and from the list of models.

    Parameters
    ----------
    index : mapping of path to NodeInfo
    models : sequence of str
        Systems named by the results; where there are none, every system with activations whose family is in `families`.
    families : sequence of str
    sources : sequence of NodeInfo
        What was used. Of a model only activations count that kernels or RSA results among these were made from (a store
        may hold it with other weights, or by another protocol); all, where none of its own is known to be.

    Returns
    -------
    tuple of SystemNote
        One for each protocol by which a model's activations were made.
    """
    used = _find_used(sources)
    still = _find_still(index, sources)
    nodes: dict[str, list[NodeInfo]] = {}
    for info in index.values():
        if info.type == "activations":
            nodes.setdefault(str(info.attributes.get("model")), []).append(info)
    nodes = {model: [i for i in infos if i.digest in used] or infos for model, infos in nodes.items()}
    wanted = list(models) or [
        m for m, infos in nodes.items() if not families or infos[0].attributes.get("family") in families
    ]
    notes = []
    for model in wanted:
        made: dict[str, list[NodeInfo]] = {}
        for info in nodes.get(model, []):
            made.setdefault(str(info.attributes.get("protocol") or ""), []).append(info)
        notes += [_describe_system(model, protocol, made[protocol], still) for protocol in sorted(made)] or [
            _describe_system(model, "", [], still)
        ]
    return tuple(notes)


def _describe_system(model: str, protocol: str, infos: Sequence[NodeInfo], still: Collection[str]) -> SystemNote:
    a: Mapping[str, Any] = infos[0].attributes if infos else {}
    row = _find_row(model)
    is_still = bool(infos) and all(str(info.attributes.get("stimulus")) in still for info in infos)
    return SystemNote(
        name=model,
        family=str(a.get("family") or (row.family if row else "")),
        n_layers=len({i.attributes.get("layer") for i in infos}),
        kind=str(row.kind) if row else "",
        training_set=str(row.training_set or "") if row else "",
        weights=_tell_weights(infos[0]) if infos else "",
        protocol=protocol,
        # Single stimuli are rows of their own: they have no clips, whatever their rows' times are.
        clip_window="" if is_still else str(a.get("clip_window") or ""),
        step_s=math.nan if is_still else number(a.get("step_s")),
        pool=str(a.get("pool") or ""),
        citation=str(row.citation or "") if row else "",
        of_stimuli=is_still,
    )


def _find_used(sources: Sequence[NodeInfo]) -> set[str]:
    """Return the digests of the activations that kernels and RSA results were made from."""
    found = {d for k in sources if k.type == "kernel" for layer in k.key.get("layers", []) for d in layer}
    for info in sources:
        if info.type == "rsa":  # a layer that came from a file has one digest, of its numbers
            found |= {d for layer in info.key.get("features", []) if not isinstance(layer, str) for d in layer}
    return found


def _find_still(index: Index, sources: Sequence[NodeInfo]) -> set[str]:
    """Return the stimuli that are sets of single ones, a row of features each: images, and what betas answer to."""
    found = {
        info.path.removeprefix("stimuli/")
        for info in index.values()
        if info.type == "stimulus" and info.attributes.get("kind") == "images"
    }
    found |= {str(info.attributes.get("stimulus")) for info in index.values() if is_betas(info)}
    compared = {
        path
        for info in sources
        if info.type == "rsa" and "n_stimuli" in info.attributes.get("options", {})
        for path in info.attributes.get("sources", [])
    }
    return found | {
        str(info.attributes.get("stimulus"))
        for path in compared
        if (info := index.get(path)) is not None and info.type == "activations"
    }


def is_betas(info: NodeInfo) -> bool:
    """Return whether a run's rows are single stimuli, not TRs."""
    return bool(info.type == "bold" and info.attributes.get("format") == "betas")


def _find_row(model: str) -> ModelRow | None:
    """Return a model's row, or None for activations that came from elsewhere."""
    from brainsim.models import MODELS

    try:
        return MODELS[model]
    except UnknownNameError:
        return None


def _tell_weights(info: NodeInfo) -> str:
    """Return which weights made a node's activations: "random (seed 0)", "file 1b25e9…" or a library's name of them."""
    weights = info.key.get("weights", info.attributes.get("weights"))
    if not isinstance(weights, Mapping):
        return str(weights or "")
    if "random" in weights:
        return f"random (seed {weights['random']})"
    if "file" in weights:
        return f"file {str(weights['file'])[:8]}…"
    return str(weights["hub"]) if "hub" in weights else "none"
