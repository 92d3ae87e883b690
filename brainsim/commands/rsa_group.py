"""Turn the scores of all subjects into the tables of a group: systems, layers, families, pairs of systems, ceilings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from brainsim.commands.rsa_scores import GroupScores

INTERVAL = "95 % interval of the mean, subjects and runs as random effects"


def stack_subjects(groups: Sequence[GroupScores], name: str, stream: str) -> np.ndarray:
    """Return one kind of score of all subjects that have a stream, (..., n_subjects, n_blocks).

    Where groups of subjects saw different numbers of runs, blocks are averaged to one.
    """
    parts = []
    for group in groups:
        rows = [row for row, target in enumerate(group.targets) if target[1] == stream]
        parts.append(np.take(getattr(group, name), rows, axis=-2))
    if len({part.shape[-1] for part in parts}) > 1:
        parts = [part.mean(axis=-1, keepdims=True) for part in parts]
    return np.concatenate(parts, axis=-2)


def group_tables(
    groups: Sequence[GroupScores],
    *,
    layers: Sequence[Mapping[str, Any]],
    models: Sequence[Mapping[str, str]],
    families: Mapping[str, Sequence[str]],
    subset_spec: str,
    joint_sets: Sequence[Sequence[str]],
    compare: str,
    seed: int,
) -> dict[str, Any]:
    """Return every table of a group node.

    Parameters
    ----------
    groups : sequence of GroupScores
        Subjects by timing.
    layers, models : sequence of dict
        As result nodes list them.
    families : mapping of str to sequence of str
        Models of each family.
    subset_spec : str
        Which subsets of families were scored.
    joint_sets : sequence of sequence of str
        Models whose similarity together was scored.
    compare : str
        By which comparison.
    """
    from brainsim.rsa.compare import why_untested
    from brainsim.stats.intervals import crossed_row
    from brainsim.stats.significance import compare_rows, score_rows, with_q

    streams = list(dict.fromkeys(stream for group in groups for _, stream in group.targets))
    tested: list[np.ndarray] = []
    heads: list[dict[str, Any]] = []
    layer_rows, best_rows, compared, together, joint, ceilings = [], [], [], [], [], []
    names = [m["model"] for m in models]
    # Layers are combined with weights from the other runs; one layer alone has a weight, but nothing to choose.
    n_layers = Counter(layer["model"] for layer in layers)
    combined = [n_layers[name] > 1 for name in names]
    # With one block of pairs nothing could be combined.
    has_joint = all(group.joint is not None for group in groups)
    joint_sets = joint_sets if has_joint else ()
    for stream in streams:
        scores = stack_subjects(groups, "model", stream)  # (n_models, n_subjects, n_blocks)
        heads += [{"stream": stream, **model} for model in models]
        tested.append(scores)
        compared += [
            {"stream": stream, **row} for row in compare_rows(scores, names, cross_validated=combined, seed=seed)
        ]
        for layer, values in zip(layers, stack_subjects(groups, "layer", stream), strict=True):
            row = {k: layer[k] for k in ("model", "layer", "index")}
            layer_rows.append({"stream": stream, **row, **crossed_row(values)})
        for model, values in zip(models, stack_subjects(groups, "best", stream), strict=True):
            best_rows.append({"stream": stream, **model, **crossed_row(values, cross_validated=True)})
        joint_scores = stack_subjects(groups, "together", stream)
        together.append({"stream": stream, **crossed_row(joint_scores, cross_validated=True)})
        for members, values in zip(
            joint_sets, stack_subjects(groups, "joint", stream) if has_joint else [], strict=True
        ):
            joint.append({"stream": stream, "models": list(members), **crossed_row(values, cross_validated=True)})
        ceilings += _ceiling(groups, stream)
    # One family of tests: all systems in all streams.
    n_blocks = min(scores.shape[-1] for scores in tested)
    n_subjects = max(scores.shape[1] for scores in tested)
    padded = [
        np.pad(s[..., :n_blocks], ((0, 0), (0, n_subjects - s.shape[1]), (0, 0)), constant_values=np.nan)
        for s in tested
    ]
    untested = why_untested(compare)
    scored = score_rows(
        np.concatenate(padded), cross_validated=combined * len(streams), tested=untested is None, seed=seed
    )
    rows = [
        {**head, **row, "subjects": row["subjects"][: tested[at // len(models)].shape[1]]}
        for at, (head, row) in enumerate(zip(heads, scored, strict=True))
    ]
    return {
        "rows": rows,
        "layers": layer_rows,
        "best_layers": best_rows,
        "together": together,
        "joint_similarity": joint,
        "comparisons": with_q(compared),
        "ceilings": ceilings,
        "interval": INTERVAL,
        "untested": untested,
        **_tables_between(groups, streams, names),
        **(
            family_tables(
                {s: stack_subjects(groups, "subset_r2", s) for s in streams}, families, subset_spec, seed=seed
            )
            if groups[0].subset_r2 is not None
            else {}
        ),
    }


def _ceiling(groups: Sequence[GroupScores], stream: str) -> list[dict[str, Any]]:
    """Return a stream's ceiling where all subjects saw the same, as a list of one or none."""
    if len(groups) > 1 or not np.isfinite(groups[0].ceilings.get(stream, (np.nan,))).all():
        return []
    lower, upper = groups[0].ceilings[stream]
    return [{"stream": stream, "lower": lower, "upper": upper}]


