"""Turn a verb's summary into its text or its JSON on stdout."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from brainsim.commands.values import UNIT_SUFFIXES, plain_value
from brainsim.core.resources import format_bytes

# Words of one field that are shown before "and n more".
MAX_WORDS = 12

# A table that is piped into a file or a program keeps its columns whole, however long its paths are.
PIPED_WIDTH = 400

# Chances below this are told as below it: three digits would say that they are none.
LEAST_P = 0.001

# Fields that are told elsewhere: warnings on stderr, a dry run in the heading.
TOLD_ELSEWHERE = ("warnings", "dry_run")


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that never cuts what is piped."""
    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=PIPED_WIDTH)


def as_json(summary: Any) -> str:
    """Return a summary as one JSON object; what is not finite becomes null."""
    return json.dumps(plain_value(summary), indent=2, ensure_ascii=False, allow_nan=False)


def show_summary(summary: Any) -> RenderableType:
    """Return any summary as lines of its fields, then one table for each field that holds rows."""
    lines: dict[str, str] = {}
    tables: list[RenderableType] = []
    for field in dataclasses.fields(summary):
        value = getattr(summary, field.name)
        if field.name in TOLD_ELSEWHERE or value is None or value in ((), {}, ""):
            continue
        if isinstance(value, list | tuple) and isinstance(value[0], Mapping):
            tables.append(make_table(value, title=tell_name(field.name)))
        else:
            lines[tell_name(field.name)] = tell(value, field.name)
    heading = [Text("Dry run: nothing was written.", style="bold")] if getattr(summary, "dry_run", False) else []
    return Group(*heading, make_lines(lines), *tables)


def make_lines(lines: Mapping[str, str | Text]) -> Table:
    """Return names and values, one pair a line."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in lines.items():
        grid.add_row(name, value if isinstance(value, Text) else Text(value))
    return grid


def make_table(
    rows: Sequence[Mapping[str, Any]], *, columns: Mapping[str, str] | None = None, title: str = ""
) -> Table:
    """Return rows of names and values as a table.

    Parameters
    ----------
    rows : sequence of mapping
    columns : mapping of key to heading, optional
        What to show; every key of any row by default.
    title : str
        Words above the table.
    """
    keys = columns or {key: tell_name(key) for row in rows for key in row}
    table = Table(title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for key, heading in keys.items():
        is_number = any(isinstance(row.get(key), int | float) and not isinstance(row.get(key), bool) for row in rows)
        table.add_column(Text(heading), justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(tell(row.get(key), key)) for key in keys))
    return table


def tell(value: Any, name: str = "") -> str:
    """Return a value as a person reads it; its field's name gives its unit."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float) and name in ("bytes", "nbytes", "n_bytes"):
        return format_bytes(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            return "–"
        if name.split("_")[0] in ("p", "q"):
            return tell_p(value)
        return f"{value:.1f} s" if name == "seconds" else f"{value:.3f}" if abs(value) < 1e4 else f"{value:.3g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {tell(item, name)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        if name in ("shape", "size") and all(isinstance(item, int) for item in value):
            return " x ".join(map(str, value))
        shown = ", ".join(tell(item) for item in value[:MAX_WORDS])
        return f"{shown} and {len(value) - MAX_WORDS} more" if len(value) > MAX_WORDS else shown
    return str(value)


def tell_p(value: float | None) -> str:
    """Return a chance or a false discovery rate as a person reads it: "0.023", or "< 0.001"."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"< {LEAST_P:g}" if value < LEAST_P else f"{value:.3f}"


def tell_name(name: str) -> str:
    """Return a field's name as words: n_x is the number of x, a unit at the end stands in brackets."""
    unit = next((suffix for suffix in UNIT_SUFFIXES if name.endswith(suffix)), "")
    words = name.removeprefix("n_").removesuffix(unit).replace("_", " ")
    return f"{words} ({UNIT_SUFFIXES[unit]})" if unit else words
