"""Turn dense CIFTI series, and GIFTI series of two hemispheres, of any name, one run each, into runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from brainsim.core.errors import InputFileError
from brainsim.datasets.cifti import SERIES, CiftiSignal
from brainsim.datasets.dataset_format import DatasetFormat
from brainsim.datasets.gifti import ENDING, GiftiSignal, pair_of
from brainsim.datasets.naming import name_runs, refuse_entities
from brainsim.datasets.runs import FoundRuns, RunSource, Selection, Signal
from brainsim.datasets.structures import GRAYORDINATES, SURFACE

# GIFTI files that lie beside series and are none.
_NO_SERIES = (".surf.gii", ".label.gii", ".shape.gii")


def recognises(paths: Sequence[Path]) -> bool:
    """Return whether the source is CIFTI or GIFTI series, or a folder with some in it."""
    files = _list_files(paths)
    return bool(files) and all(map(_is_series, files))


def find(paths: Sequence[Path], selection: Selection) -> FoundRuns:
    """Take every dense series, and every pair of hemispheres, as a run; of a folder those in it, not deeper."""
    files = [path for path in _list_files(paths) if _is_series(path)]
    if not files:
        raise InputFileError(
            f"{', '.join(map(str, paths))} holds no surface series.", hint="name .dtseries.nii or .func.gii files"
        )
    refuse_entities(selection, "surface")
    found: dict[Path, tuple[str, Callable[[], Signal], tuple[Path, ...]]] = {}
    for path in files:
        if path.name.endswith(SERIES):
            found[path] = (GRAYORDINATES, partial(CiftiSignal, path), ())
        else:
            left, right = pair_of(path, what="GIFTI file")
            found[left] = (SURFACE, partial(GiftiSignal, left, right), (right,))
    labels = name_runs([(path, "") for path in found], selection)
    runs = [
        RunSource(subject, run, path, opener, space=space, beside=beside)
        for (path, (space, opener, beside)), (subject, run) in zip(found.items(), labels, strict=True)
    ]
    return FoundRuns(tuple(runs))


def _is_series(path: Path) -> bool:
    return path.name.endswith((SERIES, ENDING)) and not path.name.endswith(_NO_SERIES)


def _list_files(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.is_file() and _is_series(p) and not p.name.startswith("."))
            files += inside
        else:
            files.append(path)
    return files


FORMAT = DatasetFormat(
    name="surface",
    summary=".dtseries.nii files, or .func.gii pairs of both hemispheres, a run each, or a folder of them",
    recognises=recognises,
    find=find,
    rank=15,
)
