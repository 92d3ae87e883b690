"""Turn stored runs into a file that shows the quality of each: what `ingest --figure` writes."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from brainsim.core.errors import InputFileError, InvalidValueError

if TYPE_CHECKING:
    from brainsim.store import Store

# What matplotlib draws without more.
ENDINGS = (".png", ".svg", ".pdf")


def check_figure(path: str | Path) -> Path:
    """Return where a figure goes.

    Raises
    ------
    InvalidValueError
        Another kind of file, or a folder.
    InputFileError
        A place that cannot be written: better told before hours of reading than after.
    """
    figure = Path(path)
    if figure.suffix.lower() not in ENDINGS or figure.is_dir():
        raise InvalidValueError(
            f"--figure is {str(path)!r}; its name must end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}.",
            hint="--figure quality.png",
        )
    there = next(parent for parent in figure.absolute().parents if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise InputFileError(f"the figure {figure} cannot be written: {there} is no folder that may be written to.")
    return figure


def write_figure(path: Path, store: Store, dataset: str, subjects: Collection[str]) -> None:
    """Draw the quality of every run of some subjects.

    Parameters
    ----------
    path : Path
        From `check_figure`; folders above are made.
    store : Store
    dataset : str
    subjects : collection of str
        Whose runs.

    Raises
    ------
    InputFileError
        A place that cannot be written.
    """
    from brainsim.commands.report_sources import read_runs
    from brainsim.report.figures.runs import save_runs

    index = {info.path: info for info in store.nodes(f"bold/{dataset}", type="bold")}
    runs = [run for run in read_runs(store, index, dataset) if run.subject in subjects]
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_runs(tuple(runs), partial)
        partial.replace(path)
    except OSError as error:
        raise InputFileError(f"the figure {path} cannot be written: {error.strerror}.", hint="--figure FILE") from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
