"""Turn a verb's options into its help page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from brainsim.cli.options import NAME_WIDTH, SHARED_FLAGS, VerbOption
from brainsim.commands import Verb

# Lines longer than this are hard to read, however wide the terminal is.
MAX_WIDTH = 110


def show_help(verb: Verb, summary: str, options: Sequence[VerbOption]) -> RenderableType:
    """Return a verb's help.

    Parameters
    ----------
    verb : Verb
        The verb.
    summary : str
        Paragraphs of its function's docstring.
    options : sequence of VerbOption
        Its arguments and options.
    """
    arguments = [option for option in options if option.is_argument]
    required = [option for option in options if option.is_required and not option.is_argument]
    optional = [option for option in options if not option.is_required and not option.is_argument]
    usage = [_argument(option) for option in arguments] + [f"{o.flag} {o.metavar}" for o in required]
    opening, _, rest = summary.partition("\n\n")
    parts: list[RenderableType] = [
        Text.assemble(("Usage: ", "bold"), " ".join(["brainsim", verb.word, *usage, "[OPTIONS]"])),
        Text(),
        _indent(Text(opening, style="bold")),
    ]
    if rest:
        parts += [Text(), _indent(Text(rest, style="dim"))]
    output = [(", ".join(flags), text) for flags, text in SHARED_FLAGS.values()]
    sections = {
        "Arguments": [(option.flag, option.help) for option in arguments],
        "Required": [(_name(option), option.help) for option in required],
        "Options": [(_name(option), option.help) for option in optional],
        "Output": [*output, ("--help, -h", "Show this page.")],
    }
    for title, rows in sections.items():
        if rows:
            parts += [Text(), Text(title, style="bold cyan"), _rows(rows)]
    return Group(*(_narrow(part) for part in parts), Text())


def _rows(rows: Iterable[tuple[str, str]]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(width=NAME_WIDTH + 2, overflow="fold")
    grid.add_column(max_width=MAX_WIDTH - NAME_WIDTH - 4)
    for name, text in rows:
        words, bracket, tail = text.rpartition(" [")
        shown = Text.assemble(words, (f" [{tail}", "dim")) if bracket else Text(text)
        grid.add_row(Text(f"  {name}", style="green"), shown)
    return grid


def _name(option: VerbOption) -> str:
    if not option.metavar:
        return f"--[no-]{option.flag[2:]}" if option.help.endswith("[default: yes]") else option.flag
    return f"{option.flag} {option.metavar}"


def _argument(option: VerbOption) -> str:
    shown = f"{option.flag}..." if option.kind.form == list[str] else option.flag
    return shown if option.is_required else f"[{shown}]"


def _indent(text: Text) -> Padding:
    return Padding(text, (0, 0, 0, 2))


def _narrow(part: RenderableType) -> RenderableType:
    """Keep paragraphs within the widest line that reads well."""
    table = Table.grid()
    table.add_column(max_width=MAX_WIDTH)
    table.add_row(part)
    return table
