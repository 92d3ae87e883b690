"""Turn a BIDS tree, raw or derived by any fMRIPrep, into runs, by walking it and reading its names."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from brainsim.core.errors import InputFileError, InvalidValueError, UnknownNameError
from brainsim.core.registry import suggest, unknown_name
from brainsim.datasets.cifti import CiftiSignal
from brainsim.datasets.dataset_format import DatasetFormat
from brainsim.datasets.entities import SERIES_ENDINGS, VOLUME_ENDINGS, BidsName, parse_name
from brainsim.datasets.gifti import GiftiSignal, is_left, pair_of
from brainsim.datasets.runs import FoundRuns, RunSource, Selection, Signal, choose_subjects
from brainsim.datasets.structures import GRAYORDINATES, SURFACE
from brainsim.datasets.volumes import VolumeSignal

NATIVE = "native"
# Folders of a BIDS tree that hold no runs of it, or those of other pipelines.
_PASSED_BY = {"sourcedata", "code", "stimuli", "figures", "log", "logs", "work", "derivatives"}
_NOT_MAGNITUDE = {"phase", "real", "imag"}


def recognises(paths: Sequence[Path]) -> bool:
    """Return whether the source is one folder that is, or holds, subjects."""
    if len(paths) != 1 or not paths[0].is_dir():
        return False
    folder = paths[0]
    if (folder / "dataset_description.json").exists() or folder.name.startswith("sub-"):
        return True
    return any(child.is_dir() and child.name.startswith("sub-") for child in folder.iterdir())


def find(paths: Sequence[Path], selection: Selection) -> FoundRuns:
    """Find the BOLD images of a tree, their sidecars and confounds."""
    if len(paths) != 1 or not paths[0].is_dir():
        raise InputFileError(
            f"{', '.join(map(str, paths))} is not one folder; a BIDS tree is wanted.", hint="--format nifti takes files"
        )
    root = paths[0]
    tree = _walk(root)
    images = [name for name in tree.images if "sub" in name.entities]
    if not images:
        raise InputFileError(f"{root} holds no BOLD image of a subject (sub-…_bold.nii.gz).", hint=_where_else(root))
    subjects = choose_subjects([f"sub-{n.entities['sub']}" for n in images], selection.subjects, where=root)
    images = [name for name in images if f"sub-{name.entities['sub']}" in subjects]
    notes: list[str] = []
    images = _choose_sessions(images, selection.session, root)
    images = _choose_tasks(images, selection.task, selection.default_task, root)
    images = _choose_descs(images, selection.desc, root, notes)
    images = _choose_space(images, selection.space, root, notes)
    return FoundRuns(tuple(_make_source(name, images, tree, root) for name in images), tuple(notes))


@dataclass
class _Tree:
    images: list[BidsName] = field(default_factory=list)
    sidecars: list[BidsName] = field(default_factory=list)
    confounds: list[BidsName] = field(default_factory=list)
    events: list[BidsName] = field(default_factory=list)


def _walk(root: Path) -> _Tree:
    tree = _Tree()
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = sorted(f for f in folders if f not in _PASSED_BY and not f.startswith("."))
        for file in sorted(files):
            if file.startswith("."):
                continue
            name = parse_name(Path(folder) / file)
            if name.suffix == "bold" and name.ending in (*VOLUME_ENDINGS, *SERIES_ENDINGS):
                # The right hemisphere comes with the left.
                is_other_half = name.ending.endswith(".gii") and not is_left(name.path)
                if name.entities.get("part") not in _NOT_MAGNITUDE and not is_other_half:
                    tree.images.append(name)
            elif name.suffix == "bold" and name.ending == ".json":
                tree.sidecars.append(name)
            elif name.suffix == "timeseries" and name.entities.get("desc") == "confounds" and ".tsv" in name.ending:
                tree.confounds.append(name)
            elif name.suffix == "events" and name.ending == ".tsv":
                tree.events.append(name)
    return tree


def _where_else(root: Path) -> str:
    inner = root / "derivatives"
    pipelines = sorted(p for p in inner.iterdir() if p.is_dir()) if inner.is_dir() else []
    if pipelines:
        return f"derivatives are trees of their own: brainsim ingest {pipelines[0]}"
    return "--format nifti takes files of any name"


def _choose_tasks(images: list[BidsName], task: str | None, default: str | None, root: Path) -> list[BidsName]:
    tasks = sorted({name.entities.get("task", "") for name in images})
    if task is None:
        usual = [name for name in images if default and fnmatchcase(name.entities.get("task", ""), default)]
        if usual:
            return usual
        if len(tasks) > 1:
            raise InvalidValueError(
                f"{root} has runs of {len(tasks)} tasks: {', '.join(tasks)}; one is wanted.",
                hint=f"--task {tasks[0]} (or a pattern, such as --task '{tasks[0][:3]}*')",
            )
        return images
    wanted = task.removeprefix("task-")
    chosen = [name for name in images if fnmatchcase(name.entities.get("task", ""), wanted)]
    if not chosen:
        raise UnknownNameError(
            f"no runs of task {wanted!r} in {root}; {suggest(wanted, tasks)}", hint=f"--task {tasks[0]}"
        )
    return chosen


def _choose_sessions(images: list[BidsName], session: str | None, root: Path) -> list[BidsName]:
    if session is None:
        return images
    wanted = session.removeprefix("ses-")
    chosen = [name for name in images if fnmatchcase(name.entities.get("ses", ""), wanted)]
    if not chosen:
        sessions = sorted({name.entities.get("ses", "none") for name in images})
        raise UnknownNameError(
            f"no runs of session {wanted!r} in {root}; {suggest(wanted, sessions)}", hint=f"--session {sessions[0]}"
        )
    return chosen


def _choose_descs(images: list[BidsName], desc: str | None, root: Path, notes: list[str]) -> list[BidsName]:
    """Choose between versions of the same runs: preprocessed ones before all others; series on surfaces name none."""
    if desc is not None:
        wanted = desc.removeprefix("desc-")
        chosen = [name for name in images if name.entities.get("desc", "none") == wanted]
        if not chosen:
            there = sorted({name.entities.get("desc", "none") for name in images})
            raise unknown_name(f"desc of the runs in {root}:", wanted, there, hint=f"--desc {there[0]}")
        return chosen
    surfaces = [name for name in images if name.ending in SERIES_ENDINGS]
    return _choose_version([name for name in images if name.ending in VOLUME_ENDINGS], root, notes) + surfaces


def _choose_version(images: list[BidsName], root: Path, notes: list[str]) -> list[BidsName]:
    descs = sorted({name.entities.get("desc", "") for name in images})
    if len(descs) <= 1:
        return images
    if "preproc" not in descs:
        raise InvalidValueError(
            f"{root} has runs in {len(descs)} versions (desc): {', '.join(d or 'none' for d in descs)}; one is wanted.",
            hint=f"--desc {descs[-1]}, or name a folder that holds one of them",
        )
    others = ", ".join(f"desc-{desc}" if desc else "raw" for desc in descs if desc != "preproc")
    notes.append(f"preprocessed runs (desc-preproc) are taken; {others} of the same tree are left.")
    return [name for name in images if name.entities.get("desc") == "preproc"]


def _space_of(name: BidsName) -> str:
    """Return the space that a name tells, else what its kind of file lies in."""
    unnamed = {".dtseries.nii": GRAYORDINATES, **dict.fromkeys(VOLUME_ENDINGS, NATIVE)}
    return name.entities.get("space", unnamed.get(name.ending, SURFACE))


def _choose_space(images: list[BidsName], space: str | None, root: Path, notes: list[str]) -> list[BidsName]:
    spaces = sorted({_space_of(name) for name in images})
    volumes = [name for name in images if name.ending in VOLUME_ENDINGS]
    in_volumes = {_space_of(name) for name in volumes}
    if space is None and len(in_volumes) == 1 < len(spaces):
        others = sorted(set(spaces) - in_volumes)
        notes.append(f"volumes (space {in_volumes.pop()}) are taken; --space {others[0]} takes those on surfaces.")
        return volumes
    if space is None:
        if len(spaces) > 1:
            raise InvalidValueError(
                f"{root} has runs in {len(spaces)} spaces: {', '.join(spaces)}; one is wanted.",
                hint=f"--space {spaces[0]}",
            )
        return images
    wanted = space.removeprefix("space-")
    if wanted not in spaces:
        raise unknown_name(f"space of the runs in {root}:", wanted, spaces, hint=f"--space {spaces[0]}")
    return [name for name in images if _space_of(name) == wanted]


def _make_source(name: BidsName, images: Sequence[BidsName], tree: _Tree, root: Path) -> RunSource:
    sidecar, sidecar_path = _find_sidecar(name, tree.sidecars)
    beside: tuple[Path, ...] = ()
    opener: Callable[[], Signal]
    if name.ending in VOLUME_ENDINGS:
        opener = partial(VolumeSignal, name.path)
    elif name.ending.endswith(".gii"):
        left, right = pair_of(name.path, what="GIFTI file")
        opener, beside = partial(GiftiSignal, left, right), (right,)
    else:
        opener = partial(CiftiSignal, name.path)
    return RunSource(
        subject=f"sub-{name.entities['sub']}",
        run=_label(name, images),
        path=name.path,
        open=opener,
        entities=dict(name.entities),
        space=_space_of(name),
        confounds=_find_table(name, tree.confounds),
        events=_find_table(name, tree.events),
        sidecar=sidecar,
        sidecar_path=sidecar_path,
        beside=beside,
    )


def _label(name: BidsName, images: Sequence[BidsName]) -> str:
    """Return "run-1"; with session and task before it where the subject's runs come from several."""
    parts = []
    for entity in ("ses", "task"):
        own = {n.entities.get(entity) for n in images if n.entities["sub"] == name.entities["sub"]}
        if len(own) > 1 and entity in name.entities:
            parts.append(f"{entity}-{name.entities[entity]}")
    return "_".join([*parts, f"run-{name.entities.get('run', '1')}"])


