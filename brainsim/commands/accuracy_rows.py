"""Turn models' rows and a user's table into published accuracies, each with its task and source."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from brainsim.core.checks import check_file
from brainsim.core.errors import InputFileError
from brainsim.core.registry import suggest

COLUMNS = ("model", "accuracy", "source")

# Rows of a table that are named in one warning: a list of all that was ever published may be given.
MAX_NAMED = 5


@dataclass(frozen=True)
class PublishedAccuracy:
    """What is published of one model.

    Parameters
    ----------
    model : str
        As stored.
    percent : float
        Top-1 accuracy, per cent.
    task, source : str
        Of what, and who says so.
    is_own : bool
        Whether the user's table says it.
    """

    model: str
    percent: float
    task: str
    source: str
    is_own: bool = False


def find_accuracies(models: Iterable[str], own: Mapping[str, PublishedAccuracy]) -> dict[str, PublishedAccuracy]:
    """Return the accuracy of each model that has one; the user's own go before the models' own rows."""
    from brainsim.models import MODELS

    found = {}
    for model in models:
        if model in own:
            found[model] = own[model]
        elif (row := MODELS.get(model)) is not None and row.accuracy is not None:
            found[model] = PublishedAccuracy(model, row.accuracy.percent, row.accuracy.task, row.accuracy.source)
    return found


def tell_unused(own: Iterable[str], *, scored: Collection[str], used: Collection[str]) -> list[str]:
    """Return a warning of the user's rows that no score stands beside, each with why; none where all are used.

    Parameters
    ----------
    own : iterable of str
        Models of the user's table.
    scored : collection of str
        Models of all results that were asked, alone or with others.
    used : collection of str
        Models whose accuracy is related to a score.
    """
    left = [model for model in own if model not in used]
    reasons = [
        f"{model} has no score of its own"
        if model in scored
        else f"no result has {model!r} ({suggest(model, sorted(scored)).removesuffix('.')})"
        for model in left[:MAX_NAMED]
    ]
    if not left:
        return []
    more = f"; and {len(left) - MAX_NAMED} more" if len(left) > MAX_NAMED else ""
    return [f"{len(left)} row(s) of the table of accuracies are not used: {'; '.join(reasons)}{more}."]


def read_accuracies(path: Path | str) -> dict[str, PublishedAccuracy]:
    """Read a TSV with the columns model, accuracy (per cent) and source, and task where there is one.

    Raises
    ------
    InputFileError
        A file that is missing, lacks a column, or has a row that is no accuracy: the line is named.
    """
    path = check_file(path, what="table of accuracies")
    hint = "a header and one row per model, tabs between: model, accuracy (per cent), source, task"
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, delimiter="\t")
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputFileError(f"{path} is no table of text: {error}.", hint=hint) from None
    if missing:
        raise InputFileError(f"{path} has no column {missing[0]!r}; it needs {', '.join(COLUMNS)}.", hint=hint)
    found: dict[str, PublishedAccuracy] = {}
    for line, row in enumerate(rows, start=2):
        model, source = (row["model"] or "").strip(), (row["source"] or "").strip()
        if not model or not source:
            raise InputFileError(
                f"{path}, line {line}: no {'source' if model else 'model'}; every row has one.", hint=hint
            )
        if model in found:
            raise InputFileError(f"{path}, line {line}: {model} has a row already.", hint=hint)
        found[model] = PublishedAccuracy(
            model, _read_percent(row["accuracy"], path, line), (row.get("task") or "").strip(), source, is_own=True
        )
    return found


def _read_percent(text: str | None, path: Path, line: int) -> float:
    try:
        percent = float((text or "").strip().removesuffix("%"))
    except ValueError:
        percent = float("nan")
    if not 0 <= percent <= 100:
        raise InputFileError(
            f"{path}, line {line}: accuracy is {text!r}; it must be a percentage from 0 to 100.",
            hint="71.3 for 71.3 %",
        )
    return percent
