"""Turn what a study did, or would do, into a table of its steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from brainsim.cli.output import make_lines, make_table
from brainsim.core.resources import format_bytes


def show_run(summary: Any) -> RenderableType:
    """Show one row for each step: what it did, or would do."""
    rows = [
        {
            **row,
            "size": None if row.get("bytes") is None else format_bytes(row["bytes"]),
            "time": None if row["seconds"] is None else tell_seconds(row["seconds"]),
        }
        for row in summary.steps
    ]
    columns = {
        "step": "step",
        "state": "state",
        "n_nodes": "nodes to make",
        "n_written": "written",
        "n_reused": "kept",
        "size": "disk",
        "time": "time (estimated)" if summary.dry_run else "time",
        "note": "",
    }
    left_out = ("n_written", "n_reused") if summary.dry_run else ("n_nodes", "size")
    shown = {key: heading for key, heading in columns.items() if key not in left_out}
    heading = [Text("Dry run: nothing was written.", style="bold")] if summary.dry_run else []
    lines = {"study": summary.study, "store": summary.store, "log": summary.log}
    if summary.dry_run:
        lines = {**lines, "to come": _tell_left(summary)}
    return Group(*heading, make_lines(lines), Text(), make_table(rows, columns=shown))


def _tell_left(summary: Any) -> str:
    """Return the time and disk of what is to be done, as far as they are known."""
    left = [row for row in summary.steps if row["state"] not in ("done", "wrong")]
    if not left:
        return "nothing"
    return "; ".join(
        [
            _tell_sum("time", [row["seconds"] for row in left], tell_seconds),
            _tell_sum("disk", [row["bytes"] for row in left], format_bytes),
            f"{format_bytes(summary.n_bytes_free)} free",
        ]
    )


def _tell_sum(name: str, values: Sequence[float | None], unit: Callable[[float], str]) -> str:
    known = [value for value in values if value is not None]
    if len(known) == len(values):
        return f"{name} {unit(sum(known))}"
    if not known:
        return f"{name} unknown"
    return f"{name} {unit(sum(known))}, unknown for {len(values) - len(known)} of {len(values)} steps"


def tell_seconds(seconds: float) -> str:
    """Return a time as a person reads it: "12 s", "3 min", "2.5 h"."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
