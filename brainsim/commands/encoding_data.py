"""Turn stored BOLD and targets into subjects that saw the same thing at the same time, ready to be fitted together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np

from brainsim.core.errors import AlignmentError, InvalidValueError, UnknownNameError
from brainsim.core.registry import suggest
from brainsim.core.runs import Fold, RunLayout
from brainsim.core.timing import TrGrid

if TYPE_CHECKING:
    from brainsim.store import NodeInfo, Store


@dataclass(frozen=True)
class RunTiming:
    """What one run's rows are rows of.

    Parameters
    ----------
    run, stimulus : str
        The run's label, and the stimulus that was shown.
    grid : TrGrid
        Its TRs in stimulus time.
    """

    run: str
    stimulus: str
    grid: TrGrid


@dataclass(frozen=True)
class Subject:
    """One subject's stored runs.

    Parameters
    ----------
    name : str
        Subject label.
    timing : tuple of RunTiming
        One per run, in order.
    bold : tuple of NodeInfo
        The run nodes, in the same order.
    targets : NodeInfo
        The node of voxels, ROIs and streams.
    """

    name: str
    timing: tuple[RunTiming, ...]
    bold: tuple[NodeInfo, ...]
    targets: NodeInfo

    @property
    def digests(self) -> list[str]:
        """What made this subject's data, for the keys of results."""
        return [self.targets.digest, *(node.digest for node in self.bold)]

    @property
    def sources(self) -> list[str]:
        """Node paths of this subject's data."""
        return [self.targets.path, *(node.path for node in self.bold)]


@dataclass(frozen=True)
class SubjectGroup:
    """Subjects whose runs have the same stimuli at the same times: one set of kernels and factorisations serves them.

    Parameters
    ----------
    timing : tuple of RunTiming
        Shared by all.
    subjects : tuple of Subject
        At least one.
    """

    timing: tuple[RunTiming, ...]
    subjects: tuple[Subject, ...]

    @property
    def layout(self) -> RunLayout:
        """Rows of each run."""
        return RunLayout(tuple(t.run for t in self.timing), tuple(t.grid.n_trs for t in self.timing))

    @property
    def stimuli(self) -> list[str]:
        """Stimuli in the order in which runs first show them."""
        return list(dict.fromkeys(t.stimulus for t in self.timing))


def find_subjects(store: Store, dataset: str, wanted: Sequence[str] = ()) -> list[Subject]:
    """Find a dataset's subjects in the store.

    Parameters
    ----------
    store : Store
        An open store.
    dataset : str
        Name given at ingest.
    wanted : sequence of str
        Subjects (globs, with or without ``sub-``); all by default.

    Raises
    ------
    UnknownNameError
        An unknown dataset or subject.
    """
    runs = store.nodes(f"bold/{dataset}", type="bold")
    if not runs:
        names = sorted({node.path.split("/")[1] for node in store.nodes("bold", type="bold")})
        raise UnknownNameError(
            f"no dataset {dataset!r} in {store.path}; {suggest(dataset, names)}",
            hint="brainsim ingest SOURCE --dataset NAME --store STORE",
        )
    by_subject: dict[str, list[NodeInfo]] = {}
    for node in runs:
        by_subject.setdefault(node.attributes["subject"], []).append(node)
    names = [name for name in by_subject if not wanted or any(_names(name, glob) for glob in wanted)]
    for glob in wanted:
        if not any(_names(name, glob) for name in by_subject):
            raise UnknownNameError(f"no subject {glob!r} in {dataset}; {suggest(glob, sorted(by_subject))}")
    return [_subject(store, dataset, name, by_subject[name]) for name in sorted(names)]


def _names(name: str, glob: str) -> bool:
    return fnmatchcase(name.removeprefix("sub-"), glob.removeprefix("sub-"))


