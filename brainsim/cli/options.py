"""Turn a verb's signature and docstring into options of the command line."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from brainsim.commands import Verb
from brainsim.commands.docstrings import ParameterText, read_docstring
from brainsim.commands.values import UNIT_SUFFIXES, ValueKind, find_kind, show_default

DEFAULT_STORE = "store/brainsim.zarr"

# Parameters that the command line gives itself.
INJECTED = ("progress",)

# Options whose parameter's name would read badly with two dashes.
RENAMED = {"n_blocks": "blocks", "n_folds": "folds", "n_nulls": "nulls", "families": "family", "streams": "stream"}

# Parameters that are options even where a function takes them by position.
ALWAYS_OPTIONS = ("store",)

# Units of parameters whose names do not end in one.
UNITS = {
    "batch_size": "clips",
    "delays": "TRs",
    "drop_volumes": "volumes",
    "gap": "TRs",
    "n_blocks": "blocks",
    "n_candidates": "mixtures",
    "n_folds": "groups of runs",
    "n_nulls": "null data sets",
    "n_runs": "runs",
    "n_targets_batch": "targets",
    "n_trs": "TRs",
    "n_workers": "workers",
    "refine": "rounds",
}

# A second way to type an option, for one value; help shows the first.
ALSO = {"--layers": "--layer", "--models": "--model"}

# What stands for the text of an option that is no name.
METAVARS = {"--device": "DEVICE", "--time-budget": "TIME", "--subsets": "WORD"}

# Characters of an option's name and value in help: longer lists of choices stand in the words beside them.
NAME_WIDTH = 30

# What every verb also takes: name of the parameter, how it is typed, and its help.
SHARED_FLAGS = {
    "as_json": (("--json",), "Print the summary as one JSON object."),
    "is_verbose": (("--verbose", "-v"), "Tell progress also where stderr is no terminal."),
    "is_quiet": (("--quiet", "-q"), "Tell only warnings and errors on stderr."),
}


@dataclass(frozen=True)
class VerbOption:
    """One parameter of a verb as an option or argument.

    Parameters
    ----------
    name : str
        The function's parameter.
    flag : str
        How it is typed or named in an error: "--tr-s", "SOURCE".
    kind : ValueKind
        How its values are typed.
    metavar : str
        What stands for its value in help; empty for a switch.
    help : str
        One paragraph that ends in its default and unit.
    is_required : bool
        Whether it must be given.
    parameter : inspect.Parameter
        What the parser is told.
    """

    name: str
    flag: str
    kind: ValueKind
    metavar: str
    help: str
    is_required: bool
    parameter: inspect.Parameter

    @property
    def is_argument(self) -> bool:
        """Whether it is given by position."""
        return not self.flag.startswith("--")

    def convert(self, value: Any) -> Any:
        """Return the value that the function takes.

        Raises
        ------
        typer.BadParameter
            A value that cannot be read: a mistake of usage.
        """
        try:
            return self.kind.convert(value)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint=f"'{self.flag}'") from None


def make_options(verb: Verb, function: Callable[..., Any]) -> list[VerbOption]:
    """Return the options of a verb in the order of its function's parameters.

    Raises
    ------
    TypeError
        A parameter whose type no command line can give.
    """
    texts = read_docstring(function).parameters
    options = []
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        if parameter.name in INJECTED:
            continue
        options.append(_make_option(verb, parameter, texts.get(parameter.name, ParameterText("", ""))))
    return options


def shared_parameters() -> list[inspect.Parameter]:
    """Return the flags that every verb takes, as the parser is told them."""
    return [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[bool, typer.Option(*flags)], default=False
        )
        for name, (flags, _) in SHARED_FLAGS.items()
    ]


def find_unit(name: str) -> str:
    """Return the unit of a parameter; empty where it has none."""
    if name in UNITS:
        return UNITS[name]
    return next((unit for suffix, unit in UNIT_SUFFIXES.items() if name.endswith(suffix)), "")


def _make_option(verb: Verb, parameter: inspect.Parameter, text: ParameterText) -> VerbOption:
    name, default = parameter.name, parameter.default
    is_required = default is inspect.Parameter.empty
    by_position = parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    is_argument = (by_position and is_required and name not in ALWAYS_OPTIONS) or name in verb.arguments
    fallback = None  # stands for "not given", so that the function's own default is the only one there is
    if name in ALWAYS_OPTIONS and is_required:
        is_required, default, fallback = False, DEFAULT_STORE, DEFAULT_STORE
    try:
        kind = find_kind(parameter.annotation, default=default, positional=is_argument)
    except TypeError as error:
        raise TypeError(f"{verb.function_name}({name}=…): {error}") from None
    word = RENAMED.get(name, name).replace("_", "-")
    flag = word.upper() if is_argument else f"--{word}"
    metavar = _metavar(kind, text, flag)
    more: dict[str, Any] = {"metavar": metavar or None, "show_default": False}
    completer = _completer(verb, name, text.choices)
    if completer is not None:
        more["autocompletion"] = completer
    info = typer.Argument(**more) if is_argument else typer.Option(*_flags(flag, kind, default), **more)
    return VerbOption(
        name=name,
        flag=flag,
        kind=kind,
        metavar=metavar,
        help=_help(
            _words(text, metavar), default, find_unit(name), is_required=is_required, is_switch=kind.form is bool
        ),
        is_required=is_required,
        parameter=inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=Annotated[kind.form if is_required else kind.form | None, info],
            default=inspect.Parameter.empty if is_required else fallback,
        ),
    )


def _metavar(kind: ValueKind, text: ParameterText, flag: str) -> str:
    """Return what stands for a value: its choices where they are short, else its type."""
    choices = "|".join(text.choices)
    if choices and kind.form in (str, list[str]):
        return choices if len(flag) + 1 + len(choices) <= NAME_WIDTH else "WORD"
    if kind.form is str and kind.metavar == "TEXT":
        return METAVARS.get(flag, "NAME")
    return kind.metavar


def _flags(flag: str, kind: ValueKind, default: Any) -> tuple[str, ...]:
    """Return the option's names: a switch that is on by default also has its "no"."""
    if kind.form is bool and default is True:
        return (f"{flag}/--no-{flag[2:]}",)
    return (flag, ALSO[flag]) if flag in ALSO else (flag,)


