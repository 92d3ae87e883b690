"""Turn a dataclass of options into keyword arguments that several verbs share: one signature, one help, one default."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any, TypeVar, get_type_hints

Function = TypeVar("Function", bound=Callable[..., Any])

# Where the shared words stand in a verb's docstring.
MARK = "words :"

# A verb's last words, which everybody knows: the shared ones come before them.
LAST = ("dry_run", "overwrite", "progress")


def takes_words(options: type) -> Callable[[Function], Function]:
    """Let a function that takes ``**words`` show the fields of a dataclass in its signature and help.

    Parameters
    ----------
    options : type
        A dataclass whose docstring has one Parameters section; its fields have defaults.

    Returns
    -------
    callable
        Decorator. The function's own docstring holds the line ``words : …`` with a sentence below it, which gives way
        to the fields' help.
    """

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function, eval_str=True)
        hints = get_type_hints(options)
        own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        shared = [
            inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=_default_of(field), annotation=hints[field.name]
            )
            for field in fields(options)
            if field.name not in signature.parameters
        ]
        first = [p for p in own if p.name not in LAST]
        last = [p for p in own if p.name in LAST]
        vars(function)["__signature__"] = signature.replace(parameters=[*first, *shared, *last])
        function.__doc__ = _with_help(function.__doc__ or "", options, [p.name for p in shared])
        return function

    return decorate


def _default_of(field: Any) -> Any:
    if field.default is MISSING:
        raise TypeError(f"option {field.name} has no default; shared words may be left out.")
    return field.default


def _with_help(text: str, options: type, names: list[str]) -> str:
    """Return a docstring with the help of the shared words in place of the mark and the sentence below it."""
    entries = _entries(inspect.getdoc(options) or "")
    lines = inspect.cleandoc(text).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith(MARK))
    stop = next((i for i in range(at + 1, len(lines)) if not lines[i].startswith(" ")), len(lines))
    help_lines = [line for name in names for line in entries[name]]
    return "\n".join([*lines[:at], *help_lines, *lines[stop:]])


def _entries(text: str) -> dict[str, list[str]]:
    """Return the lines of each parameter of a docstring's Parameters section."""
    lines = text.splitlines()
    start = lines.index("Parameters") + 2
    entries: dict[str, list[str]] = {}
    for line in lines[start:]:
        if not line.strip():
            break
        if not line.startswith(" "):
            current = entries.setdefault(line.partition(" : ")[0], [])
        current.append(line)
    return entries
