"""Turn a task's inputs and a pool of mixtures into the best of every subset of families, by the chosen solver."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from brainsim.commands.encoding_tasks import TaskInputs

if TYPE_CHECKING:
    from brainsim.encoding.best import SearchLog, SupportBest
    from brainsim.encoding.candidates import CandidatePool
    from brainsim.encoding.chosen import KeptModels
    from brainsim.encoding.split import SplitScores

# A target whose best alpha is the largest one is saturated only if it is explained at all: noise wants infinity.
EXPLAINED_R2 = 0.01


@dataclass
class Found:
    """What a search found.

    Parameters
    ----------
    inputs : TaskInputs
        What was searched.
    pool : CandidatePool
        All mixtures that took part.
    bests : dict of int to SupportBest
        Best of each support; empty where himalaya searches each subset afresh.
    log : SearchLog
        What happened.
    notes : dict
        What must be told: the gain of refinement.
    """

    inputs: TaskInputs
    pool: CandidatePool
    bests: dict[int, SupportBest]
    log: SearchLog
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def gammas(self) -> np.ndarray:
        """Weights of the mixtures, (n_candidates, n_bands)."""
        return self.pool.gammas

    def best_of(self, mask: int) -> SupportBest:
        """Return the best for one subset."""
        ((_, best),) = self.best_of_subsets([mask])
        return best

    def best_of_subsets(self, masks: Sequence[int], *, price: float = 0.0) -> Iterator[tuple[int, SupportBest]]:
        """Yield the best for each subset, in order."""
        from brainsim.encoding.competition import best_of_subsets

        if self.inputs.task.options.solver == "loro":
            yield from best_of_subsets(self.bests, masks, price=price)
            return
        for mask in masks:
            yield mask, self._search_with_himalaya(mask)

    def _search_with_himalaya(self, mask: int) -> SupportBest:
        import torch

        from brainsim.encoding.himalaya_solver import search_with_himalaya

        inputs, options = self.inputs, self.inputs.task.options
        inside = np.flatnonzero((self.pool.supports & ~mask) == 0)
        best = search_with_himalaya(
            inputs.Ks,
            inputs.Y,
            gammas=self.gammas[inside],
            alphas=options.grid,
            folds=inputs.folds,
            backend=options.himalaya_backend,
            n_targets_batch=options.n_targets_batch,
            progress=inputs.progress,
        )
        best.candidate = torch.from_numpy(inside.astype(np.int32))[best.candidate.long()]
        return best.to(options.device)  # where the split and the nulls want it


def search_pool(
    inputs: TaskInputs,
    pool: CandidatePool,
    *,
    band_groups: Sequence[int],
    masks: Sequence[int],
    price: float = 0.0,
    label: str,
) -> Found:
    """Score every mixture of a pool, and further ones around the best where that is asked for.

    Parameters
    ----------
    pool : CandidatePool
        Mixtures.
    band_groups : sequence of int
        Group of each band, as the pool was drawn with.
    masks : sequence of int
        Subsets of groups that will be compared, all groups last.
    price : float
        What each group costs in the competition.
    label : str
        What the bar says.
    """
    from brainsim.encoding.best import SearchLog
    from brainsim.encoding.folds import index_folds
    from brainsim.encoding.refinement import RefineOptions, refine
    from brainsim.encoding.search import SearchOptions, search_supports

    started = time.monotonic()
    options = inputs.task.options
    if options.solver != "loro":
        done = SearchLog(n_candidates=pool.n_candidates, n_candidates_done=pool.n_candidates)
        return Found(inputs, pool, {}, done)
    folds = index_folds(inputs.folds, len(inputs.Y), nested=options.nested)
    search = SearchOptions(n_workers=inputs.n_workers, time_budget_s=inputs.task.budget_s, n_least=len(masks))
    bests, log = search_supports(
        inputs.Ks,
        inputs.Y,
        pool=pool,
        alphas=options.grid,
        folds=folds,
        device=inputs.device,
        options=search,
        progress=inputs.progress,
        label=label,
    )
    notes: dict[str, Any] = {}
    if search.time_budget_s is not None:
        took_s = time.monotonic() - started
        if took_s > search.time_budget_s and log.n_candidates_done <= search.n_least:
            notes["overrun"] = {"n_least": search.n_least, "budget_s": search.time_budget_s, "took_s": took_s}
        search = replace(search, time_budget_s=max(search.time_budget_s - took_s, 0))
    if not options.refine:
        return Found(inputs, pool, bests, log, notes)
    if log.is_stopped:
        return Found(inputs, pool, bests, log, {**notes, "unrefined": {"rounds": 0, "asked": options.refine}})
    refined = refine(
        inputs.Ks,
        inputs.Y,
        bests,
        pool,
        band_groups=band_groups,
        masks=masks,
        alphas=options.grid,
        folds=folds,
        price=price,
        refinement=RefineOptions(rounds=options.refine, seed=options.seed),
        device=inputs.device,
        options=search,
        progress=inputs.progress,
    )
    log.add(refined.log)
    budget_s = inputs.task.budget_s
    if refined.gain.rounds < options.refine and budget_s is not None and time.monotonic() - started > budget_s:
        notes["unrefined"] = {"rounds": refined.gain.rounds, "asked": options.refine}
    return Found(inputs, refined.pool, refined.bests, log, {**notes, "gain": asdict(refined.gain)})


def split_bands(
    inputs: TaskInputs, gammas: np.ndarray, best: SupportBest, *, kept: KeptModels | None = None
) -> SplitScores:
    """Split the score of what was chosen over the bands, and note the models where they are kept."""
    from brainsim.encoding.folds import index_folds
    from brainsim.encoding.split import split_scores

    options = inputs.task.options
    return split_scores(
        inputs.Ks,
        inputs.Y,
        gammas=gammas,
        alphas=options.grid,
        best=best,
        folds=index_folds(inputs.folds, len(inputs.Y), nested=False),
        device=inputs.device,
        n_workers=inputs.n_workers,
        kept=kept,
        progress=inputs.progress,
    )


def edge_shares(best: SupportBest, n_alphas: int) -> np.ndarray:
    """Return each target's share of folds whose alpha sits at an edge of the grid although it is explained.

    NaN where the grid is all edges.
    """
    if n_alphas < 3:
        return np.full(best.alpha.shape[1], np.nan)
    low = best.alpha == 0
    high = (best.alpha == n_alphas - 1) & (best.inner > EXPLAINED_R2)
    shares: np.ndarray = (low | high).double().mean(dim=0).cpu().numpy()
    return shares
