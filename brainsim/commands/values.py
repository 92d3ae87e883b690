"""Turn a parameter's type into how its values are given on a command line or in a study file, and into the value."""

from __future__ import annotations

import dataclasses
import math
import re
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

# A parameter that may be None and is not None by default is switched off by this word.
NONE_WORD = "none"

# Units by the end of a parameter's or field's name.
UNIT_SUFFIXES = {"_s": "s", "_hz": "Hz", "_mm": "mm", "_deg": "degrees", "_px": "px", "_percent": "%"}


# What a value of a study file is called where it has another type.
FILE_TYPES = {"N": "whole number", "X": "number", "TEXT": "text in quotes", "PATH": "path in quotes"}


@dataclass(frozen=True)
class ValueKind:
    """How values of one type are typed.

    Parameters
    ----------
    form : {bool, int, float, str, list[str]}
        Type that the parser of the command line is told.
    metavar : str
        What help shows as the value.
    convert : callable
        From what the parser gives to what the function takes; raises ValueError with a sentence.
    """

    form: Any
    metavar: str
    convert: Callable[[Any], Any]


def find_kind(annotation: Any, *, default: Any, positional: bool) -> ValueKind:
    """Choose how a parameter is typed.

    Parameters
    ----------
    annotation : type
        The parameter's evaluated annotation.
    default : object
        Its default; `inspect.Parameter.empty` for none.
    positional : bool
        Whether its values are given by position: each word is one value then, commas are part of it.

    Raises
    ------
    TypeError
        A type that no command line can give; the author of the verb must choose another one.
    """
    members = set(_union_members(annotation))
    optional = type(None) in members and default is not None
    members -= {type(None)}
    kind = _kind_of(members, positional=positional)
    return _allow_none(kind) if optional else kind


def _kind_of(members: set[Any], *, positional: bool) -> ValueKind:
    shapes = {get_origin(m) or m for m in members}
    items = {item for m in members if get_origin(m) in (Sequence, tuple, list) for item in _item_types(m)}
    if shapes == {bool}:
        return ValueKind(bool, "", bool)
    if shapes == {int}:
        return ValueKind(int, "N", int)
    if shapes <= {int, float}:
        return ValueKind(float, "X", float)
    if Mapping in shapes:
        may_be_path = Path in shapes
        metavar = "NAME=A,B|PATH" if may_be_path else "NAME=A,B"
        return ValueKind(list[str], metavar, lambda words: read_mapping(words, may_be_path=may_be_path))
    if Literal in shapes:
        return ValueKind(str, "|".join(str(a) for m in members for a in get_args(m)), str)
    if items:
        return _kind_of_items(items, positional=positional)
    if shapes <= {str, Path}:
        return ValueKind(str, "PATH" if Path in shapes else "TEXT", Path if shapes == {Path} else str)
    raise TypeError(f"no command line can give {' | '.join(map(str, members))}; see brainsim/commands/values.py.")


def _kind_of_items(items: set[Any], *, positional: bool) -> ValueKind:
    if items == {int}:
        return ValueKind(list[str], "N,N", lambda words: tuple(n for w in words for n in read_whole_numbers(w)))
    if items <= {int, float}:
        return ValueKind(list[str], "X,X", lambda words: tuple(x for w in words for x in read_numbers(w)))
    if positional or Path in items:
        return ValueKind(list[str], "PATH..." if Path in items else "TEXT...", tuple)
    if items == {str}:
        return ValueKind(list[str], "A,B", lambda words: tuple(part for w in words for part in split_words(w)))
    raise TypeError(f"no command line can give a sequence of {items}; see brainsim/commands/values.py.")


def split_words(text: str) -> list[str]:
    """Return the words between commas; none for an empty text."""
    return [word.strip() for word in text.split(",") if word.strip()]


def read_whole_numbers(text: str) -> list[int]:
    """Return the whole numbers of "1,2,5-7"."""
    numbers: list[int] = []
    for word in split_words(text):
        ends = re.fullmatch(r"(-?\d+)(?:-(\d+))?", word)
        if ends is None or (ends[2] is not None and int(ends[2]) < int(ends[1])):
            raise ValueError(f"{word!r} is no whole number and no range; write 1,2,3 or 2-6.")
        first, last = int(ends[1]), int(ends[2] or ends[1])
        numbers.extend(range(first, last + 1))
    return numbers


def read_numbers(text: str) -> list[float]:
    """Return the numbers of "0.1,1,1e3"."""
    try:
        return [float(word) for word in split_words(text)]
    except ValueError:
        raise ValueError(f"{text!r} is no list of numbers; write 0.1,1,10.") from None


