"""Turn lists and counts into words."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable


def join_words(words: Iterable[str], *, last: str = "and") -> str:
    """Return "a", "a and b", or "a, b and c"."""
    found = [str(w) for w in words]
    return found[0] if len(found) == 1 else ", ".join(found[:-1]) + f" {last} {found[-1]}" if found else ""


def count(n: int, one: str, many: str | None = None) -> str:
    """Return "1 run" or "8 runs"."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def sentence(text: str) -> str:
    """Return a text that ends as a sentence does."""
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else text + "."


def break_evenly(text: str, longest: int) -> list[str]:
    """Return a text in as few lines of at most so many letters as it takes, about equally long.

    Lines end after a space or a hyphen, inside a word only where it is longer than a line.
    """
    fewest = len(textwrap.wrap(text, longest))
    tried = (textwrap.wrap(text, width) for width in range(max(1, len(text) // max(fewest, 1)), longest + 1))
    return next((lines for lines in tried if len(lines) == fewest), [text])


def break_name(name: str, longest: int) -> list[str]:
    """Return a name in lines of at most so many letters, broken after hyphens; what has none is cut."""
    lines: list[str] = []
    while len(name) > longest and "-" in name[:longest]:
        cut = name.rindex("-", 0, longest) + 1
        lines, name = [*lines, name[:cut]], name[cut:]
    return [*lines, name if len(name) <= longest else name[: longest - 1] + "…"]
