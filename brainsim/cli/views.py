"""Turn the summaries that deserve it into text of their own; every other verb is shown field by field."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from brainsim.cli.claims_views import show_accuracy, show_claims
from brainsim.cli.output import make_lines, make_table, show_summary, tell
from brainsim.cli.study_views import show_run
from brainsim.core.resources import format_bytes

# Rows of a table of results that a terminal is shown; --json and the store hold all.
MAX_ROWS = 60

# Shared parts of a stream that are shown: nine families have hundreds.
N_SHARED = 2

# What the rows of a partition tell of each family.
QUANTITIES = {
    "unique": "Unique R² of each family: R² of all families minus R² of all but this one",
    "alone": "R² of each family alone; what several can explain is counted for each of them",
    "shapley": "Shapley value of each family: its fair share of every part",
    "product": "Product measure of each family: its share of the joint model's R²; it is not unique variance",
}

STATE_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def show(word: str, summary: Any) -> RenderableType:
    """Return the text of a verb's summary."""
    return VIEWS.get(word, show_summary)(summary)


def show_demo(summary: Any) -> RenderableType:
    """Show planted beside recovered unique variance, then where the page lies."""
    rows = [
        {
            "stream": row["stream"],
            "family": row["family"],
            "planted": row["planted"],
            "estimated": row["estimated"],
            "interval": f"[{tell(row['low'])}, {tell(row['high'])}]",
        }
        for row in summary.recovered
    ]
    table = make_table(
        rows,
        columns={
            "stream": "stream",
            "family": "family",
            "planted": "planted",
            "estimated": "estimated",
            "interval": "[low, high]",
        },
        title="Unique R² of each family in each stream: planted, and estimated (mean over subjects, its interval)",
    )
    paths = {"page": summary.report, "store": summary.store}
    seconds = getattr(summary, "seconds", {})
    if isinstance(seconds, dict) and seconds:
        total = seconds.get("total", sum(seconds.values()))
        steps = ", ".join(f"{step} {value:.1f}" for step, value in seconds.items() if step != "total")
        paths["seconds"] = f"{total:.1f} ({steps})"
    return Group(table, Text(), make_lines(paths))


def show_extract(summary: Any) -> RenderableType:
    """Show what a dry run would write: a row per layer, over all movies, then a line per model and the whole."""
    if not summary.dry_run:
        return show_summary(summary)
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for node in summary.plan:
        row = rows.setdefault(
            (node["model"], node["layer"]),
            {name: node[name] for name in ("model", "layer", "n_features")}
            | {"n_clips": 0, "bytes": 0, "n_write": 0, "n_nodes": 0},
        )
        row["n_clips"] += node["n_clips"]
        row["bytes"] += node["bytes"]
        row["n_write"] += node["state"] == "write"
        row["n_nodes"] += 1
    columns = {"model": "model", "layer": "layer", "n_clips": "clips", "n_features": "features", "bytes": "bytes"}
    shown = [
        {**row, "bytes": format_bytes(row["bytes"]), "todo": f"{row['n_write']} of {row['n_nodes']}"}
        for row in rows.values()
    ]
    lines = {"store": summary.store, "movies": f"{len(summary.stimuli)}: {tell(summary.stimuli)}"}
    for model, feature_set in summary.feature_sets.items():
        own = [row for row in rows.values() if row["model"] == model]
        if own:
            n_bytes = sum(row["bytes"] for row in own)
            lines[model] = f"{own[0]['n_clips']:,} clips, {len(own)} layers, {format_bytes(n_bytes)}, in {feature_set}"
    n_nodes, in_all = summary.n_nodes_written, sum(row["bytes"] for row in rows.values())
    lines["to write"] = f"{n_nodes:,} nodes, {format_bytes(summary.bytes)}; {format_bytes(in_all)} with what is there"
    table = _result_table(shown, columns | {"todo": "movies to do"}, "Each layer, over all movies")
    return Group(Text("Dry run: nothing was written.", style="bold"), make_lines(lines), *table)


