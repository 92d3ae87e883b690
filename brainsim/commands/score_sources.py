"""Turn stored partitions, fits and RSA results into scores of sets of systems, by subject and stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from brainsim.commands.rsa_options import is_of_study
from brainsim.core.errors import InvalidValueError
from brainsim.core.provenance import digest
from brainsim.core.registry import unknown_name
from brainsim.stats.claims.scores import Scores, find_twins, name_systems

if TYPE_CHECKING:
    from brainsim.store import NodeInfo, Store

# Options of a fit that say what is scored, not how: fits that differ in nothing else can be compared.
_WHAT = ("models", "families", "bands", "layer_curves", "keep")

# Which folder and type of nodes each kind of result has.
KINDS = {"partition": "partitions", "fit": "fits", "rsa": "rsa"}


def find_scores(
    store: Store,
    dataset: str,
    *,
    partitions: Sequence[str] | None = None,
    fits: Sequence[str] | None = None,
    rsas: Sequence[str] | None = None,
    streams: Sequence[str] = (),
    as_rows: bool = True,
) -> list[Scores]:
    """Return the scores of systems that a store's results hold.

    Parameters
    ----------
    store : Store
        Open for reading.
    dataset : str
        Results of this dataset.
    partitions, fits, rsas : sequence of str, optional
        Names of results; an empty sequence takes none. None takes all, but RSA results of protocol study only where
        there are no others.
    streams : sequence of str
        Only these streams; all by default.
    as_rows : bool
        Let small twins stand for the systems they are twins of.

    Returns
    -------
    list of Scores
        Partitions first, those with more sets before those with fewer, then fits, then RSA results.

    Raises
    ------
    UnknownNameError
        A result or stream that is not there.
    InvalidValueError
        No result at all.
    """
    found: list[Scores] = []
    for nodes in _choose(store, "partition", dataset, partitions):
        found.append(_read_partition(store, nodes, as_rows))
    found.sort(key=lambda scores: -len(scores.sets))
    found += _read_fits(store, _choose(store, "fit", dataset, fits), as_rows)
    found += [_read_rsa(store, nodes, as_rows) for nodes in _choose(store, "rsa", dataset, rsas)]
    if not found:
        raise InvalidValueError(
            f"{store.path} holds no partition, fit or rsa of dataset {dataset!r}, or none was chosen.",
            hint=f"brainsim store ls --store {store.path}",
        )
    return [_pick_streams(scores, streams or _fitted_streams(scores)) for scores in found]


def _choose(store: Store, kind: str, dataset: str, names: Sequence[str] | None) -> list[list[NodeInfo]]:
    """Return the subjects' nodes of each chosen result."""
    folder = KINDS[kind]
    groups: dict[str, list[NodeInfo]] = {}
    for info in store.nodes(f"{folder}/", type=kind):
        _, name, of, _ = info.path.split("/", 3)
        if of == dataset:
            groups.setdefault(name, []).append(info)
    if names is None:
        others = [nodes for nodes in groups.values() if not is_of_study(nodes[0].attributes)]
        return others or list(groups.values())
    for name in names:
        if name not in groups:
            what = f"{kind} of dataset {dataset}"
            raise unknown_name(what, name, sorted(groups), hint=f"brainsim store ls {folder} --store {store.path}")
    return [groups[name] for name in names]


def protocol_caveats(store: Store, scores: Iterable[Scores]) -> list[str]:
    """Return what must be known of scores that rest on the study's protocol."""
    return [
        f"{some.source}: scored as the study did, so that pairs near in time and the edges of runs count, and slow "
        "series score high by themselves; an RSA of protocol default leaves them out, and is asked where there is one."
        for some in scores
        if some.nodes and is_of_study(store.info(some.nodes[0]).attributes)
    ]


def _names(nodes: Sequence[NodeInfo]) -> tuple[str, tuple[str, ...]]:
    """Return a result's name and its subjects."""
    return nodes[0].path.split("/")[1], tuple(info.path.split("/")[3] for info in nodes)


