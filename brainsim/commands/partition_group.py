"""Turn subjects' partitions into the group's tables: parts per stream, who differs from whom, and how sure both are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from brainsim.commands.encoding_plan import EncodingPlan, result_is_done, stream_masks
from brainsim.commands.encoding_run import Analysis
from brainsim.stats.intervals import crossed_row, interval_row
from brainsim.stats.significance import compare_rows, score_rows, with_q
from brainsim.variance.lattice import alone_scores, commonality_parts, shapley_values, subset_names, unique_parts

if TYPE_CHECKING:
    from brainsim.store import NodeInfo, Store
    from brainsim.variance.lattice import SubsetPlan

StreamNames = Mapping[str, Sequence[str]]

INTERVAL = (
    "95 % interval of the mean, subjects and runs as random effects (product measure: subjects alone, Student's t)"
)


# Tables of this form; those of another are made anew from the subjects' results.
TABLES = 2


def group_tables(
    families: Sequence[str],
    lattice: SubsetPlan,
    arrays: Mapping[str, Mapping[str, np.ndarray]],
    streams: StreamNames,
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """Average parts over the targets of each stream, then over subjects and runs, and test them.

    Parameters
    ----------
    families : sequence of str
        In the order of the arrays' rows.
    lattice : SubsetPlan
        Which subsets were scored.
    arrays : mapping
        Subject -> array name -> the arrays of a partition's node that begin with ``stream_``.
    streams : mapping of str to sequence of str
        Subject -> its streams, in the order of the arrays.
    seed : int
        Of the sign flips, where there are too many subjects to count all.

    Returns
    -------
    dict
        ``rows``, ``parts`` and ``joint``: lists of dicts with mean, low, high, n_subjects and n_targets; ``rows`` (but
        those of the product measure, shares of one score) and ``joint`` with p, p_subjects, q and q_subjects
        (`score_rows`; q over all families and streams of one quantity), and ``p_null`` where there are shifted nulls.
        ``comparisons``: every two families of a stream, by their unique parts, or alone where there are none
        (`compare_rows`; q over all of them).
    """
    named = list(dict.fromkeys(stream for names in streams.values() for stream in names))
    by_stream = {stream: _StreamScores(stream, arrays, streams) for stream in named}
    scores = {stream: of.by_fold() for stream, of in by_stream.items()}  # (n_subsets, n_subjects, n_runs) each
    quantities = {stream: _quantities(values, lattice) for stream, values in scores.items()}
    compared_by = "unique" if lattice.has_unique else "alone"
    rows, parts, compared = [], [], []
    for stream, of in by_stream.items():
        n = {"n_targets": of.n_targets}
        for quantity, values in quantities[stream].items():
            nulls = of.p_values("null_unique", "tested_unique") if quantity == "unique" else []
            for row, (family, scored) in enumerate(zip(families, score_rows(values, seed=seed), strict=True)):
                head = {"stream": stream, "family": family, "quantity": quantity}
                rows.append({**head, **scored, **n, **({"p_null": nulls[row]} if nulls else {})})
        for family, value in zip(families, of.products(), strict=True):
            rows.append({"stream": stream, "family": family, "quantity": "product", **interval_row(value), **n})
        if lattice.has_unique:
            members = subset_names(families, lattice.part_masks)
            for some, value in zip(members, commonality_parts(scores[stream], lattice), strict=True):
                parts.append({"stream": stream, "families": some, **crossed_row(value), **n})
        if compared_by in quantities[stream]:
            pairs = compare_rows(quantities[stream][compared_by], families, seed=seed)
            compared += [{"stream": stream, "quantity": compared_by, **pair} for pair in pairs]
    for quantity in next(iter(quantities.values()), {}):
        with_q([row for row in rows if row["quantity"] == quantity])
    return {
        "rows": rows,
        "parts": parts,
        "joint": _joint_rows(scores, by_stream, seed),
        "comparisons": with_q(compared),
        "interval": INTERVAL,
    }


def _joint_rows(
    scores: Mapping[str, np.ndarray], by_stream: Mapping[str, _StreamScores], seed: int
) -> list[dict[str, Any]]:
    """Return the score of all families together in each stream, q over streams."""
    joint = []
    for stream, of in by_stream.items():
        nulls = of.p_values("null_joint", "tested_joint")
        told = {"n_targets": of.n_targets, **({"p_null": nulls[0]} if nulls else {})}
        joint.append({"stream": stream, **score_rows(scores[stream][-1:], seed=seed)[0], **told})
    return with_q(joint)


def _quantities(scores: np.ndarray, lattice: SubsetPlan) -> dict[str, np.ndarray]:
    """Return what the subsets' scores tell of each family, (n_families, n_subjects, n_runs) each."""
    found: dict[str, np.ndarray] = {}
    if lattice.has_unique:
        found["unique"] = unique_parts(scores, lattice)
    if lattice.is_complete:
        found["shapley"] = shapley_values(scores, lattice)
    alone = alone_scores(scores, lattice)
    if alone is not None:
        found["alone"] = alone
    return found