def show_fit(summary: Any) -> RenderableType:
    """Show what was fitted, then one row per subject and stream."""
    lines = {
        "fit": f"{summary.name} of {summary.dataset}, in {summary.store}",
        "subjects": tell(summary.subjects),
        "bands": f"{len(summary.bands)}: {tell(summary.bands)}",
        "search": _tell_search(summary),
        "nodes": _tell_nodes(summary),
    }
    columns = {
        "subject": "subject",
        "stream": "stream",
        "n_targets": "targets",
        "mean_r2": "mean R²",
        "mean_r": "mean r",
        "median_r": "median r",
        "share_r_above_0.2": "r > 0.2",
        "n_r_above_0.5": "n r > 0.5",
        "share_q_below_0.05": "targets q <= 0.05",
    }
    return Group(
        *_dry_run(summary), make_lines(lines), *_result_table(summary.streams, columns, "Scores on left-out data")
    )


def show_partition(summary: Any) -> RenderableType:
    """Show what was partitioned, then one row per stream and family, then the joint score of each stream."""
    lines = {
        "partition": f"{summary.name} of {summary.dataset}, in {summary.store}",
        "subjects": tell(summary.subjects),
        "families": f"{len(summary.families)}: {tell(summary.families)}",
        "subsets": f"{summary.n_subsets:,} of {2 ** len(summary.families) - 1:,}",
        "search": _tell_search(summary),
        "nodes": _tell_nodes(summary),
    }
    columns = {
        "stream": "stream",
        "family": "family",
        "mean": "R²",
        "interval": "[low, high]",
        "p": "p",
        "q": "q",
        "p_null": "p of nulls",
        "share_q_below_0.05": "targets q <= 0.05",
        "n_subjects": "subjects",
        "n_targets": "targets",
    }
    quantity = summary.rows[0]["quantity"] if summary.rows else ""
    return Group(
        *_dry_run(summary),
        make_lines(lines),
        *_result_table(_with_intervals(summary.rows), columns, QUANTITIES.get(quantity, quantity)),
        *_result_table(_shared(summary.shared), columns, "Largest shared parts: what these families and no other have"),
        *_result_table(_with_intervals(summary.joint), columns, "R² of all families together"),
    )


def _shared(parts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the largest parts of each stream that are shared, with their families in one word."""
    rows: list[dict[str, Any]] = []
    for stream in dict.fromkeys(part["stream"] for part in parts):
        of_stream = [part for part in parts if part["stream"] == stream][:N_SHARED]
        rows += [{**part, "family": " & ".join(part["families"])} for part in of_stream]
    return _with_intervals(rows)


def _dry_run(summary: Any) -> list[RenderableType]:
    """Return the heading of a summary of which nothing was written or read, so that it has no rows."""
    is_dry = not (summary.n_nodes_written or summary.n_nodes_reused)
    return [Text("Dry run: nothing was written.", style="bold")] if is_dry else []


def _tell_search(summary: Any) -> str:
    if not summary.n_candidates:
        return f"descent in the bands' weights, {summary.n_folds} folds"
    told = [f"{summary.n_candidates:,} candidates x {summary.n_alphas} alphas, {summary.n_folds} folds"]
    found = summary.search
    if found.get("n_float64"):
        told.append(f"{found['n_float64']:,} of {found['n_factored']:,} factorisations in float64")
    if found.get("gain") is not None:
        told.append(f"refinement gained {found['gain']:.4f} R²")
    return "; ".join(told)


def _tell_nodes(summary: Any) -> str:
    return f"{summary.n_nodes_written} written, {summary.n_nodes_reused} reused, in {summary.seconds:.1f} s"


def _with_intervals(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows whose interval is one word."""
    return [
        {**row, "interval": None if row.get("low") is None else f"[{tell(row['low'])}, {tell(row['high'])}]"}
        for row in rows
    ]


def _result_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], title: str) -> list[RenderableType]:
    """Return a table of the columns that any row fills, below its title; long ones are cut, which is told."""
    if not rows:
        return []
    filled = {key: heading for key, heading in columns.items() if any(row.get(key) is not None for row in rows)}
    table = make_table(rows[:MAX_ROWS], columns=filled)
    parts: list[RenderableType] = [Text(), Text(title, style="bold"), table]
    if len(rows) > MAX_ROWS:
        parts.append(Text(f"… and {len(rows) - MAX_ROWS:,} more rows (--json gives all)"))
    return parts