def _streams_of(store: Store, info: NodeInfo) -> list[str]:
    """Return the streams of a subject, in the order of the arrays that begin with ``stream_``."""
    _, _, dataset, subject = info.path.split("/", 3)
    return list(store.info(f"rois/{dataset}/{subject}").attributes["streams"])


def _refuse_mixtures(nodes: Sequence[NodeInfo], fields: Sequence[str]) -> None:
    """Refuse subjects whose results were made otherwise than the first one's."""
    first = {field: nodes[0].attributes.get(field) for field in fields}
    for info in nodes[1:]:
        other = [field for field in fields if info.attributes.get(field) != first[field]]
        if other:
            raise InvalidValueError(
                f"{info.path} was made with other {other[0]} than {nodes[0].path}; subjects must be scored alike.",
                hint="run the analysis again for all subjects, with --overwrite",
            )


def _by_stream(store: Store, nodes: Sequence[NodeInfo], array: str) -> tuple[tuple[str, ...], np.ndarray]:
    """Return streams, and an array's mean over folds, (n_subjects, n_streams, …); NaN where nothing was fitted."""
    named = [_streams_of(store, info) for info in nodes]
    streams = tuple(dict.fromkeys(stream for names in named for stream in names))
    values: np.ndarray | None = None
    for row, (info, names) in enumerate(zip(nodes, named, strict=True)):
        read = store.read(info.path, array).astype(np.float64)  # (n_streams, …, n_folds)
        read[store.read(info.path, "stream_n_targets") == 0] = np.nan
        mean = read.mean(axis=-1)
        if values is None:
            values = np.full((len(nodes), len(streams), *mean.shape[1:]), np.nan)
        values[row, [streams.index(name) for name in names]] = mean
    assert values is not None  # a result has a node
    return streams, values


def _read_partition(store: Store, nodes: Sequence[NodeInfo], as_rows: bool) -> Scores:
    """Return the R2 of each subset of families that was scored, as that of a set of systems."""
    name, subjects = _names(nodes)
    _refuse_mixtures(nodes, ("family_models", "subsets", "options"))
    attributes = nodes[0].attributes
    members: Mapping[str, Sequence[str]] = attributes["family_models"]
    streams, values = _by_stream(store, nodes, "stream_subset_r2")  # (n_subjects, n_streams, n_subsets)
    system_of = name_systems((model for models in members.values() for model in models), as_rows=as_rows)
    sets = {
        frozenset(system_of[model] for family in subset for model in members[family]): values[..., row]
        for row, subset in enumerate(attributes["subsets"])
    }
    return Scores(
        source=f"partition {name}",
        measure="encoding",
        subjects=subjects,
        streams=streams,
        sets=sets,
        reachable=values[..., -1],  # all families come last
        reachable_is="R² of all systems together",
        nodes=tuple(info.path for info in nodes),
        twins=find_twins(system_of),
    )


def _read_fits(store: Store, results: Sequence[Sequence[NodeInfo]], as_rows: bool) -> list[Scores]:
    """Return the R2 of fits, each of one set of systems; fits that were made alike belong together."""
    alike: dict[str, list[Sequence[NodeInfo]]] = {}
    for nodes in results:
        _refuse_mixtures(nodes, ("layers", "options"))
        options = {k: v for k, v in nodes[0].attributes["options"].items() if k not in _WHAT}
        alike.setdefault(digest({"options": options, "subjects": _names(nodes)[1]}), []).append(nodes)
    return [_join_fits(store, group, as_rows) for group in alike.values()]


