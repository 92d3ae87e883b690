"""Turn the scores of packs of subjects into result nodes, one per subject; only what is missing is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from brainsim.commands.encoding_data import SubjectGroup, Targets
from brainsim.commands.encoding_plan import EncodingPlan, result_is_done, tell_warnings

if TYPE_CHECKING:
    from brainsim.encoding.best import SearchLog
    from brainsim.store import Store


@dataclass(frozen=True)
class PackResult:
    """The scores of one pack of subjects, side by side.

    Parameters
    ----------
    pack : SubjectGroup
        The subjects.
    targets : Targets
        Their valid targets.
    values : dict of str to ndarray, (..., n_valid)
        What was computed.
    at_edge : ndarray, (n_valid,)
        Each target's share of folds whose alpha sits at an edge of the grid.
    logs : tuple of SearchLog
        What happened in each batch of targets.
    summaries : tuple of dict, one per subject
        Further arrays that do not have a column per target.
    """

    pack: SubjectGroup
    targets: Targets
    values: dict[str, np.ndarray]
    at_edge: np.ndarray
    logs: tuple[SearchLog, ...]
    summaries: tuple[dict[str, np.ndarray], ...] = ()

    def arrays(self, index: int) -> dict[str, np.ndarray]:
        """Return one subject's arrays over all of its targets, NaN (or -1) where masked."""
        spread = {name: self.targets.spread(values, index) for name, values in self.values.items()}
        return spread | (self.summaries[index] if self.summaries else {})

    def attributes(self, plan: EncodingPlan, index: int) -> dict[str, Any]:
        """Return what a result tells of one subject beside its arrays."""
        subject = self.pack.subjects[index]
        valid = self.targets.valid[index]
        n_masked = int((~valid).sum())
        share_at_edge = float(self.at_edge[self.targets.columns[index]].mean())
        return {
            "bands": [band.name for band in plan.bands],
            "band_families": [band.family for band in plan.bands],
            "folds": [fold.name for fold in plan.folds(self.pack)],
            "alphas": list(plan.options.alphas),
            "roi_names": subject.targets.attributes["roi_names"],
            "streams": subject.targets.attributes["streams"],
            "summary": {
                "edge_share": share_at_edge,
                "n_masked": n_masked,
                "n_factored": sum(log.n_factored for log in self.logs),
                "n_float64": sum(log.n_float64 for log in self.logs),
                "n_failed": sum(len(log.failed) for log in self.logs),
            },
            "warnings": tell_warnings(
                share_at_edge=share_at_edge, n_masked=n_masked, n_targets=len(valid), logs=self.logs
            ),
            "sources": plan.sources(self.pack, subject),
        }


@dataclass(frozen=True)
class Written:
    """What was done.

    Parameters
    ----------
    keys : dict of str to dict
        Subject -> what makes its result.
    n_written, n_reused : int
        Nodes made now, and found complete.
    """

    keys: dict[str, dict[str, Any]]
    n_written: int
    n_reused: int


def write_missing(
    store: Store,
    plan: EncodingPlan,
    *,
    kind: str,
    paths: Mapping[str, str],
    extra: Mapping[str, Any],
    compute: Callable[[SubjectGroup], Iterator[PackResult]],
    describe: Mapping[str, Any],
    overwrite: bool,
    dry_run: bool,
) -> Written:
    """Compute the subjects whose result is missing, and write each pack as it comes.

    Parameters
    ----------
    kind : str
        Type of the nodes.
    paths : mapping of str to str
        Subject -> node.
    extra : mapping
        Options of this analysis, for the key and the page.
    compute : callable
        Yields the packs of a group of subjects.
    describe : mapping
        Attributes of this analysis, the same for all subjects.

    Raises
    ------
    InvalidValueError
        Where a name is taken by another result, before anything is computed.
    """
    keys: dict[str, dict[str, Any]] = {}
    todo: list[SubjectGroup] = []
    n_all = 0
    for group in plan.groups:
        keys |= {s.name: plan.result_key(kind, group, s, extra) for s in group.subjects}
        missing = tuple(
            s for s in group.subjects if not result_is_done(store, paths[s.name], keys[s.name], overwrite=overwrite)
        )
        n_all += len(group.subjects)
        if missing:
            todo.append(SubjectGroup(group.timing, missing))
    n_todo = sum(len(group.subjects) for group in todo)
    for group in () if dry_run else todo:
        for result in compute(group):
            for index, subject in enumerate(result.pack.subjects):
                store.write(
                    paths[subject.name],
                    type=kind,
                    key=keys[subject.name],
                    arrays=result.arrays(index),
                    attributes={
                        **result.attributes(plan, index),
                        **describe,
                        "options": {**plan.options.record(), **extra},
                    },
                    overwrite=overwrite,
                )
    return Written(keys, 0 if dry_run else n_todo, n_all - n_todo)