def read_mapping(words: Sequence[str], *, may_be_path: bool) -> dict[str, tuple[str, ...]] | Path:
    """Return {name: (value, ...)} of "name=value,value" words; a path where one word without "=" is given and allowed.

    Raises
    ------
    ValueError
        A word without a name, a name given twice, or no values.
    """
    if may_be_path and len(words) == 1 and "=" not in words[0]:
        return Path(words[0])
    mapping: dict[str, tuple[str, ...]] = {}
    for word in words:
        name, sign, values = word.partition("=")
        if not sign or not name.strip() or not split_words(values):
            raise ValueError(f"{word!r} must be written NAME=VALUE,VALUE.")
        if name.strip() in mapping:
            raise ValueError(f"{name.strip()!r} is given twice; write all its values after one NAME=.")
        mapping[name.strip()] = tuple(split_words(values))
    return mapping


def read_file_value(kind: ValueKind, value: Any) -> Any:
    """Return what a function takes from a value of a TOML file.

    Lists, tables and numbers are TOML's own; a text may also be what would be typed on the command line ("1-4").

    Raises
    ------
    ValueError
        A value of another type, or one that cannot be read: a sentence without its subject.
    """
    return kind.convert(_as_typed(kind, value))


def _as_typed(kind: ValueKind, value: Any) -> Any:
    """Return what the parser of the command line would give for a value of a TOML file."""
    wanted = kind.metavar or "true or false"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    takes_numbers = kind.metavar.removesuffix(f"|{NONE_WORD}") in ("N", "X", "N,N", "X,X")
    if kind.form is bool and isinstance(value, bool):
        return value
    if kind.form is int and is_number and isinstance(value, int):
        return value
    if kind.form is float and is_number:
        return float(value)
    if kind.form is str and (isinstance(value, str) or (takes_numbers and is_number)):
        return str(value)
    if kind.form == list[str]:
        return _as_words(kind, value, takes_numbers=takes_numbers)
    raise ValueError(f"{value!r} is no {FILE_TYPES.get(wanted, wanted)}.")


def _as_words(kind: ValueKind, value: Any, *, takes_numbers: bool) -> list[str]:
    if kind.metavar.startswith("NAME="):
        return _mapping_words(value)
    items = value if isinstance(value, list | tuple) else [value]
    for item in items:
        is_number = isinstance(item, int | float) and not isinstance(item, bool)
        if not isinstance(item, str) and not (takes_numbers and is_number):
            raise ValueError(f"{item!r} is no {'number' if takes_numbers else 'text in quotes'}.")
    return [str(item) for item in items]


def _mapping_words(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, Mapping):
        raise ValueError(f"{value!r} is no table of lists, such as {{early = ['V1', 'V2']}}.")
    words = []
    for name, items in value.items():
        listed = [items] if isinstance(items, str) else items
        if not isinstance(listed, list | tuple) or not all(isinstance(item, str) for item in listed):
            raise ValueError(f"{items!r} ({name}) is no list of texts in quotes.")
        words.append(f"{name}={','.join(listed)}")
    return words


def show_default(value: Any) -> str:
    """Return a default as it would be typed; "none" for None and for what is empty."""
    if value is None or value == () or value == "":
        return NONE_WORD
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ",".join(show_default(item) for item in value)
    return str(value)


def plain_value(value: Any) -> Any:
    """Return a value as JSON holds it: what is not finite becomes None, paths become texts."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain_value(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain_value(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _allow_none(kind: ValueKind) -> ValueKind:
    """Return the kind that also takes the word "none"; numbers are read here then, not by the parser."""
    readers: dict[Any, Callable[[str], Any]] = {int: _read_int, float: _read_float}
    form = str if kind.form in readers else kind.form
    convert: Callable[[Any], Any] = readers.get(kind.form, kind.convert)

    def convert_or_none(value: Any) -> Any:
        return None if value in (NONE_WORD, [NONE_WORD], (NONE_WORD,)) else convert(value)

    return ValueKind(form, f"{kind.metavar}|{NONE_WORD}", convert_or_none)


def _read_int(text: str) -> int:
    if not re.fullmatch(r"-?\d+", text.strip()):
        raise ValueError(f"{text!r} is no whole number.")
    return int(text)


def _read_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no number.") from None


def _union_members(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _item_types(annotation: Any) -> set[Any]:
    return {member for arg in get_args(annotation) if arg is not Ellipsis for member in _union_members(arg)}
