"""Turn a study file into checked steps: which verb with which values, and which steps must come before it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brainsim.commands.study_keys import StepVerb, step_verbs
from brainsim.commands.study_lines import find_cause, find_line
from brainsim.commands.study_links import link_steps
from brainsim.core.checks import check_file, check_node_name
from brainsim.core.errors import BrainsimError, InputFileError, InvalidValueError
from brainsim.core.ordering import natural_order
from brainsim.core.registry import suggest

DEFAULT_STORE = "store/brainsim.zarr"

# What a study file may hold outside the tables of verbs. `stimuli` and `families` are keys of verbs that have them.
TOP_LEVEL = ("title", "store", "stimuli", "families", "defaults")

# Problems of one file that are told: the first as the error, the others as notes.
MAX_PROBLEMS = 10


@dataclass(frozen=True)
class Step:
    """One call of one verb.

    Parameters
    ----------
    name : str
        How it is called: "fit.main", "extract".
    verb : StepVerb
        The verb.
    values : dict
        Parameter -> value as the file gives it, with defaults filled in and globs of files expanded.
    needs : tuple of str
        Steps that must be done before it.
    after : tuple of str
        Steps that come before it too, but whose failure does not keep it back: it tells what there is.
    """

    name: str
    verb: StepVerb
    values: Mapping[str, Any]
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    @property
    def waits_for(self) -> tuple[str, ...]:
        """All steps that come before it."""
        return (*self.needs, *self.after)


@dataclass(frozen=True)
class Study:
    """A checked study file.

    Parameters
    ----------
    path : Path
        The file.
    store : str
        The store, relative to the file's folder.
    steps : tuple of Step
        In the order of the flow.
    text : str
        The file's text, in which lines are found.
    """

    path: Path
    store: str
    steps: tuple[Step, ...]
    text: str = ""

    @property
    def folder(self) -> Path:
        """The folder that paths in the file are relative to."""
        return self.path.absolute().parent

    def locate(self, step: Step, message: str = "") -> str:
        """Return where the file speaks of a step, as an error begins: "study.toml, line 21, [fit.main]".

        Parameters
        ----------
        step : Step
            A step of this study.
        message : str
            What is wrong: an option or a value of the step that it names stands on a line of its own.
        """
        line = find_cause(self.text, step.name, step.values, message)
        return f"{self.path}, line {line}, [{step.name}]" if line else f"{self.path}, [{step.name}]"


@dataclass
class StudyReader:
    """A file while it is read, and what is wrong with it so far."""

    path: Path
    text: str
    verbs: Mapping[str, StepVerb]
    problems: list[str] = field(default_factory=list)

    def tell(self, table: str, key: str, sentence: str) -> None:
        line = find_line(self.text, table, key)
        where = f"{self.path}, line {line}" if line else str(self.path)
        self.problems.append(f"{where}: {sentence}")

    def finish(self) -> None:
        if self.problems:
            error = InvalidValueError(
                self.problems[0], hint="docs/studies.md tells what a study file may hold; brainsim VERB --help each key"
            )
            for problem in self.problems[1:MAX_PROBLEMS]:
                error.add_note(problem)
            if len(self.problems) > MAX_PROBLEMS:
                error.add_note(f"and {len(self.problems) - MAX_PROBLEMS} more.")
            raise error


def read_study(path: Path | str, *, overrides: Mapping[str, Any] | None = None) -> Study:
    """Read and check a study file.

    Parameters
    ----------
    path : path
        A TOML file.
    overrides : mapping, optional
        Values that every verb takes that has such a parameter, whatever the file says.

    Raises
    ------
    InputFileError
        No file there, or one that is no TOML.
    InvalidValueError
        Unknown tables and keys, values of a wrong type or not allowed, missing and unknown names: the first is the
        error, the others are its notes.
    """
    path = check_file(path, what="study file", hint="brainsim init DATA_FOLDER writes one")
    try:
        text = path.read_bytes().decode("utf-8")
        tables = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise InputFileError(f"{path} is no text in UTF-8 (byte {error.start}).") from None
    except tomllib.TOMLDecodeError as error:
        raise InputFileError(
            f"{path} is no TOML: {error}.", hint="texts stand in quotes, lists in [ ], a name is given once"
        ) from None
    reader = StudyReader(path, text, step_verbs())
    _check_overrides(reader.verbs, overrides or {})
    _check_top_level(reader, tables)
    drafts = [draft for word, verb in reader.verbs.items() for draft in _drafts(reader, word, verb, tables)]
    if not drafts and not reader.problems:
        reader.problems.append(f"{path} names nothing to do: it has none of the tables {', '.join(reader.verbs)}.")
    steps = []
    for name, label, verb, own in drafts:
        values = _own_values(reader, name, verb, label, own) | _shared_values(verb, tables, own)
        values |= {key: value for key, value in (overrides or {}).items() if key in verb.keys}
        values = _expand_globs(reader, name, verb, values)
        steps.append(Step(name, verb, values))
    steps = link_steps(reader, steps)
    reader.finish()  # a key that is missing is often one that is misspelt: told first, and alone
    for step in steps:
        _check_required(reader, step)
    reader.finish()
    return Study(path, str(tables.get("store", DEFAULT_STORE)), tuple(steps), text)


def _check_overrides(verbs: Mapping[str, StepVerb], overrides: Mapping[str, Any]) -> None:
    for name, value in overrides.items():
        for verb in verbs.values():
            if name in verb.keys:
                try:
                    verb.keys[name].read(value)
                except ValueError as error:
                    raise InvalidValueError(f"--{name.replace('_', '-')}: {error}") from None


def _check_top_level(reader: StudyReader, tables: Mapping[str, Any]) -> None:
    for name, value in tables.items():
        if name not in TOP_LEVEL and name not in reader.verbs:
            allowed = [*TOP_LEVEL, *reader.verbs]
            kind = "table" if isinstance(value, dict) else "key"
            reader.tell(name if kind == "table" else "", name, f"unknown {kind} {name!r}; {suggest(name, allowed)}")
    for name in ("title", "store"):
        if not isinstance(tables.get(name, ""), str):
            reader.tell("", name, f"{name} is {tables[name]!r}; it must be a text in quotes.")
    for name in ("stimuli", "families"):
        having = [verb.keys[name] for verb in reader.verbs.values() if name in verb.keys]
        if name in tables and having:
            _try_read(reader, having[0], tables[name], table=name if isinstance(tables[name], dict) else "", label=name)
    defaults = tables.get("defaults", {})
    if not isinstance(defaults, dict):
        reader.tell("", "defaults", f"defaults is {defaults!r}; it must be a table of keys that verbs share.")
        return
    for name, value in defaults.items():
        having = [v.keys[name] for v in reader.verbs.values() if name in v.keys and name != v.named_by]
        if not having:
            known = sorted({key for v in reader.verbs.values() for key in v.keys if key != v.named_by})
            reader.tell("defaults", name, f"unknown key {name!r} in [defaults]; {suggest(name, known)}")
        elif _try_read(reader, having[0], value, table="defaults", label=f"{name} in [defaults]"):
            continue


def _drafts(
    reader: StudyReader, word: str, verb: StepVerb, tables: Mapping[str, Any]
) -> list[tuple[str, str, StepVerb, dict[str, Any]]]:
    """Return (step, label, verb, own keys) of every table of a verb: [report] itself, or each [fit.NAME]."""
    table = tables.get(word, {})
    if not isinstance(table, dict):
        reader.tell("", word, f"{word} is {table!r}; it must be a table, [{word}{'.NAME' if verb.named_by else ''}].")
        return []
    if word in tables and not table and not verb.named_by:
        return [(word, "", verb, {})]
    named = {
        name: own for name, own in table.items() if isinstance(own, dict) and (verb.named_by or name not in verb.keys)
    }
    plain = {name: value for name, value in table.items() if name not in named}
    if plain and (verb.named_by or named):
        key = next(iter(plain))
        need = f"; [{word}.NAME] is the table of one {word}" if verb.named_by else " beside named tables"
        reader.tell(word, key, f"key {key!r} stands in [{word}] itself{need}.")
        return []
    if plain:
        return [(word, "", verb, plain)]
    drafts = []
    for name, own in named.items():
        try:
            check_node_name(name, what=f"the name of [{word}.{name}]")
        except BrainsimError as error:
            reader.tell(f"{word}.{name}", "", error.message)
        drafts.append((f"{word}.{name}", name, verb, own))
    return drafts


def _own_values(reader: StudyReader, step: str, verb: StepVerb, label: str, own: Mapping[str, Any]) -> dict[str, Any]:
    """Check the keys of a table, and give its name to the parameter that takes it."""
    allowed = [name for name in verb.keys if name != verb.named_by]
    values = {verb.named_by: label} if verb.named_by else {}
    for name, value in own.items():
        if name not in allowed:
            reason = suggest(name, allowed)
            if name == verb.named_by:
                reason = f"the table's own name, {label!r}, is its {name}."
            if name in ("store", "dry_run", "overwrite"):
                reason = "store stands at the top of the file; --dry-run and --overwrite are options of brainsim run."
            reader.tell(step, name, f"unknown key {name!r} in [{step}]; {reason}")
        elif _try_read(reader, verb.keys[name], value, table=step, label=f"{name} in [{step}]"):
            values[name] = value
    return values


def _try_read(reader: StudyReader, key: Any, value: Any, *, table: str, label: str) -> bool:
    try:
        key.read(value)
    except ValueError as error:
        reader.tell(table, key.name, f"{label}: {error}")
        return False
    return True


def _shared_values(verb: StepVerb, tables: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a step takes from the top of the file and from [defaults], where its own table does not say."""
    shared = {name: tables[name] for name in ("stimuli", "families") if name in tables}
    defaults = tables.get("defaults", {})
    shared |= defaults if isinstance(defaults, dict) else {}
    if verb.tells and "title" in tables:
        shared["title"] = tables["title"]
    return {key: v for key, v in shared.items() if key in verb.keys and key not in own and key != verb.named_by}


