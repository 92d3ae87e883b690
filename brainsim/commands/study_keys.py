"""Turn the verbs' own signatures and docstrings into the keys that a study file may hold: there is no second list."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from brainsim.commands import ANSWER, TELL, VERBS, Verb
from brainsim.commands.docstrings import read_docstring
from brainsim.commands.values import ValueKind, find_kind, read_file_value
from brainsim.core.registry import suggest

# Verbs that put something into the store for the analyses to work on, in the order of the flow.
SOURCES = ("extract", "ingest")

# Parameters that `brainsim run` gives to every verb, so that no table holds them.
GIVEN_BY_RUN = ("store", "dry_run", "overwrite", "progress")

# The parameter that the name of a table gives: [fit.main] is the fit called "main", [ingest.mine] the dataset "mine".
NAMED_BY = ("name", "dataset")


@dataclass(frozen=True)
class Key:
    """One key of a verb's table.

    Parameters
    ----------
    name : str
        The function's parameter.
    kind : ValueKind
        How its values are read.
    choices : tuple of str
        Values that its docstring allows; empty where it does not list them.
    text : str
        What its docstring says of it.
    default : object
        The function's default; `inspect.Parameter.empty` where it must be given.
    """

    name: str
    kind: ValueKind
    choices: tuple[str, ...]
    text: str
    default: Any

    @property
    def is_required(self) -> bool:
        """Whether the function has no default for it."""
        return self.default is inspect.Parameter.empty

    def read(self, value: Any) -> Any:
        """Return what the function takes.

        Raises
        ------
        ValueError
            A value that cannot be read or is not allowed: a sentence without its subject.
        """
        read = read_file_value(self.kind, value)
        if self.choices:
            for word in (read,) if isinstance(read, str) else read if isinstance(read, tuple) else ():
                if word not in self.choices:
                    raise ValueError(f"{word!r} is not allowed; {suggest(str(word), list(self.choices))}")
        return read


@dataclass(frozen=True)
class StepVerb:
    """A verb that a study may hold.

    Parameters
    ----------
    verb : Verb
        Its row in the table of verbs.
    keys : mapping of str to Key
        What its table may hold, in the order of the function's parameters.
    named_by : str
        The parameter that the table's name gives; empty where the name is but a label.
        Whether the function has these words.
    """

    verb: Verb
    keys: Mapping[str, Key]
    named_by: str
    can_dry_run: bool
    can_overwrite: bool

    @property
    def is_analysis(self) -> bool:
        """Whether it answers from what the store holds."""
        return self.verb.panel == ANSWER

    @property
    def rests_on(self) -> bool:
        """Whether it is an analysis of other analyses' results, which it names by kind (`fits`)."""
        return self.is_analysis and any(f"{verb.word}s" in self.keys for verb in VERBS if verb.panel == ANSWER)

    @property
    def tells(self) -> bool:
        """Whether it tells what analyses found."""
        return self.verb.panel == TELL

    def read(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return keyword arguments from values of a file that were checked."""
        return {
            name: self.keys[name].read(value) if name in self.keys and name != self.named_by else value
            for name, value in values.items()
        }


def step_verbs(verbs: tuple[Verb, ...] = VERBS) -> dict[str, StepVerb]:
    """Return the verbs that a study may hold, in the order of the flow: sources, analyses, what tells of them."""
    by_word = {verb.word: verb for verb in verbs}
    sources = [by_word[word] for word in SOURCES]
    answers = [verb for verb in verbs if verb.panel == ANSWER and " " not in verb.word]
    tells = [verb for verb in verbs if verb.panel == TELL and " " not in verb.word]
    found = {verb.word: read_step_verb(verb, verb.load()) for verb in (*sources, *answers, *tells)}
    return {word: step for word, step in found.items() if step is not None}


@cache
def read_step_verb(verb: Verb, function: Callable[..., Any]) -> StepVerb | None:
    """Read a verb's keys off its function; None for one that works on no store, so that no study needs it."""
    texts = read_docstring(function).parameters
    parameters = inspect.signature(function, eval_str=True).parameters
    if "store" not in parameters:
        return None
    keys = {}
    for name, parameter in parameters.items():
        if name in GIVEN_BY_RUN:
            continue
        is_positional = parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD and (
            parameter.default is inspect.Parameter.empty
        )
        kind = find_kind(parameter.annotation, default=parameter.default, positional=is_positional)
        text = texts.get(name)
        keys[name] = Key(name, kind, text.choices if text else (), text.text if text else "", default=parameter.default)
    return StepVerb(
        verb=verb,
        keys=keys,
        named_by=next((name for name in NAMED_BY if name in keys and keys[name].is_required), ""),
        can_dry_run="dry_run" in parameters,
        can_overwrite="overwrite" in parameters,
    )
