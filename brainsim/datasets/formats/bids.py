"""Turn a BIDS tree, raw or derived by any fMRIPrep, into runs, by walking it and reading its names."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from brainsim.core.errors import InputFileError, InvalidValueError, UnknownNameError
from brainsim.core.registry import suggest, unknown_name
from brainsim.datasets.dataset_format import DatasetFormat
from brainsim.datasets.entities import IMAGE_ENDINGS, BidsName, parse_name
from brainsim.datasets.runs import FoundRuns, RunSource, Selection, choose_subjects
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
    images = _choose_tasks(images, selection.task, root)
    images = _choose_descs(images, root, notes)
    images = _choose_space(images, selection.space, root)
    return FoundRuns(tuple(_make_source(name, images, tree, root) for name in images), tuple(notes))


@dataclass
class _Tree:
    images: list[BidsName] = field(default_factory=list)
    sidecars: list[BidsName] = field(default_factory=list)
    confounds: list[BidsName] = field(default_factory=list)


def _walk(root: Path) -> _Tree:
    tree = _Tree()
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = sorted(f for f in folders if f not in _PASSED_BY and not f.startswith("."))
        for file in sorted(files):
            if file.startswith("."):
                continue
            name = parse_name(Path(folder) / file)
            if name.suffix == "bold" and name.ending in IMAGE_ENDINGS:
                if name.entities.get("part") not in _NOT_MAGNITUDE:
                    tree.images.append(name)
            elif name.suffix == "bold" and name.ending == ".json":
                tree.sidecars.append(name)
            elif name.suffix == "timeseries" and name.entities.get("desc") == "confounds" and ".tsv" in name.ending:
                tree.confounds.append(name)
    return tree


def _where_else(root: Path) -> str:
    inner = root / "derivatives"
    pipelines = sorted(p for p in inner.iterdir() if p.is_dir()) if inner.is_dir() else []
    if pipelines:
        return f"derivatives are trees of their own: brainsim ingest {pipelines[0]}"
    return "--format nifti takes files of any name"


def _choose_tasks(images: list[BidsName], task: str | None, root: Path) -> list[BidsName]:
    tasks = sorted({name.entities.get("task", "") for name in images})
    if task is None:
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


def _choose_descs(images: list[BidsName], root: Path, notes: list[str]) -> list[BidsName]:
    """Choose between versions of the same runs: preprocessed ones before all others."""
    descs = sorted({name.entities.get("desc", "") for name in images})
    if len(descs) == 1:
        return images
    if "preproc" not in descs:
        raise InvalidValueError(
            f"{root} has runs in {len(descs)} versions (desc): {', '.join(d or 'none' for d in descs)}; one is wanted.",
            hint="name a folder that holds one of them",
        )
    others = ", ".join(f"desc-{desc}" if desc else "raw" for desc in descs if desc != "preproc")
    notes.append(f"preprocessed runs (desc-preproc) are taken; {others} of the same tree are left.")
    return [name for name in images if name.entities.get("desc") == "preproc"]


def _choose_space(images: list[BidsName], space: str | None, root: Path) -> list[BidsName]:
    spaces = sorted({name.entities.get("space", NATIVE) for name in images})
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
    return [name for name in images if name.entities.get("space", NATIVE) == wanted]


def _make_source(name: BidsName, images: Sequence[BidsName], tree: _Tree, root: Path) -> RunSource:
    sidecar, sidecar_path = _find_sidecar(name, tree.sidecars)
    return RunSource(
        subject=f"sub-{name.entities['sub']}",
        run=_label(name, images),
        path=name.path,
        open=partial(VolumeSignal, name.path),
        entities=dict(name.entities),
        space=name.entities.get("space", NATIVE),
        confounds=_find_confounds(name, tree.confounds),
        sidecar=sidecar,
        sidecar_path=sidecar_path,
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


def _find_confounds(name: BidsName, confounds: Sequence[BidsName]) -> Path | None:
    def run_of(n: BidsName) -> dict[str, str]:
        return {k: v for k, v in n.run_entities if k not in ("echo", "part")}

    fitting = [c.path for c in confounds if run_of(c) == run_of(name)]
    beside = [path for path in fitting if path.parent == name.path.parent]
    return next(iter(beside or fitting), None)


FORMAT = DatasetFormat(
    name="bids",
    summary="a BIDS tree, raw or derived, found by sub-, ses-, task-, run-, space- and desc-",
    recognises=recognises,
    find=find,
    rank=10,
)