class _StreamScores:
    """The scores of one stream over the subjects that have it."""

    def __init__(self, stream: str, arrays: Mapping[str, Mapping[str, np.ndarray]], streams: StreamNames) -> None:
        self._rows = {subject: list(streams[subject]).index(stream) for subject in arrays if stream in streams[subject]}
        self._arrays = arrays

    def _take(self, name: str) -> dict[str, np.ndarray]:
        return {subject: self._arrays[subject][name][row] for subject, row in self._rows.items()}

    @property
    def n_targets(self) -> int:
        """Fitted targets of all subjects."""
        return sum(int(n) for n in self._take("stream_n_targets").values())

    def by_fold(self) -> np.ndarray:
        """Return the mean score of every subset, subject and run; NaN where a subject has no such stream.

        Subjects with other numbers of runs than the first are averaged over runs first: then runs have no rows in
        common.
        """
        by_subject = self._take("stream_subset_r2")
        if len({scores.shape[1] for scores in by_subject.values()}) > 1:
            by_subject = {subject: scores.mean(axis=1, keepdims=True) for subject, scores in by_subject.items()}
        return self._stack(by_subject)

    def products(self) -> np.ndarray:
        """Return each family's mean product measure, (n_families, n_subjects)."""
        return self._stack(self._take("stream_product"))

    def _stack(self, by_subject: Mapping[str, np.ndarray]) -> np.ndarray:
        empty = np.full_like(next(iter(by_subject.values())), np.nan)
        return np.stack([by_subject.get(subject, empty) for subject in self._arrays], axis=1).astype(np.float64)

    def p_values(self, null: str, observed: str) -> list[float]:
        """Return how often the mean over subjects of null scores reaches the observed one; empty without nulls.

        Parameters
        ----------
        null : str
            Name of the null means, (n_nulls,) or (n_families, n_nulls) per subject.
        observed : str
            Name of what was observed, one number or (n_families,) per subject.
        """
        if any(f"stream_{null}" not in self._arrays[subject] for subject in self._rows):
            return []
        fitted = [subject for subject, n in self._take("stream_n_targets").items() if n > 0]
        if not fitted:
            return []
        by_subject = self._take(f"stream_{null}")
        nulls = np.mean([np.atleast_2d(by_subject[subject]) for subject in fitted], axis=0)  # (n_quantities, n_nulls)
        values = self._take(f"stream_{observed}")
        means = np.mean([np.atleast_1d(values[subject]) for subject in fitted], axis=0)
        return [float((1 + (~(null < mean)).sum()) / (1 + len(null))) for null, mean in zip(nulls, means, strict=True)]


def group_key(keys: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what makes the group's table: what made each subject's partition."""
    return {"kind": "partition-group", "subjects": keys}


def write_group(
    store: Store,
    plan: EncodingPlan,
    lattice: SubsetPlan,
    analysis: Analysis,
    path: str,
    keys: Mapping[str, dict[str, Any]],
    *,
    overwrite: bool,
) -> dict[str, Any]:
    """Average the parts over targets and subjects, and keep the tables."""
    key = group_key(keys)
    is_there = result_is_done(store, path, key, overwrite=overwrite)
    if is_there and store.info(path).attributes.get("tables") == TABLES:
        return dict(store.info(path).attributes)
    nodes = {subject.name: store.info(analysis.paths[subject.name]) for subject in plan.subjects}
    arrays = {
        name: {a: store.read(node.path, a) for a in node.arrays if a.startswith("stream_")}
        for name, node in nodes.items()
    }
    streams = {subject.name: tuple(subject.targets.attributes["streams"]) for subject in plan.subjects}
    tables = group_tables(plan.families, lattice, arrays, streams, seed=plan.options.seed)
    attributes = {
        **_with_shares(tables, _found_shares(store, plan, nodes)),
        "tables": TABLES,
        "families": list(plan.families),
        "dataset": plan.dataset,
        "subjects": list(nodes),
        "warnings": [f"{name}: {w}" for name, node in nodes.items() for w in node.attributes["warnings"]],
        "options": {**plan.record(), **analysis.options},
        "sources": [node.path for node in nodes.values()],
    }
    again = overwrite or is_there
    store.write(path, type="partition-group", key=key, arrays={}, attributes=attributes, overwrite=again)
    return attributes


def _found_shares(
    store: Store, plan: EncodingPlan, nodes: Mapping[str, NodeInfo]
) -> dict[tuple[str, str | None], float]:
    """Return the share of each stream's targets, over all subjects, with a q value of 0.05 or less.

    Returns
    -------
    dict of (stream, family) to float
        Family None is the joint model; empty without nulls.
    """
    flags: dict[tuple[str, str | None], list[np.ndarray]] = {}
    for subject in plan.subjects:
        node = nodes[subject.name]
        by_family: dict[str | None, np.ndarray] = {}
        if "joint_q" in node.arrays:
            by_family[None] = store.read(node.path, "joint_q")
        if "unique_q" in node.arrays:
            by_family |= dict(zip(plan.families, store.read(node.path, "unique_q"), strict=True))
        for stream, mask in stream_masks(store, subject).items() if by_family else ():
            for family, q in by_family.items():
                fitted = q[mask & np.isfinite(q)]
                flags.setdefault((stream, family), []).append(fitted <= 0.05)
    shares = {key: np.concatenate(values) for key, values in flags.items()}
    return {key: float(values.mean()) for key, values in shares.items() if len(values)}


def _with_shares(tables: dict[str, Any], shares: Mapping[tuple[str, str | None], float]) -> dict[str, Any]:
    """Add to each row of a unique part or joint score how many targets were found."""
    for row in (*tables["rows"], *tables["joint"]):
        key = (row["stream"], row.get("family"))
        if key in shares and row.get("quantity", "unique") == "unique":
            row["share_q_below_0.05"] = shares[key]
    return tables