def _words(text: ParameterText, metavar: str) -> str:
    """Return what the docstring says, with the choices where they are not in the metavar."""
    return f"{text.text} One of {', '.join(text.choices)}." if text.choices and metavar == "WORD" else text.text


def _help(words: str, default: Any, unit: str, *, is_required: bool, is_switch: bool) -> str:
    """Return the words and, in brackets at their end, the default and the unit."""
    if is_switch and default is False:
        return words
    if is_required:
        return f"{words} [required{f'; in {unit}' if unit else ''}]"
    if default in (None, (), "") and "default" in words.lower():
        return f"{words} [in {unit}]" if unit else words
    if default in (None, (), ""):
        return f"{words} [default: none{f'; in {unit}' if unit else ''}]"
    return f"{words} [default: {show_default(default)}{f' {unit}' if unit else ''}]"


def _completer(verb: Verb, name: str, choices: tuple[str, ...]) -> Callable[[str], list[str]] | None:
    if name == "models" or (verb.word, name) == ("models show", "name"):
        return _complete_models
    if choices:
        return lambda incomplete: [choice for choice in choices if choice.startswith(incomplete)]
    return None


def _complete_models(incomplete: str) -> list[str]:
    """Return the model names that begin like the last word of a comma list."""
    from brainsim.models import MODELS

    done, comma, last = incomplete.rpartition(",")
    return [f"{done}{comma}{name}" for name in MODELS if name.startswith(last)]
