"""A toy analysis, as docs/extending.md describes one: a module with one function, and one row of the table."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from brainsim.commands import ANSWER, Verb
from brainsim.core.errors import InvalidValueError
from brainsim.core.progress import SILENT, Progress

TOY = Verb("toy", ANSWER, "Count what it is given")


@dataclass(frozen=True)
class ToySummary:
    """What was given."""

    name: str
    values: dict[str, Any]
    rows: tuple[dict[str, Any], ...]
    warnings: tuple[str, ...]
    ok: bool = True
    dry_run: bool = False


def toy(
    name: str,
    *,
    store: str | Path = "store/brainsim.zarr",
    delays: Sequence[int] = (1, 2, 3, 4),
    alphas: Sequence[float] | None = None,
    families: Mapping[str, Sequence[str]] | None = None,
    streams: Mapping[str, Sequence[str]] | Path | None = None,
    high_pass_s: float | None = 128.0,
    truth: str | None = "auto",
    n_blocks: int = 5,
    models: Sequence[str] = ("*",),
    value_range: tuple[float, float] | None = None,
    layer_curves: bool = True,
    raise_: str = "",
    dry_run: bool = False,
    progress: Progress = SILENT,
) -> ToySummary:
    """Count what it is given.

    A second paragraph.

    Parameters
    ----------
    name : str
        Name of the count.
    store : path
        The store.
    delays : sequence of int
        Delays of the features.
    alphas : sequence of float, optional
        Penalties.
    families, streams : mapping, optional
        Names and what they hold.
    high_pass_s : float, optional
        Longest period kept.
    truth : str, optional
        Truth to read.
    n_blocks : int
        Number of blocks.
    models : sequence of str
        Globs.
    value_range : (float, float), optional
        Black and white.
    layer_curves : bool
        Draw curves.
    raise_ : {"", "named", "bug", "interrupt"}
        How it should end.
    dry_run : bool
        Do nothing.
    progress : Progress
        Told of the work.
    """
    given = {k: v for k, v in locals().items() if k not in ("name", "progress", "raise_", "dry_run")}
    with progress.task("counting", total=3, unit="things") as task:
        task.advance(2)
        task.advance()
    progress.note("something of note.")
    progress.warn("something odd.")
    if raise_ == "named":
        error = InvalidValueError("name is 'x'; it must be 'y'.", hint="brainsim toy y")
        error.add_note("seen in run 1")
        raise error
    if raise_ == "hintless":
        raise InvalidValueError("name is 'x'; it must be 'y'.")
    if raise_ == "bug":
        raise ZeroDivisionError("a bug")
    if raise_ == "interrupt":
        raise KeyboardInterrupt
    return ToySummary(
        name, given, ({"stream": "early", "r2": float("nan")},), ("something odd.",), ok=name != "bad", dry_run=dry_run
    )


@contextmanager
def toy_module() -> Iterator[None]:
    """Let `brainsim.commands.toy` exist for the length of a `with` block."""
    module = ModuleType(TOY.module)
    vars(module)["toy"] = toy
    sys.modules[TOY.module] = module
    try:
        yield
    finally:
        del sys.modules[TOY.module]
