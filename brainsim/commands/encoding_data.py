"""Turn stored BOLD and targets into subjects that saw the same thing at the same time, ready to be fitted together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from brainsim.core.errors import UnknownNameError
from brainsim.core.registry import suggest
from brainsim.core.runs import RunLayout
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
    left_out : tuple of int
        TRs that take no part in fits: those that ingest scrubbed.
    """

    run: str
    stimulus: str
    grid: TrGrid
    left_out: tuple[int, ...] = ()

    @property
    def n_kept(self) -> int:
        """Number of TRs that take part in fits."""
        return self.grid.n_trs - len(self.left_out)


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
    def has_betas(self) -> bool:
        """Whether rows are stimuli, not TRs: then nothing comes late, and no response is to be modelled."""
        return any(node.attributes.get("format") == "betas" for node in self.bold)

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
        """Rows of each run, as kernels have them."""
        return RunLayout(tuple(t.run for t in self.timing), tuple(t.grid.n_trs for t in self.timing))

    @property
    def fit_layout(self) -> RunLayout:
        """Rows of each run that take part in fits."""
        return RunLayout(tuple(t.run for t in self.timing), tuple(t.n_kept for t in self.timing))

    @property
    def left_out(self) -> tuple[int, ...]:
        """Rows of `layout` that take no part in fits."""
        return tuple(s.start + row for s, t in zip(self.layout.slices, self.timing, strict=True) for row in t.left_out)

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
            left_out=_left_out(store, node),
        )
        for node in ordered
    )
    return Subject(name, timing, tuple(ordered), store.info(f"rois/{dataset}/{name}"))


def _left_out(store: Store, node: NodeInfo) -> tuple[int, ...]:
    if "kept" not in node.arrays:
        return ()
    return tuple(row for row, is_kept in enumerate(store.read(node.path, "kept").tolist()) if not is_kept)


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


def roi_names_of(targets: NodeInfo, globs: Sequence[str]) -> list[str]:
    """Return the ROIs of a subject that globs over ROIs or streams name.

    Raises
    ------
    UnknownNameError
        A glob that names neither.
    """
    rois: list[str] = list(targets.attributes["roi_names"])
    streams: Mapping[str, Sequence[str]] = targets.attributes["streams"]
    chosen: list[str] = []
    for glob in globs:
        found = [roi for roi in rois if fnmatchcase(roi, glob)]
        found += [roi for stream, members in streams.items() if fnmatchcase(stream, glob) for roi in members]
        if not found:
            names = list(dict.fromkeys([*rois, *streams]))  # planted data name their ROIs after streams
            raise UnknownNameError(f"no ROI or stream {glob!r} in {targets.path}; {suggest(glob, names)}")
        chosen += found
    return list(dict.fromkeys(chosen))