def _subject(store: Store, dataset: str, name: str, runs: Sequence[NodeInfo]) -> Subject:
    ordered = sorted(runs, key=lambda node: _natural(node.attributes["run"]))
    timing = tuple(
        RunTiming(
            run=node.attributes["run"],
            stimulus=node.attributes["stimulus"],
            grid=TrGrid(
                int(node.arrays["values"][0][0]), float(node.attributes["tr_s"]), float(node.attributes["start_s"])
            ),
        )
        for node in ordered
    )
    return Subject(name, timing, tuple(ordered), store.info(f"rois/{dataset}/{name}"))


def _natural(label: str) -> tuple[Any, ...]:
    """Return a key that sorts run-2 before run-10."""
    digits = "".join(c if c.isdigit() else " " for c in label).split()
    return (tuple(int(d) for d in digits), label)


def group_by_timing(subjects: Iterable[Subject]) -> list[SubjectGroup]:
    """Group subjects whose runs line up exactly."""
    groups: dict[tuple[RunTiming, ...], list[Subject]] = {}
    for subject in subjects:
        groups.setdefault(subject.timing, []).append(subject)
    return [SubjectGroup(timing, tuple(members)) for timing, members in groups.items()]


@dataclass(frozen=True)
class Targets:
    """The valid targets of a group's subjects, side by side.

    Parameters
    ----------
    Y : ndarray of float32, (n_rows, n_valid)
        Runs stacked, subjects side by side; no NaN.
    valid : tuple of ndarray of bool, (n_targets,) per subject
        Which of a subject's targets are in `Y`.
    """

    Y: np.ndarray
    valid: tuple[np.ndarray, ...]

    @property
    def columns(self) -> list[slice]:
        """Columns of `Y` of each subject."""
        stops = np.cumsum([int(v.sum()) for v in self.valid]).tolist()
        return [slice(a, b) for a, b in zip([0, *stops[:-1]], stops, strict=True)]

    def spread(self, values: np.ndarray, subject: int) -> np.ndarray:
        """Return one subject's part of (..., n_valid) over all of its targets, NaN (or -1) where masked."""
        part = values[..., self.columns[subject]]
        fill = -1 if np.issubdtype(values.dtype, np.integer) else np.nan
        out = np.full((*part.shape[:-1], len(self.valid[subject])), fill, dtype=part.dtype)
        out[..., self.valid[subject]] = part
        return out


def load_targets(store: Store, group: SubjectGroup, folds: Sequence[Fold]) -> Targets:
    """Read a group's BOLD; a target that is masked in any run, or never varies in a test fold, is left out of all.

    Raises
    ------
    AlignmentError
        A run whose number of targets differs from the subject's.
    InvalidValueError
        A subject without a single valid target.
    """
    columns, valids = [], []
    for subject in group.subjects:
        n_targets = int(subject.targets.attributes["n_targets"])
        runs = []
        valid = np.ones(n_targets, bool)
        for node in subject.bold:
            values = store.read(node.path, "values")
            if values.shape[1] != n_targets:
                raise AlignmentError(
                    f"{node.path} has {values.shape[1]} targets; {subject.targets.path} has {n_targets}.",
                    hint="ingest the subject again with --overwrite",
                )
            valid &= store.read(node.path, "valid").astype(bool) & np.isfinite(values).all(axis=0)
            runs.append(values)
        stacked = np.concatenate(runs).astype(np.float32, copy=False)
        for fold in folds:
            valid &= np.ptp(stacked[fold.test], axis=0) > 0  # where nothing varies there is nothing to explain
        if not valid.any():
            raise InvalidValueError(
                f"none of the {n_targets} targets of {subject.targets.path} is finite and varies in every test fold.",
                hint="brainsim report shows the runs' quality; --subjects leaves the subject out",
            )
        columns.append(stacked[:, valid])
        valids.append(valid)
    return Targets(np.ascontiguousarray(np.concatenate(columns, axis=1)), tuple(valids))
