"""Turn the files of `formats/` into the list of dataset formats, and a source into the runs that one of them finds."""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from importlib import import_module, metadata
from pathlib import Path

from brainsim.core.checks import check_node_name
from brainsim.core.errors import InputFileError, UnknownNameError
from brainsim.core.ordering import natural_order
from brainsim.core.registry import Registry, suggest
from brainsim.datasets import formats
from brainsim.datasets.dataset_format import DatasetFormat
from brainsim.datasets.runs import FoundRuns, RunSource, Selection, choose_subjects

# Other distributions add formats under this entry-point group: the value is a module that has FORMAT.
ENTRY_POINT_GROUP = "brainsim.datasets"
AUTO = "auto"


FORMATS: Registry[DatasetFormat] = Registry("dataset format", hint="brainsim ingest --help")


def find_runs(paths: Sequence[Path], *, format: str, selection: Selection) -> tuple[DatasetFormat, FoundRuns]:
    """Find the runs of a source.

    Parameters
    ----------
    paths : sequence of Path
        Files, or one folder.
    format : str
        Name of a format, or "auto".
    selection : Selection
        Which runs are wanted.

    Raises
    ------
    InputFileError
        Nothing there, or nothing that a format recognises.
    UnknownNameError
        Another format, or a subject, task or space that is not there.
    """
    for path in paths:
        if not path.exists():
            raise InputFileError(f"no file or folder at {path}.", hint=f"ls {path.parent}")
    if not paths:
        raise InputFileError("no source given; a BIDS folder, NIfTI files or tables are wanted.")
    chosen = recognise(paths) if format == AUTO else FORMATS[format]
    found = chosen.find(paths, selection)
    subjects = choose_subjects(found.subjects, selection.subjects, where=paths[0])
    runs = [run for run in found.runs if run.subject in subjects]
    runs = _choose_runs(runs, selection.run, where=paths[0])
    for run in runs:
        check_node_name(run.subject, what=f"the subject of {run.where}")
        check_node_name(run.run, what=f"the run label of {run.where}")
    _check_distinct(runs)
    ordered = sorted(runs, key=lambda run: (natural_order(run.subject), natural_order(run.run)))
    return chosen, replace(found, runs=tuple(ordered))


def recognise(paths: Sequence[Path]) -> DatasetFormat:
    """Return the first format, by rank, that recognises a source."""
    for candidate in sorted(FORMATS.values(), key=lambda f: (f.rank, f.name)):
        if candidate.recognises(paths):
            return candidate
    known = "; ".join(f"{f.name} ({f.summary})" for f in FORMATS.values())
    shown = ", ".join(str(path) for path in paths[:3])
    hint = "--format NAME takes one without guessing"
    if len(paths) > 1 and any(path.is_dir() for path in paths):
        hint = "one folder at a time, or files alone"
    raise InputFileError(f"{shown} holds no runs in a known format; known: {known}.", hint=hint)


def _choose_runs(runs: Sequence[RunSource], wanted: str | None, *, where: Path) -> list[RunSource]:
    """Return the runs whose label ends in the one wanted, which may be a pattern."""
    if wanted is None:
        return list(runs)
    pattern = "run-" + wanted.removeprefix("run-").lstrip("0")
    chosen = [run for run in runs if any(fnmatchcase(word, pattern) for word in (run.run, run.run.split("_")[-1]))]
    if not chosen:
        labels = list(dict.fromkeys(run.run for run in runs))
        raise UnknownNameError(
            f"no {pattern} in {where}; {suggest(pattern, labels)}", hint="--run 1, or a pattern such as --run '[1-4]'"
        )
    return chosen


def _check_distinct(runs: Sequence[RunSource]) -> None:
    seen: dict[tuple[str, str], RunSource] = {}
    for run in runs:
        twin = seen.setdefault((run.subject, run.run), run)
        if twin is not run:
            raise InputFileError(
                f"two files are {run.run} of {run.subject}: {twin.where} and {run.where}.",
                hint="take one out, or choose with --task, --space or a narrower folder",
            )


def _discover() -> None:
    for module in sorted(pkgutil.iter_modules(formats.__path__), key=lambda m: m.name):
        found = import_module(f"{formats.__name__}.{module.name}").FORMAT
        FORMATS.add(found.name, found)
    for entry_point in metadata.entry_points(group=ENTRY_POINT_GROUP):
        found = entry_point.load().FORMAT
        FORMATS.add(found.name, found)


_discover()
