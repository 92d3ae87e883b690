"""Turn a data folder into what a study can be made of, movies, arrays of frames and scans, by names and headers."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from brainsim.core.errors import BrainsimError

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv")
SCAN_ENDINGS = (".nii", ".nii.gz")

# Folders below the data folder that are looked into: deeper ones belong to something else.
MAX_DEPTH = 4

# A folder of fewer images is a folder of figures.
MIN_IMAGES = 10


@dataclass(frozen=True)
class FoundStimuli:
    """Stimuli of one kind in one folder.

    Parameters
    ----------
    kind : {"movies", "arrays", "images"}
        Videos, arrays of frames, or a folder of images.
    words : tuple of Path
        Paths or one glob.
    names : tuple of str
        What the store will call them.
    """

    kind: str
    words: tuple[Path, ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class FoundScans:
    """Scans or tables that are one dataset.

    Parameters
    ----------
    kind : {"bids", "nifti", "table"}
        The format in which they are read.
    source : tuple of Path
        Folder, files or one glob.
    name : str
        A name for the dataset.
    subjects, runs : tuple of str
        What is in it; empty where that cannot be told without choosing.
    rois, stimulus_map : Path or None
        A label image and a stimulus map that lie beside the scans.
    has_confounds : bool
        Whether fMRIPrep's tables of confounds lie beside the scans.
    problem : str
        Why its runs cannot be told yet: several tasks or spaces to choose from, nothing readable.
    """

    kind: str
    source: tuple[Path, ...]
    name: str
    subjects: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    rois: Path | None = None
    stimulus_map: Path | None = None
    has_confounds: bool = False
    problem: str = ""


@dataclass(frozen=True)
class Found:
    """What a data folder holds: stimuli and scans."""

    stimuli: tuple[FoundStimuli, ...]
    scans: tuple[FoundScans, ...]


def look_into(folder: Path) -> Found:
    """Look into a data folder.

    Parameters
    ----------
    folder : Path
        A folder; links are followed, hidden files are not.
    """
    stimuli: list[FoundStimuli] = []
    scans: list[FoundScans] = []
    for place, folders, files in _walk(folder):
        if _is_bids(place, folders):
            scans.append(_describe(place, "bids", (place,)))
            folders[:] = [name for name in folders if name in ("derivatives", "stimuli", "sourcedata")]
        else:
            nifti = [place / name for name in files if name.endswith(SCAN_ENDINGS) and not _is_labels(name)]
            scans += [_describe(place, "nifti", tuple(nifti))] if nifti else []
        tables, frames = _split_arrays(place / name for name in files if name.endswith(".npy"))
        if tables:
            scans.append(_describe(place, "table", tuple(tables)))
        movies = [place / name for name in files if Path(name).suffix.lower() in VIDEO_SUFFIXES]
        for suffix in sorted({path.suffix for path in movies}):
            stimuli.append(_stimuli("movies", place / f"*{suffix}", [p for p in movies if p.suffix == suffix]))
        if frames:
            words = place / "*.npy" if not tables else None
            stimuli.append(_stimuli("arrays", words, frames))
        if _is_image_folder(files):
            stimuli.append(_stimuli("images", place, [place]))
    return Found(tuple(stimuli), tuple(_prefer_derivatives(scans)))


def _walk(folder: Path) -> Iterable[tuple[Path, list[str], list[str]]]:
    """Yield (folder, its folders, its files), in order, as deep as data lie; the caller may take folders out."""
    for place, folders, files in os.walk(folder, followlinks=True):
        depth = len(Path(place).relative_to(folder).parts)
        is_store = "zarr.json" in files or place.endswith(".zarr")
        inside = [] if is_store or depth >= MAX_DEPTH else sorted(f for f in folders if not f.startswith("."))
        folders[:] = inside
        yield Path(place), folders, sorted(f for f in files if not f.startswith(".") and not is_store)


def _is_bids(place: Path, folders: Sequence[str]) -> bool:
    has_subjects = any(name.startswith("sub-") for name in folders)
    return has_subjects or ((place / "dataset_description.json").exists() and place.name != "derivatives")


def _is_labels(name: str) -> bool:
    """Return whether an image's name says that it holds labels, a mask or anatomy."""
    return bool(re.search(r"(dseg|probseg|mask|boldref|T1w|T2w|atlas|labels?|rois?)\.nii(\.gz)?$", name))


def _is_image_folder(files: Sequence[str]) -> bool:
    from brainsim.stimuli.arrays import IMAGE_SUFFIXES

    return sum(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in files) >= MIN_IMAGES


def _split_arrays(paths: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Return arrays of two axes (runs: TRs x targets) and of three or four (frames)."""
    import numpy as np

    tables, frames = [], []
    for path in paths:
        try:
            n_axes = np.load(path, mmap_mode="r", allow_pickle=False).ndim
        except (OSError, ValueError):  # no array that can be read: `brainsim ingest` would say so
            continue
        if n_axes == 2:
            tables.append(path)
        elif n_axes in (3, 4):
            frames.append(path)
    return tables, frames


def _stimuli(kind: str, glob: Path | None, files: Sequence[Path]) -> FoundStimuli:
    from brainsim.stimuli.opening import default_name

    words = tuple(files) if glob is None or len(files) == 1 else (glob,)
    return FoundStimuli(kind, words, tuple(default_name(path) for path in files))


def _describe(place: Path, kind: str, source: tuple[Path, ...]) -> FoundScans:
    """Return scans with their subjects and runs, as `brainsim ingest` would find them."""
    from brainsim.datasets.catalogue import find_runs
    from brainsim.datasets.runs import Selection

    subjects: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    problem = ""
    try:
        _, found = find_runs(list(source), format=kind, selection=Selection((), None, None))
    except BrainsimError as error:
        problem = error.message
    else:
        subjects = tuple(dict.fromkeys(run.subject for run in found.runs))
        runs = tuple(dict.fromkeys(run.run for run in found.runs))
    labels = sorted(p for p in place.glob("*dseg.nii*") if p.with_name(f"{p.name.split('.')[0]}.tsv").exists())
    maps = [path for path in (place / "stimulus_map.tsv", place.parent / "stimulus_map.tsv") if path.exists()]
    confounds = next(place.glob("sub-*/**/*desc-confounds_timeseries.tsv"), None) if kind == "bids" else None
    glob = {"nifti": "*.nii*", "table": "*.npy"}.get(kind)
    same = glob is not None and len(source) > 1 and sorted(place.glob(glob)) == sorted(source)
    return FoundScans(
        kind=kind,
        source=(place / glob,) if glob is not None and same else source,
        name=re.sub(r"[^\w.@+:-]+", "-", place.resolve().name).strip(".-") or "scans",
        subjects=subjects,
        runs=runs,
        rois=labels[0] if labels else None,
        stimulus_map=maps[0] if maps else None,
        has_confounds=confounds is not None,
        problem=problem,
    )


def _prefer_derivatives(scans: Sequence[FoundScans]) -> list[FoundScans]:
    """Return readable datasets only where there are any, what fMRIPrep made before what it was made from."""
    readable = [found for found in scans if found.runs] or list(scans)
    derived = [found for found in readable if "derivatives" in found.source[0].parts]
    return [*derived, *(found for found in readable if found not in derived)]
