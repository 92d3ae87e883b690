"""Turn what is wrong with a study into the line of its file on which that stands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any


def find_line(text: str, table: str, key: str) -> int:
    """Return the line on which a key of a table, or else the table, stands; 0 where it is not found."""
    current, found = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        head = re.match(r"\s*\[+\s*([^\]]+?)\s*\]", line)
        if head:
            current = head[1].replace('"', "").replace("'", "")
            if table and f"{current}.".startswith(f"{table}."):
                found = found or number
        elif current == table and key and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[.=]", line):
            return number
    return found


def find_cause(text: str, table: str, values: Mapping[str, Any], message: str) -> int:
    """Return the line of what a sentence about a step speaks of; that of the step's table where this is not found.

    Parameters
    ----------
    text : str
        The file.
    table : str
        The step's table.
    values : mapping
        The step's values.
    message : str
        What a verb says is wrong: it names options by their flags (--alphas), and values as they were given.
    """
    named = [key for flag in re.findall(r"--([a-z][a-z0-9-]*)", message) for key in values if _is_flag(key, flag)]
    given = [key for key, value in values.items() if any(_is_told(word, message) for word in _words(value))]
    for key in (*named, *given):
        for place in (table, "defaults", ""):
            line = find_line(text, place, key)
            if line and line != find_line(text, place, ""):
                return line
            if not place and isinstance(values[key], Mapping) and (line := find_line(text, key, "")):
                return line  # a table of the file's top, such as [families]
    return find_line(text, table, "")


def _is_flag(key: str, flag: str) -> bool:
    """Return whether a parameter is the option of that flag: n_nulls is --nulls, families is --family."""
    name = flag.replace("-", "_")
    return key in (name, f"n_{name}", f"{name}s", f"{name.removesuffix('y')}ies")


def _is_told(word: str, message: str) -> bool:
    """Return whether a sentence speaks of a value: in quotes, or as a word by itself."""
    alone = rf"(^|\s){re.escape(word)}([\s.,:;]|$)"
    return len(word) > 1 and (repr(word) in message or re.search(alone, message) is not None)


def _words(value: Any) -> Iterator[str]:
    """Yield the texts in a value of a TOML file."""
    if isinstance(value, str):
        yield from (word.strip() for word in value.split(","))
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield str(name)
            yield from _words(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _words(item)
