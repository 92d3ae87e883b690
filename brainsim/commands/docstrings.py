"""Turn a function's numpydoc docstring into the text of its help."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any


@dataclass(frozen=True)
class ParameterText:
    """What a Parameters section says of one parameter.

    Parameters
    ----------
    type : str
        What stands after the colon: "sequence of str", '{"runs", "blocks"}'.
    text : str
        The description on one line.
    """

    type: str
    text: str

    @property
    def choices(self) -> tuple[str, ...]:
        """The values of a type like ``{"runs", "blocks"}``; none for other types."""
        braces = re.match(r"\{(.*?)\}", self.type)
        return tuple(re.findall(r"[\"']([^\"']*)[\"']", braces.group(1))) if braces else ()


@dataclass(frozen=True)
class FunctionText:
    """What a docstring says of a function: its first paragraphs and its parameters by name."""

    summary: str
    parameters: dict[str, ParameterText]


def read_docstring(function: Callable[..., Any]) -> FunctionText:
    """Read the paragraphs before the first section, and the Parameters section."""
    lines = (inspect.getdoc(function) or "").splitlines()
    starts = [i for i in range(len(lines) - 1) if lines[i].strip() and re.fullmatch(r"-{3,}", lines[i + 1].strip())]
    sections = {lines[a].strip(): lines[a + 2 : b] for a, b in pairwise([*starts, len(lines)])}
    opening = "\n".join(lines[: starts[0]] if starts else lines).strip()
    paragraphs = [_on_one_line(paragraph) for paragraph in re.split(r"\n\s*\n", opening)]
    return FunctionText("\n\n".join(paragraphs), _read_parameters(sections.get("Parameters", [])))


def _read_parameters(lines: list[str]) -> dict[str, ParameterText]:
    parameters: dict[str, ParameterText] = {}
    heads = [i for i, line in enumerate(lines) if line.strip() and not line.startswith(" ")]
    for start, stop in pairwise([*heads, len(lines)]):
        names, _, type_ = lines[start].partition(" : ")
        entry = ParameterText(type_.strip(), _on_one_line(" ".join(lines[start + 1 : stop])))
        parameters |= {name.strip(): entry for name in names.split(",")}
    return parameters


def _on_one_line(text: str) -> str:
    """Drop line breaks and the marks of code: help is read in a terminal."""
    return re.sub(r"`+([^`]*)`+", r"\1", " ".join(text.split()))