def _tables_between(groups: Sequence[GroupScores], streams: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """Return the tables of pairs of systems: together, and one beside the other."""
    from brainsim.stats.intervals import crossed_row

    fitted_row = partial(crossed_row, cross_validated=True)

    tables: dict[str, Any] = {}
    for name, first, second in (("pair", "a", "b"), ("residual", "control", "target")):
        if getattr(groups[0], name) is None:
            continue
        rows = []
        for stream in streams:
            scores = stack_subjects(groups, name, stream)
            for a, row in enumerate(names):
                for b, column in enumerate(names):
                    if name == "residual" or a < b:
                        rows.append({"stream": stream, first: row, second: column, **fitted_row(scores[a, b])})
        tables["pairs" if name == "pair" else "residuals"] = rows
    return tables


def family_tables(
    scores_of: Mapping[str, np.ndarray], families: Mapping[str, Sequence[str]], spec: str, *, seed: int = 0
) -> dict[str, Any]:
    """Return unique and shared parts of families in held-out variance of RDMs, by the lattice of a partition.

    Parameters
    ----------
    scores_of : mapping of str to ndarray, (n_subsets, n_subjects, n_folds)
        Stream -> R² of each subset of families, in the order of `subset_plan`.
    families : mapping of str to sequence of str
        Models of each family.
    spec : str
        Which subsets.
    seed : int
        Of the sign flips, where there are too many subjects to count all.

    Returns
    -------
    dict
        ``unique`` (unique parts, and families alone), ``parts`` and ``joint``: rows with mean and interval, of which
        ``unique`` and ``joint`` have p and q (`score_rows`; q over all families and streams of one quantity).
        ``family_comparisons``: every two families of a stream, by their unique parts, or alone where there are none
        (`compare_rows`; q over all of them).
    """
    from brainsim.stats.intervals import crossed_row
    from brainsim.stats.significance import compare_rows, score_rows, with_q
    from brainsim.variance.lattice import alone_scores, commonality_parts, subset_names, subset_plan, unique_parts

    names = list(families)
    fitted = [True] * len(names)  # on the other folds
    plan = subset_plan(len(names), spec)
    rows, shared, joint, compared = [], [], [], []
    for stream, scores in scores_of.items():
        quantities: dict[str, np.ndarray] = {}
        if plan.has_unique:
            quantities["unique"] = unique_parts(scores, plan)
            parts = commonality_parts(scores, plan)
            for members, values in zip(subset_names(names, plan.part_masks), parts, strict=True):
                shared.append({"stream": stream, "families": members, **crossed_row(values, cross_validated=True)})
        alone = alone_scores(scores, plan) if len(names) > 1 else None
        if alone is not None:
            quantities["alone"] = alone
        for quantity, values in quantities.items():
            tested = score_rows(values, cross_validated=fitted, seed=seed)
            heads = [{"stream": stream, "family": family, "quantity": quantity} for family in names]
            rows += [{**head, **row} for head, row in zip(heads, tested, strict=True)]
        joint.append({"stream": stream, **score_rows(scores[-1:], cross_validated=[True], seed=seed)[0]})
        compared_by = next(iter(quantities), None)
        if compared_by is not None:
            pairs = compare_rows(quantities[compared_by], names, cross_validated=fitted, seed=seed)
            compared += [{"stream": stream, "quantity": compared_by, **pair} for pair in pairs]
    for quantity in ("unique", "alone"):  # one family of tests each: all families in all streams
        with_q([row for row in rows if row["quantity"] == quantity])
    return {
        "families": {f: list(m) for f, m in families.items()},
        "unique": rows,
        "parts": shared,
        "joint": with_q(joint),
        "family_comparisons": with_q(compared),
    }
