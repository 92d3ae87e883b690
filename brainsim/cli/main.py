"""Turn argv into one verb: the entry point of the command `brainsim`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from brainsim.cli.verbs import lazy_class
from brainsim.commands import GROUPS, VERBS, Verb
from brainsim.core.provenance import brainsim_version

HELP = "What each family of vision models explains in each place of the visual brain."
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 120}


def make_app(verbs: Sequence[Verb] = VERBS) -> typer.Typer:
    """Return the command line with every verb of a table; no verb's module is imported."""
    app = _make_group(HELP)
    app.callback()(_read_global_options)
    groups: dict[str, typer.Typer] = {}
    for verb in verbs:
        first, _, rest = verb.word.partition(" ")
        if rest and first not in groups:
            groups[first] = _make_group(GROUPS[first])
            app.add_typer(groups[first], name=first, rich_help_panel=verb.panel, help=GROUPS[first])
        target = groups[first] if rest else app
        target.command(
            rest or first, cls=lazy_class(verb), help=verb.summary, rich_help_panel=None if rest else verb.panel
        )(_placeholder(verb))
    return app


def run() -> None:
    """Run the command line on sys.argv."""
    app(prog_name="brainsim")


def _make_group(text: str) -> typer.Typer:
    return typer.Typer(
        help=text,
        no_args_is_help=True,
        add_completion=text == HELP,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings=CONTEXT,
    )


def _placeholder(verb: Verb) -> Callable[[], None]:
    def command() -> None:
        raise AssertionError(f"{verb.word} was not loaded")

    return command


def _tell_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"brainsim {brainsim_version()}")
        raise typer.Exit


def _read_global_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Read what comes before the verb."""


app = make_app()
