"""Turn stored BOLD and targets into subjects that saw the same thing at the same time, ready to be fitted together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from brainsim.core.errors import UnknownNameError
from brainsim.core.registry import suggest
from brainsim.core.runs import RunLayout, find_shared, group_repeats
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
    film : str
        What longer film the stimulus is a part of; the stimulus itself by default.
    film_start_s : float
        Where in it the stimulus begins, seconds.
    """

    run: str
    stimulus: str
    grid: TrGrid
    left_out: tuple[int, ...] = ()
    film: str = ""
    film_start_s: float = 0.0

    @property
    def n_kept(self) -> int:
        """Number of TRs that take part in fits."""
        return self.grid.n_trs - len(self.left_out)

    @property
    def shown(self) -> tuple[str, float, float]:
        """What was shown, and the first and the last of its seconds."""
        begin_s = self.film_start_s + self.grid.start_s
        return self.film or f"stimulus {self.stimulus}", begin_s, begin_s + self.grid.n_trs * self.grid.tr_s


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
        """Rows of each run that take part in fits, and which runs are held out together."""
        groups = group_repeats([t.shown for t in self.timing])
        units = tuple(k for k, group in enumerate(groups) for _ in group)  # runs of a group are neighbours
        return RunLayout(tuple(t.run for t in self.timing), tuple(t.n_kept for t in self.timing), units)

    @property
    def left_out(self) -> tuple[int, ...]:
        """Rows of `layout` that take no part in fits."""
        return tuple(s.start + row for s, t in zip(self.layout.slices, self.timing, strict=True) for row in t.left_out)

    @property
    def stimuli(self) -> list[str]:
        """Stimuli in the order in which runs first show them."""
        return list(dict.fromkeys(t.stimulus for t in self.timing))


def tell_repeats(group: SubjectGroup) -> list[str]:
    """Return which runs mostly show the same seconds, half a sentence each."""
    return [
        f"{' and '.join(group.timing[k].run for k in runs)} show the same seconds of {group.timing[runs[0]].shown[0]}"
        for runs in group_repeats([t.shown for t in group.timing])
        if len(runs) > 1
    ]


def tell_shared(group: SubjectGroup) -> list[str]:
    """Return which runs show the same, and what cross-validation makes of it."""
    names = [t.run for t in group.timing]
    told = [
        f"{said}: they were left out together, as what is learned from one would be tested on the other."
        for said in tell_repeats(group)
    ]
    overlaps = [
        f"{names[one]} and {names[other]} ({both_s:.3g} s)"
        for one, other, both_s, is_repeat in find_shared([t.shown for t in group.timing])
        if not is_repeat
    ]
    if overlaps:
        told.append(
            f"some runs show the same seconds, which leak from training into tests: {', '.join(overlaps)}; ingest "
            "--overlap trim divides them."
        )
    return told


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
    timings = [
        RunTiming(
            run=node.attributes["run"],
            stimulus=node.attributes["stimulus"],
            grid=TrGrid(
                int(node.arrays["values"][0][0]), float(node.attributes["tr_s"]), float(node.attributes["start_s"])
            ),
            left_out=_left_out(store, node),
            film=str(node.attributes.get("film", "")),
            film_start_s=float(node.attributes.get("film_start_s", 0.0)),
        )
        for node in ordered
    ]
    # Runs that show the same are neighbours, so that a fold of them is one range of rows.
    order = [k for group in group_repeats([t.shown for t in timings]) for k in group]
    return Subject(
        name,
        tuple(timings[k] for k in order),
        tuple(ordered[k] for k in order),
        store.info(f"rois/{dataset}/{name}"),
    )


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
