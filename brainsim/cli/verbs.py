"""Turn a row of the table of verbs into a command: parsed options, the call, its result and its exit code."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperCommand

from brainsim.cli.help import show_help
from brainsim.cli.options import DEFAULT_STORE, VerbOption, make_options, shared_parameters
from brainsim.cli.output import as_json, make_console
from brainsim.cli.progress import Speaker, choose_progress
from brainsim.cli.views import show
from brainsim.commands import Verb
from brainsim.commands.docstrings import read_docstring
from brainsim.core.errors import BrainsimError

EXIT_ERROR, EXIT_INTERRUPTED = 1, 130

KEPT = "What is complete in the store is kept; the same command goes on from there."


def make_command(verb: Verb) -> tuple[Callable[..., None], type[TyperCommand]]:
    """Import a verb's function and return what Typer wants: a function with options for parameters, and its class."""
    function = verb.load()
    options = make_options(verb, function)

    def command(*, as_json: bool, is_verbose: bool, is_quiet: bool, **given: Any) -> None:
        values = {option.name: option.convert(given[option.name]) for option in options if _is_given(option, given)}
        run_verb(verb, function, values, wants_json=as_json, is_verbose=is_verbose, is_quiet=is_quiet)

    parameters = [option.parameter for option in options] + shared_parameters()
    vars(command)["__signature__"] = inspect.Signature(parameters)  # what Typer reads
    command.__annotations__ = {}

    class VerbCommand(TyperCommand):
        """A verb with help of our own: the name and the value of an option in one column, nothing cut."""

        def format_help(self, ctx: Any, formatter: Any) -> None:
            Console(highlight=False).print(show_help(verb, read_docstring(function).summary, options))

    return command, VerbCommand


def run_verb(
    verb: Verb,
    function: Callable[..., Any],
    values: dict[str, Any],
    *,
    wants_json: bool = False,
    is_verbose: bool = False,
    is_quiet: bool = False,
) -> None:
    """Call a verb's function, print its summary and leave with its exit code.

    Raises
    ------
    typer.Exit
        With 1 after a named error or where the summary says that not all is well, with 130 after an interruption.
    """
    errors = make_console(stderr=True)
    progress = choose_progress(errors, is_verbose=is_verbose, is_quiet=is_quiet)
    if "progress" in inspect.signature(function).parameters:
        values = {**values, "progress": progress}
    try:
        summary = function(**values)
        _tell_warnings(progress, summary)
        _print_result(verb, summary, wants_json=wants_json)
    except BrainsimError as error:
        tell_error(errors, error, verb, store=values.get("store"))
        raise typer.Exit(EXIT_ERROR) from None
    except KeyboardInterrupt:
        errors.print(Text(f"Interrupted. {KEPT}"), soft_wrap=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except BrokenPipeError:
        # Whoever read our stdout has gone; Python would complain once more when it closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    else:
        if not getattr(summary, "ok", True):
            failure = getattr(summary, "error", None)
            if failure is not None:  # the result tells what was done all the same
                told = BrainsimError(failure["message"], hint=failure["hint"])
                for note in failure.get("notes", ()):
                    told.add_note(note)
                tell_error(errors, told, verb)
            raise typer.Exit(EXIT_ERROR)


def tell_error(console: Console, error: BrainsimError, verb: Verb, *, store: Any = None) -> None:
    """Print a named error: its sentence, its notes and its hint (else where help is), one line each.

    A hint that is a command names the store that this one was given.
    """
    console.print(Text.assemble(("Error: ", "bold red"), error.message), soft_wrap=True)
    for note in getattr(error, "__notes__", ()):
        console.print(Text(f"Note: {note}"), soft_wrap=True)
    hint = error.hint or f"brainsim {verb.word} --help"
    if store not in (None, DEFAULT_STORE) and error.hint:
        hint = _with_store(hint, str(store))
    console.print(Text.assemble(("Hint: ", "bold"), hint), soft_wrap=True)


def _with_store(hint: str, store: str) -> str:
    """Return a hint whose command, where it is one on stored things, names the store."""
    if "--store" in hint or "--help" in hint:
        return hint.replace("--store STORE", f"--store {store}")
    return re.sub(r"^brainsim (store \w+|report|fit|partition|rsa|claims|accuracy)\b", rf"\g<0> --store {store}", hint)


class LazyCommand(TyperCommand):
    """A verb in the list of help; its module is imported when it is the one that was typed."""

    verb: Verb

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Become the full command, and let that one read the arguments."""
        app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
        function, cls = make_command(self.verb)
        app.command(self.name, cls=cls)(function)
        return typer.main.get_command(app).make_context(info_name, args, parent=parent, **extra)


def lazy_class(verb: Verb) -> type[LazyCommand]:
    """Return the command class of one verb."""
    return type("LazyCommand", (LazyCommand,), {"verb": verb})


def _is_given(option: VerbOption, given: dict[str, Any]) -> bool:
    return given[option.name] is not None and given[option.name] != []


def _tell_warnings(progress: Speaker, summary: Any) -> None:
    for warning in getattr(summary, "warnings", ()):
        progress.warn(str(warning))


def _print_result(verb: Verb, summary: Any, *, wants_json: bool) -> None:
    if wants_json:
        sys.stdout.write(as_json(summary) + "\n")
    else:
        make_console().print(show(verb.word, summary))
    sys.stdout.flush()