def show_kernel(summary: Any) -> RenderableType:
    """Show one row per band and group of subjects, then what was made."""
    columns = {
        "band": "band",
        "family": "family",
        "n_layers": "layers",
        "n_features": "features",
        "n_trs": "TRs",
        "subjects": "subjects",
        "node": "node",
        "state": "state",
    }
    state = "to be made" if summary.dry_run else "made"
    told = (
        f"{summary.n_nodes_written} kernels of layers and bands {state} ({format_bytes(summary.nbytes)}), "
        f"{summary.n_nodes_reused} there, in {summary.store}"
    )
    heading = [Text("Dry run: nothing was written.", style="bold")] if summary.dry_run else []
    return Group(*heading, make_table(summary.kernels, columns=columns), Text(), Text(told))


def show_models(summary: Any) -> RenderableType:
    """Show the models, family by family, then how any other is named."""
    rows = [
        {
            **row,
            "input": f"{row['n_frames']} x {tell(row['size'], 'size')}",
        }
        for row in summary.models
    ]
    columns = {
        "name": "model",
        "family": "family",
        "trained_to_give": "trained to give",
        "input": "frames x px",
        "n_layers": "layers",
        "weights": "weights",
    }
    table = make_table(rows, columns=columns)
    others = dict(other.split(": ", 1) for other in summary.others)
    return Group(table, Text(), Text("Any other model:", style="bold"), make_lines(others)) if others else table


def show_model(summary: Any) -> RenderableType:
    """Show one model: what it is, then its protocols and layers."""
    lines = {
        name.replace("_", " "): tell(value, name)
        for name, value in summary.model.items()
        if name not in ("taps", "tap_sets", "options", "n_layers") and value not in (None, [], {}, "")
    }
    parts: list[RenderableType] = [make_lines(lines), Text()]
    columns = {"protocol": "protocol", "n_frames": "frames", "frame_stride": "stride", "size": "px", "notes": "notes"}
    parts.append(make_table(summary.protocols, columns=columns))
    if summary.layers:
        columns = {"index": "", "name": "layer", "shape": "shape", "n_features": "features", "size": "size per clip"}
        layers = [{**layer, "size": format_bytes(layer["bytes_per_clip"])} for layer in summary.layers]
        parts += [Text(), make_table(layers, columns=columns)]
    return Group(*parts)


def show_store(summary: Any) -> RenderableType:
    """Show the nodes of a store, then their number and size."""
    rows = [
        {
            "path": node["path"],
            "type": node["type"] or node["state"],
            "state": node["state"],
            "size": format_bytes(node["nbytes"]),
            "arrays": ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, (shape, _) in node["arrays"].items()),
        }
        for node in summary.nodes
    ]
    columns = {"path": "node", "type": "type", "state": "state", "size": "size", "arrays": "arrays"}
    counts = [f"{summary.n_nodes} nodes, {format_bytes(summary.nbytes)}"]
    counts += [f"{summary.n_unfinished} unfinished"] if summary.n_unfinished else []
    counts += [f"{summary.n_damaged} damaged"] if summary.n_damaged else []
    total = Text(f"{', '.join(counts)} in {summary.store}")
    return Group(make_table(rows, columns=columns), Text(), total) if rows else total


def show_node(summary: Any) -> RenderableType:
    """Show one node: what it is, its arrays, then what made it."""
    lines = {
        "node": summary.node,
        "type": f"{summary.type}, version {summary.version}",
        "created": summary.created,
        "size": format_bytes(summary.nbytes),
        "seed": tell(summary.seed),
        "digest": summary.digest,
    }
    arrays = [{"array": name, **spec} for name, spec in summary.arrays.items()]
    parts: list[RenderableType] = [make_lines(lines), Text(), make_table(arrays)]
    for title in ("key", "attributes", "software"):
        parts += [Text(), Text(title, style="bold"), Text(json.dumps(getattr(summary, title), indent=2, default=str))]
    return Group(*parts)


