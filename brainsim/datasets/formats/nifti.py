"""Turn NIfTI files of any name, one run each, into runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from brainsim.core.errors import InputFileError
from brainsim.datasets.dataset_format import DatasetFormat
from brainsim.datasets.naming import name_runs, refuse_entities
from brainsim.datasets.runs import FoundRuns, RunSource, Selection
from brainsim.datasets.volumes import VolumeSignal, is_volume

# Images that lie beside runs and are none, by the last word of their names.
_NO_RUNS = re.compile(r"(^|_)(mask|brainmask|dseg|probseg|boldref|sbref|T1w|T2w|anat)$", re.IGNORECASE)
_CONFOUNDS = (
    "_desc-confounds_timeseries.tsv",
    "_desc-confounds_regressors.tsv",
    "_bold_confounds.tsv",
    "_confounds.tsv",
)


_EVENTS = ("_events.tsv",)


def recognises(paths: Sequence[Path]) -> bool:
    """Return whether the source is NIfTI files, or a folder with some in it."""
    files = _list_files(paths)
    return bool(files) and all(map(is_volume, files))


def find(paths: Sequence[Path], selection: Selection) -> FoundRuns:
    """Take every file as a run; a folder's files are those in it, not deeper."""
    files = _list_files(paths)
    if not files:
        raise InputFileError(
            f"{', '.join(map(str, paths))} holds no NIfTI image.", hint="name .nii or .nii.gz files, or their folder"
        )
    refuse_entities(selection, "nifti")
    labels = name_runs([(path, "") for path in files], selection)
    runs = [
        RunSource(
            subject,
            run,
            path,
            partial(VolumeSignal, path),
            confounds=_find_beside(path, _CONFOUNDS),
            events=_find_beside(path, _EVENTS),
        )
        for path, (subject, run) in zip(files, labels, strict=True)
    ]
    return FoundRuns(tuple(runs))


def _list_files(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.is_file() and is_volume(p) and not p.name.startswith("."))
            files += [p for p in inside if not _NO_RUNS.search(p.name.split(".")[0])]
        else:
            files.append(path)
    return files


def _find_beside(path: Path, endings: Sequence[str]) -> Path | None:
    stem = path.name.removesuffix(".gz").removesuffix(".nii")
    for start in (stem, stem.removesuffix("_bold")):
        for ending in endings:
            if (path.parent / f"{start}{ending}").is_file():
                return path.parent / f"{start}{ending}"
    return None


FORMAT = DatasetFormat(
    name="nifti",
    summary="4-D .nii and .nii.gz files, a run each, or a folder of them",
    recognises=recognises,
    find=find,
    rank=20,
)
