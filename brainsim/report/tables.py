"""Turn rows of numbers into a table that can be read on the page and taken away as TSV."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Cell = str | int | float | None
MISSING = "n/a"  # as BIDS writes a missing value in a TSV


@dataclass(frozen=True)
class Column:
    """One column: its name in the TSV, its heading and digits on the page, and where it is shown (or nowhere)."""

    name: str
    heading: str = ""
    digits: int = 3
    where: Literal["both", "tsv", "page", "none"] = "both"


@dataclass(frozen=True)
class Table:
    """Named columns and rows in their order.

    Parameters
    ----------
    key : str
        File name without its ending, and the anchor on the page; letters, digits and hyphens.
    title : str
        One sentence.
    columns : tuple of Column
    rows : tuple of tuple of Cell
        One cell per column; None and NaN are missing values.
    note : str
        What a reader needs beside the title: units, n.
    folded : bool
        Whether the page shows it only when asked.
    """

    key: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    folded: bool = False

    def to_tsv(self) -> str:
        """Return the table as tab-separated text with a header; numbers to 6 significant digits."""
        kept = [i for i, column in enumerate(self.columns) if column.where in ("both", "tsv")]
        lines = ["\t".join(self.columns[i].name for i in kept)]
        lines += ["\t".join(_plain(row[i]) for i in kept) for row in self.rows]
        return "\n".join(lines) + "\n"

    @property
    def headings(self) -> tuple[tuple[str, bool], ...]:
        """Columns that the page shows: (heading, whether every cell is a number)."""
        kept = [(i, c) for i, c in enumerate(self.columns) if c.where in ("both", "page")]
        return tuple((c.heading or c.name, all(_is_number(row[i]) for row in self.rows)) for i, c in kept)

    @property
    def is_grouped(self) -> bool:
        """Whether neighbouring rows share their first cell, so that a line between groups helps."""
        first = [row[0] for row in self.rows]
        return any(a == b for a, b in pairwise(first))

    @property
    def shown(self) -> tuple[tuple[tuple[str, bool], ...], ...]:
        """Rows as the page shows them: (text, whether it is a number)."""
        kept = [i for i, column in enumerate(self.columns) if column.where in ("both", "page")]
        numbers = [number for _, number in self.headings]
        return tuple(
            tuple(
                (_tell(row[i], self.columns[i]), number if row[i] is None else _is_number(row[i]))
                for i, number in zip(kept, numbers, strict=True)
            )
            for row in self.rows
        )


def _tell(cell: Cell, column: Column) -> str:
    """Return a cell as the page shows it; a chance that is smaller than the digits show is told by its size."""
    least = 10.0**-column.digits
    if column.name.split("_")[0] in ("p", "q") and isinstance(cell, float) and cell < least:
        return f"< {least:g}"
    return format_cell(cell, column.digits)


def format_cell(cell: Cell, digits: int = 3) -> str:
    """Return a cell as the page shows it: fixed digits, a true minus sign, a dash where nothing is known."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return "–"
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int):
        return f"{cell:,}"
    text = f"{cell:.{digits}f}"
    return (text.lstrip("-") if float(text) == 0 else text).replace("-", "−")


def format_interval(low: float, high: float, digits: int = 3) -> str:
    """Return "[low, high]", or a dash where there is no interval."""
    if math.isnan(low) or math.isnan(high):
        return "–"
    return f"[{format_cell(low, digits)}, {format_cell(high, digits)}]"


def _is_number(cell: Cell) -> bool:
    return cell is None or isinstance(cell, int | float) or cell == "–" or (isinstance(cell, str) and cell[:1] == "[")


def _plain(cell: Cell) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return MISSING
    if isinstance(cell, str):
        return " ".join(cell.split())  # tabs and line ends would break the row
    return str(cell) if isinstance(cell, int) else f"{cell:.6g}"