def show_train(summary: Any) -> RenderableType:
    """Show what was trained and how, then one row of scores per part of the split."""
    recipe = summary.recipe
    told = [f"{recipe['epochs']} epochs of {summary.n_windows} windows", f"batches of {recipe['batch_size']}"]
    told += [f"{recipe['optimiser']}, learning rate {recipe['learning_rate']:g}"]
    told += [f"weight decay {recipe['weight_decay']:g}"] if recipe["weight_decay"] else []
    told += [f"dropout {recipe['dropout']:g}"] if recipe["dropout"] else []
    told += [f"begun at {recipe['start']} weights" if recipe["start"] in ("imagenet", "random") else recipe["start"]]
    state = "complete, nothing to do" if summary.reused else "went on" if summary.resumed else ""
    lines = {
        "system": f"{summary.system}{f' ({state})' if state else ''}",
        "clips": ", ".join(f"{part} {n}" for part, n in summary.n_clips.items() if n) + f" ({summary.split})",
        "actions": str(summary.n_actions) if summary.n_actions else "none: flow is learned without them",
        "recipe": ", ".join(told),
        "checkpoint": summary.checkpoint,
        "curves": f"{summary.curves}, {summary.figure}",
        "speed": f"{summary.windows_per_s:.1f} windows/s on {summary.device}" if summary.windows_per_s else "",
        "seconds": f"{summary.seconds:.1f}",
    }
    heading = [Text("Dry run: nothing was written.", style="bold")] if summary.dry_run else []
    scores = [make_table(summary.scores, columns=_score_columns(summary.scores))] if summary.scores else []
    return Group(*heading, make_lines({name: line for name, line in lines.items() if line}), Text(), *scores)


def _score_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    words = {
        "part": "part",
        "loss": "loss",
        "top1": "top 1 (%)",
        "top5": "top 5 (%)",
        "epe_px": "end-point error (px)",
        "epe_zero_px": "of no flow (px)",
    }
    return {name: word for name, word in words.items() if any(name in row for row in rows)}


def show_verification(summary: Any) -> RenderableType:
    """Show each damage, or that there is none."""
    parts: list[RenderableType] = []
    if summary.damages:
        columns = {"node": "node", "chunk": "chunk", "what": "what is wrong"}
        parts.append(make_table(summary.damages, columns=columns))
    for node in summary.unfinished:
        parts.append(Text(f"unfinished: {node} (the command that makes it goes on from there)"))
    if summary.repairs:
        columns = {"node": "node", "done": "what was done", "n_kept": "chunks kept", "rerun": "what makes it again"}
        parts += [Text(), make_table(summary.repairs, columns=columns), Text()]
    verdict = "no damage" if summary.ok else f"{len(summary.damages)} damaged"
    told = f"{summary.n_nodes} nodes, {format_bytes(summary.nbytes)} read in {summary.seconds:.1f} s: {verdict}"
    return Group(*parts, Text(told, style=STATE_STYLES["ok" if summary.ok else "fail"]))


def show_doctor(summary: Any) -> RenderableType:
    """Show one line for each check."""
    lines: dict[str, str | Text] = {}
    for check in summary.checks:
        style = STATE_STYLES[check["state"]]
        lines[check["name"]] = Text.assemble((f"{check['state']:<4}", style), "  ", check["message"])
    return make_lines(lines)


VIEWS: dict[str, Callable[[Any], RenderableType]] = {
    "accuracy": show_accuracy,
    "claims": show_claims,
    "demo": show_demo,
    "doctor": show_doctor,
    "extract": show_extract,
    "fit": show_fit,
    "kernel": show_kernel,
    "models list": show_models,
    "models show": show_model,
    "partition": show_partition,
    "run": show_run,
    "store ls": show_store,
    "store show": show_node,
    "store verify": show_verification,
    "train": show_train,
}
