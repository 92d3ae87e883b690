"""Turn one file of `formats/` into a way of reading what labs have: the row that each of them holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from brainsim.datasets.runs import FoundRuns, Selection


@dataclass(frozen=True)
class DatasetFormat:
    """One way in which labs keep runs.

    Parameters
    ----------
    name : str
        What users call it.
    summary : str
        One line: which files it reads.
    recognises : callable
        (paths) -> whether these look like its files; cheap, opens no file.
    find : callable
        (paths, selection) -> the runs wanted; raises where there are none. Subjects are chosen afterwards, by
        `find_runs`.
    rank : int
        Formats with a lower rank are asked first by "auto".
    is_betas : bool
        Whether rows are stimuli, not TRs: nothing is filtered over them.
    """

    name: str
    summary: str
    recognises: Callable[[Sequence[Path]], bool]
    find: Callable[[Sequence[Path], Selection], FoundRuns]
    rank: int = 50
    is_betas: bool = False