def _join_fits(store: Store, group: Sequence[Sequence[NodeInfo]], as_rows: bool) -> Scores:
    models = [[str(layer["model"]) for layer in nodes[0].attributes["layers"]] for nodes in group]
    system_of = name_systems((model for some in models for model in some), as_rows=as_rows)
    sets: dict[frozenset[str], np.ndarray] = {}
    streams: tuple[str, ...] = ()
    for nodes, some in zip(group, models, strict=True):
        streams, values = _by_stream(store, nodes, "stream_r2_folds")
        sets[frozenset(system_of[model] for model in some)] = values
    together = max(sets, key=len)
    has_all = len(together) > 1 and all(members <= together for members in sets)
    names = [_names(nodes)[0] for nodes in group]
    return Scores(
        source=f"fit{'s' if len(names) > 1 else ''} {', '.join(names)}",
        measure="encoding",
        subjects=_names(group[0])[1],
        streams=streams,
        sets=sets,
        reachable=sets[together] if has_all else None,
        reachable_is="R² of all systems together" if has_all else "",
        nodes=tuple(info.path for nodes in group for info in nodes),
        twins=find_twins(system_of),
    )


def _read_rsa(store: Store, nodes: Sequence[NodeInfo], as_rows: bool) -> Scores:
    """Return the similarity of each system and of sets, layers combined, and the lower noise ceiling of each stream."""
    name, subjects = _names(nodes)
    _refuse_mixtures(nodes, ("models", "comparison", "options", "joint_sets"))
    models = [str(model["model"]) for model in nodes[0].attributes["models"]]
    system_of = name_systems(models, as_rows=as_rows)
    streams = tuple(dict.fromkeys(s for info in nodes for s in info.attributes["streams"]))
    named = [[model] for model in models] + [list(members) for members in nodes[0].attributes.get("joint_sets", ())]
    values = np.full((len(nodes), len(streams), len(named)), np.nan)
    for row, info in enumerate(nodes):
        columns = [streams.index(stream) for stream in info.attributes["streams"]]
        values[row, columns, : len(models)] = store.read(info.path, "model_score").T
        if "joint_score_folds" in info.arrays:
            values[row, columns, len(models) :] = store.read(info.path, "joint_score_folds").mean(axis=-1).T
    # One family without the other is a system by itself, where families are systems: that score is there already.
    sets = {frozenset(system_of[m] for m in members): values[..., at] for at, members in reversed([*enumerate(named)])}
    group_path = f"{nodes[0].path.rsplit('/', 1)[0]}/group"
    group: Mapping[str, Any] = store.info(group_path).attributes if store.has(group_path) else {}
    lower = {row["stream"]: float(row["lower"]) for row in group.get("ceilings", [])}
    ceilings = np.array([lower.get(stream, np.nan) for stream in streams])
    # A ceiling of zero or less: subjects do not agree with one another, and no score can be a share of that.
    ceilings[~(ceilings > 0)] = np.nan
    has_all = bool(np.isfinite(ceilings).any())
    return Scores(
        source=f"rsa {name} (protocol study)" if is_of_study(nodes[0].attributes) else f"rsa {name}",
        measure="geometry",
        subjects=subjects,
        streams=streams,
        sets={members: scores for members, scores in sets.items() if np.isfinite(scores).any()},
        reachable=np.broadcast_to(ceilings, values.shape[:2]) if has_all else None,
        reachable_is="lower noise ceiling" if has_all else "",
        nodes=tuple(info.path for info in (*nodes, *([store.info(group_path)] if group else []))),
        twins=find_twins(system_of),
    )


def _fitted_streams(scores: Scores) -> list[str]:
    """Return the streams of which anything was scored: an analysis of some ROIs leaves the others empty."""
    is_there = np.any([np.isfinite(values).any(axis=0) for values in scores.sets.values()], axis=0)
    return [stream for stream, there in zip(scores.streams, is_there, strict=True) if there]


def _pick_streams(scores: Scores, wanted: Sequence[str]) -> Scores:
    for stream in wanted:
        if stream not in scores.streams:
            raise unknown_name(f"stream of {scores.source}", stream, list(scores.streams))
    columns = [scores.streams.index(stream) for stream in wanted]
    return replace(
        scores,
        streams=tuple(wanted),
        sets={members: values[:, columns] for members, values in scores.sets.items()},
        reachable=None if scores.reachable is None else scores.reachable[:, columns],
    )
