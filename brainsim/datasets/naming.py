"""Turn paths that follow no standard into subject and run labels, by the numbers in their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from brainsim.core.errors import InvalidValueError
from brainsim.datasets.runs import Selection

_RUN = re.compile(r"(?:^|[_.-])run-?0*(\d+)(?=$|[_.-])", re.IGNORECASE)
_SUBJECT = re.compile(r"^sub(?:-([A-Za-z0-9]+)|-?(\d+))$")
_SPACE_FOR_NAMES = re.compile(r"[^A-Za-z0-9._@+:-]+")
# How many folders above a file may say of which subject and run it is: sub001/BOLD/task001_run001/bold.nii.gz
_N_FOLDERS = 3
FIRST_SUBJECT = "sub-01"


def name_runs(files: Sequence[tuple[Path, str]], selection: Selection) -> list[tuple[str, str]]:
    """Return (subject, run) of each file and item in it.

    A run is called by its number ("run-3" from …_run-03_…, run003/…, or the item's name), else by its item, else by
    the file's stem; a subject's only file without a number is run-1. Files that name no subject belong to the one
    subject asked for, or to sub-01.

    Parameters
    ----------
    files : sequence of (Path, str)
        File, and item in it ("" where it has none).
    selection : Selection
        Its only subject, if it has one, names files that name none.
    """
    only = selection.subjects[0] if len(selection.subjects) == 1 else FIRST_SUBJECT
    subjects = [_find_subject(path) or f"sub-{only.removeprefix('sub-')}" for path, _ in files]
    labels = []
    for (path, item), subject in zip(files, subjects, strict=True):
        number = _find_run(path, item)
        if number is not None:
            labels.append((subject, f"run-{number}"))
        elif subjects.count(subject) == 1:
            labels.append((subject, "run-1"))
        else:
            labels.append((subject, _as_label(item or path.name.split(".")[0])))
    return labels


def refuse_entities(selection: Selection, format: str) -> None:
    """Raise where files are to be chosen by BIDS entities that the names of a format do not have.

    Raises
    ------
    InvalidValueError
        For the first of them.
    """
    for option in ("session", "task", "space", "desc"):
        value = getattr(selection, option)
        if value is not None:
            raise InvalidValueError(
                f"{option} is {value!r}, and format {format} takes the files as they are named.",
                hint="name the files that are wanted, or --format bids",
            )


def _find_run(path: Path, item: str) -> str | None:
    words = [item] if item else [path.name.split(".")[0], *(p.name for p in list(path.parents)[: _N_FOLDERS - 1])]
    for word in words:
        if match := _RUN.search(word):
            return match[1]
    return None


def _find_subject(path: Path) -> str | None:
    words = path.name.split(".")[0].split("_") + [p.name for p in list(path.parents)[:_N_FOLDERS]]
    for word in words:
        if match := _SUBJECT.match(word):
            return f"sub-{match[1] or match[2]}"
    return None


def _as_label(words: str) -> str:
    return _SPACE_FOR_NAMES.sub("-", words).strip(".-") or "run-1"