def _find_sidecar(name: BidsName, sidecars: Sequence[BidsName]) -> tuple[Mapping[str, Any], Path | None]:
    """Merge the JSON files that apply to an image by BIDS inheritance; the nearest wins."""
    merged: dict[str, Any] = {}
    nearest = None
    above = [
        s
        for s in sidecars
        if s.path.parent in name.path.parents and all(name.entities.get(k) == v for k, v in s.entities.items())
    ]
    for sidecar in sorted(above, key=lambda s: (len(s.path.parts), len(s.entities))):
        merged.update(_read_json(sidecar.path))
        nearest = sidecar.path
    return merged, nearest


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputFileError(
            f"the sidecar {path} is no JSON file: {error}.", hint=f"python -m json.tool {path}"
        ) from error
    if not isinstance(value, dict):
        raise InputFileError(
            f"the sidecar {path} holds a {type(value).__name__}; a JSON object is wanted.",
            hint='{"RepetitionTime": 2.0}',
        )
    return value


def _find_table(name: BidsName, tables: Sequence[BidsName]) -> Path | None:
    """Return the table of a run, best beside it; one for all runs of a task may lie above (BIDS inheritance)."""

    def run_of(n: BidsName) -> dict[str, str]:
        return {k: v for k, v in n.run_entities if k not in ("echo", "part")}

    fitting = [table.path for table in tables if run_of(table) == run_of(name)]
    beside = [path for path in fitting if path.parent == name.path.parent]
    own = run_of(name)
    above = [
        table.path
        for table in tables
        if "sub" not in table.entities
        and table.path.parent in name.path.parents
        and all(own.get(k) == v for k, v in run_of(table).items())
    ]
    return next(iter(beside or fitting or above), None)


FORMAT = DatasetFormat(
    name="bids",
    summary="a BIDS tree, raw or derived, found by sub-, ses-, task-, run-, space- and desc-",
    recognises=recognises,
    find=find,
    rank=10,
)