def _expand_globs(reader: StudyReader, step: str, verb: StepVerb, values: dict[str, Any]) -> dict[str, Any]:
    """Replace globs of files by the files, as a shell does; a glob without a file is a problem."""
    folder = reader.path.absolute().parent
    expanded = dict(values)
    for name, value in values.items():
        if name not in verb.keys or not verb.keys[name].kind.metavar.startswith("PATH..."):
            continue
        words = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        files: list[str] = []
        for word in words:
            if not isinstance(word, str) or not re.search(r"[*?\[]", word) or (folder / word).exists():
                files.append(word)
                continue
            root = Path(Path(word).anchor) if Path(word).is_absolute() else folder
            pattern = str(Path(word).relative_to(root)) if Path(word).is_absolute() else word
            found = sorted(root.glob(pattern), key=lambda path: natural_order(str(path)))
            if not found:
                table = step if name in values and find_line(reader.text, step, name) else ""
                reader.tell(table, name, f"{name} of [{step}]: no file matches {word!r} in {root}.")
            files += [str(path.relative_to(root)) if root == folder else str(path) for path in found]
        expanded[name] = files
    return expanded


def _check_required(reader: StudyReader, step: Step) -> None:
    for name, key in step.verb.keys.items():
        if key.is_required and name not in step.values:
            reader.tell(step.name, "", f"[{step.name}] has no {name}: {key.text}")
