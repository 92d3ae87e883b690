"""Turn the chosen candidates into per-band predictions and the share of the score that each band carries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from brainsim.compute.threads import MadeOnce, map_in_order, torch_threads
from brainsim.core.progress import SILENT, Progress, Task
from brainsim.encoding.best import SupportBest
from brainsim.encoding.chosen import KeptModels, RefittedModels, chosen_groups, refit_chosen
from brainsim.encoding.folds import Factor, FoldIndex, TargetBatch, batch_targets, factorise
from brainsim.encoding.search import share_mixtures

# Dual weights that are in memory while every band's kernel is read once: 1,100 targets of 3,600 TRs and 8 folds.
BLOCK_BYTES = 128 * 2**20

# What one refitted mixture may add to them at a time.
JOB_BYTES = 32 * 2**20

# A mixture and alpha, and the (n_folds, n_targets) mask of who is refitted.
Job = tuple[int, int, torch.Tensor]


@dataclass(frozen=True)
class SplitScores:
    """Product-measure decomposition of the joint test R2.

    Parameters
    ----------
    r2 : ndarray of float32, (n_bands, n_targets)
        Mean over folds of each band's part; the parts of a target sum to its joint R2. The part of band b is
        ``sum(p_b * (2 y - p)) / sum(y^2)`` with the band's prediction ``p_b`` and the joint one ``p``: himalaya's
        `r2_score_split`, after Hoffman 1960 and Pratt 1987. It is not unique variance: correlated bands divide what
        they share.
    weight : ndarray of float32, (n_bands, n_targets)
        Mean over folds of gamma.
    """

    r2: np.ndarray
    weight: np.ndarray


def split_scores(
    Ks: Sequence[np.ndarray],
    Y: np.ndarray,
    *,
    gammas: np.ndarray,
    alphas: Sequence[float],
    best: SupportBest,
    folds: FoldIndex,
    device: str = "cpu",
    n_workers: int = 1,
    kept: KeptModels | None = None,
    progress: Progress = SILENT,
) -> SplitScores:
    """Refit what was chosen, and split its test score over the bands.

    Models are refitted until their dual weights fill `BLOCK_BYTES`; then each band's kernel is read once for all of
    them. So a hundred kernels on disk are read a few times in all, and not once per model and fold.

    Parameters
    ----------
    Ks : sequence of ndarray, n_bands of (n_rows, n_rows)
        Kernels as in the search.
    Y : ndarray of float32, (n_rows, n_targets)
        BOLD as in the search.
    gammas : ndarray, (n_candidates, n_bands)
        The pool's mixtures.
    alphas : sequence of float
        The alpha grid.
    best : SupportBest
        What the search chose.
    n_workers : int
        Models refitted, and bands read, at once. It does not change a bit of the result.
    kept : KeptModels, optional
        Where the models are noted that are refitted.
    """
    n_bands, n_targets = gammas.shape[1], Y.shape[1]
    batch = batch_targets(Y, folds, device=device)
    r2 = torch.zeros((n_bands, n_targets), dtype=torch.float64, device=device)
    weight = torch.zeros((n_bands, n_targets), dtype=torch.float64, device=device)
    jobs = list(_jobs(best, folds))
    refit = _refitter(Ks, batch, folds, gammas, alphas, n_kept=n_workers)
    with torch_threads(1), progress.task("split over bands", total=2 * len(jobs), unit="steps") as task:
        for block, n_jobs in _blocks(map_in_order(refit, jobs, n_workers=n_workers), task):
            for models in block:
                gamma = torch.as_tensor(gammas[models.candidate], device=device, dtype=torch.float64)
                weight[:, models.targets] += gamma[:, None]
                if kept is not None:
                    kept.take(models)
            stacks = [_stack(block, fold, batch, folds, gammas) for fold in sorted({m.fold for m in block})]
            block.clear()  # the stacks hold copies

            def split(band: int, stacks: list[_Stack] = stacks) -> list[tuple[torch.Tensor, torch.Tensor]]:
                return _split_band(band, Ks[band], stacks, kept)

            weighted = sorted({band for stack in stacks for band in stack.bands})
            for band, parts in map_in_order(split, weighted, n_workers=n_workers):
                for targets, part in parts:
                    r2[band, targets] += part
            task.advance(n_jobs)
    unfitted = (best.candidate < 0).any(dim=0)
    r2[:, unfitted] = torch.nan
    weight[:, unfitted] = torch.nan
    return SplitScores(
        (r2 / folds.n_folds).float().cpu().numpy(),
        (weight / folds.n_folds).float().cpu().numpy(),
    )


def _refitter(
    Ks: Sequence[np.ndarray],
    batch: TargetBatch,
    folds: FoldIndex,
    gammas: np.ndarray,
    alphas: Sequence[float],
    *,
    n_kept: int,
) -> Callable[[Job], list[RefittedModels]]:
    """Return what refits jobs; those of a mixture, or of a mixture and alpha, share what is made of it.

    Functions, not an object that holds its own methods: such a circle would keep a task's kernels through the next.
    """
    mix = share_mixtures(Ks, gammas, device=str(batch.Y.device), n_kept=n_kept)

    def factorise_chosen(chosen: tuple[int, int]) -> Factor:
        candidate, alpha = chosen
        return factorise(mix(candidate), alphas[alpha], folds, n_targets=folds.n_rows)

    factors = MadeOnce(factorise_chosen, n_kept=n_kept)

    def refit(job: Job) -> list[RefittedModels]:
        candidate, alpha, mask = job
        with torch.inference_mode():
            factor = factors((candidate, alpha))
            return list(refit_chosen(mix(candidate), factor, batch, folds, candidate=candidate, mask=mask))

    return refit


def _jobs(best: SupportBest, folds: FoldIndex) -> Iterator[Job]:
    """Yield each chosen mixture and alpha with the folds and targets to refit, at most `JOB_BYTES` of weights each."""
    for candidate, alpha, mask in chosen_groups(best):
        columns = torch.nonzero(mask.any(dim=0))[:, 0]
        size = max(1, JOB_BYTES // (4 * folds.n_rows * int(mask.any(dim=1).sum())))
        for part in torch.split(columns, size):
            some = torch.zeros_like(mask)
            some[:, part] = mask[:, part]
            yield candidate, alpha, some


def _blocks(
    refitted: Iterable[tuple[Job, list[RefittedModels]]], task: Task
) -> Iterator[tuple[list[RefittedModels], int]]:
    """Yield models whose dual weights fill `BLOCK_BYTES`, and how many jobs they come from."""
    block: list[RefittedModels] = []
    n_bytes = n_jobs = 0
    for _, found in refitted:
        block += found
        n_bytes += sum(models.dual.nbytes for models in found)
        n_jobs += 1
        task.advance()
        if n_bytes >= BLOCK_BYTES:
            yield block, n_jobs
            block, n_bytes, n_jobs = [], 0, 0
    if block:
        yield block, n_jobs


@dataclass(frozen=True)
class _Stack:
    """Models of one fold side by side, so that a band's kernel meets them in one product.

    Parameters
    ----------
    fold : int
        The fold that none of them saw.
    rows : slice
        Its test rows.
    targets : Tensor of int64, (n_models,)
        Whose models they are; a target has one model per fold.
    dual : Tensor, (n_rows, n_models)
        Dual weights.
    pull : Tensor, (n_test, n_models)
        ``(2 y - p) / |y|^2`` with BOLD and joint prediction about the fold's mean: what a band's prediction is
        multiplied with to give its part.
    offset : Tensor, (n_models,)
        The fold's mean, dealt evenly to the bands of a mixture.
    gammas : ndarray, (n_models, n_bands)
        Mixtures.
    """

    fold: int
    rows: slice
    targets: torch.Tensor
    dual: torch.Tensor
    pull: torch.Tensor
    offset: torch.Tensor
    gammas: np.ndarray

    @property
    def bands(self) -> list[int]:
        """Bands that any of the mixtures gives weight to."""
        found: list[int] = np.flatnonzero(self.gammas.any(axis=0)).tolist()
        return found


def _stack(
    block: Sequence[RefittedModels], fold: int, batch: TargetBatch, folds: FoldIndex, gammas: np.ndarray
) -> _Stack:
    """Put a block's models of one fold side by side."""
    chosen = [models for models in block if models.fold == fold]
    targets = torch.cat([models.targets for models in chosen])
    mixtures = gammas[np.repeat([models.candidate for models in chosen], [len(models.targets) for models in chosen])]
    rows = slice(*folds.test[fold])
    mean, total = batch.mean[fold, targets], batch.total[fold, targets]
    # With predictions p about the fold's mean, R2 = 1 - |Y - p|^2 / |Y|^2 = sum_b <p_b, 2 Y - p> / |Y|^2.
    joint = torch.cat([models.joint for models in chosen], dim=1)
    pull = (2 * (batch.Y[rows, targets] - mean) - (joint - mean)) / total
    offset = mean / torch.as_tensor((mixtures > 0).sum(axis=1), device=mean.device)
    dual = torch.cat([models.dual for models in chosen], dim=1)
    return _Stack(fold, rows, targets, dual, pull.to(dual), offset.to(dual), mixtures)


def _split_band(
    band: int, K: np.ndarray, stacks: Sequence[_Stack], kept: KeptModels | None
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return, per stack, the targets whose mixtures give weight to a band, and its parts of their R2."""
    found = []
    with torch.inference_mode():
        for stack in stacks:
            gamma = torch.as_tensor(stack.gammas[:, band], device=stack.dual.device)
            at = torch.nonzero(gamma)[:, 0]
            if not len(at):
                continue
            is_all = len(at) == len(gamma)
            dual, pull = (X if is_all else X[:, at] for X in (stack.dual, stack.pull))
            predicted = (torch.as_tensor(K[stack.rows]).to(dual) @ dual).mul_(gamma[at].to(dual))  # (n_test, n_chosen)
            targets = stack.targets[at]
            if kept is not None:
                kept.take_band(stack.fold, band, targets, predicted)
            found.append((targets, ((predicted - stack.offset[at]) * pull).sum(dim=0).double()))
    return found
