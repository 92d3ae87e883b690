"""Turn figures and tables into a section of the page, with keys that are safe as file names and anchors."""

from __future__ import annotations

import re
from dataclasses import dataclass

from brainsim.report.figures.canvas import Drawing
from brainsim.report.tables import Table

Block = Drawing | Table


@dataclass(frozen=True)
class Section:
    """One heading of the page and what stands below it: first what to know, then figures and tables."""

    key: str
    title: str
    blocks: tuple[Block, ...]
    points: tuple[str, ...] = ()


class KeyMaker:
    """Hands out keys that are safe as file names and anchors, each once."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def make(self, *words: str) -> str:
        """Return a key made of words; a number is added where it was handed out before."""
        stem = "-".join(filter(None, (re.sub(r"[^a-z0-9]+", "-", w.lower()).strip("-") for w in words)))[:60]
        key, n = stem or "part", 2
        while key in self._used:
            key, n = f"{stem or 'part'}-{n}", n + 1
        self._used.add(key)
        return key


def keep_blocks(*blocks: Block | None) -> tuple[Block, ...]:
    """Return the blocks that there are; a table without a row is none."""
    return tuple(b for b in blocks if b is not None and (isinstance(b, Drawing) or b.rows))
