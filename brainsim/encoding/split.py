"""Turn the chosen candidates into per-band predictions and the share of the score that each band carries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from brainsim.compute.threads import map_in_order
from brainsim.core.progress import SILENT, Progress
from brainsim.encoding.best import SupportBest
from brainsim.encoding.chosen import KeptModels, RefittedModels, chosen_groups, refit_chosen
from brainsim.encoding.folds import FoldIndex, TargetBatch, batch_targets
from brainsim.encoding.search import single_threaded


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
    """Refit what was chosen, fold by fold, and split its test score over the bands.

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
        Candidates refitted at once.
    kept : KeptModels, optional
        Where the models are noted that are refitted.
    """
    n_bands, n_targets = gammas.shape[1], Y.shape[1]
    batch = batch_targets(Y, folds, device=device)
    r2 = torch.zeros((n_bands, n_targets), dtype=torch.float64, device=device)
    weight = torch.zeros((n_bands, n_targets), dtype=torch.float64, device=device)

    def split_one(group: tuple[int, int, torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return, per fold, the targets that chose this candidate and alpha, and their parts."""
        candidate, alpha, mask = group
        parts = []
        with torch.inference_mode():
            gamma = gammas[candidate]
            for models in refit_chosen(
                Ks, batch, folds, gamma=gamma, alpha=alphas[alpha], candidate=candidate, mask=mask
            ):
                parts.append((models.targets, _split_fold(models, batch.select(models.targets), folds, n_bands)))
                if kept is not None:
                    kept.take(models)
        return parts

    groups = list(chosen_groups(best))
    with single_threaded(), progress.task("split over bands", total=len(groups), unit="candidates") as task:
        for (candidate, _, _), parts in map_in_order(split_one, groups, n_workers=n_workers):
            gamma = torch.as_tensor(gammas[candidate], device=device, dtype=torch.float64)
            for chosen, part in parts:
                r2[:, chosen] += part
                weight[:, chosen] += gamma[:, None]
            task.advance()
    unfitted = (best.candidate < 0).any(dim=0)
    r2[:, unfitted] = torch.nan
    weight[:, unfitted] = torch.nan
    return SplitScores(
        (r2 / folds.n_folds).float().cpu().numpy(),
        (weight / folds.n_folds).float().cpu().numpy(),
    )


def _split_fold(models: RefittedModels, batch: TargetBatch, folds: FoldIndex, n_bands: int) -> torch.Tensor:
    """Return each band's part of one fold's R2, (n_bands, n_chosen)."""
    start, stop = folds.test[models.fold]
    parts = torch.zeros((n_bands, len(models.targets)), dtype=torch.float64, device=models.dual.device)
    joint = torch.stack(list(models.bands.values())).sum(dim=0)
    mean, total = batch.mean[models.fold], batch.total[models.fold].double()
    Y = batch.Y[start:stop] - mean
    # With predictions p about the fold's mean, R2 = 1 - |Y - p|^2 / |Y|^2 = sum_b <p_b, 2 Y - p> / |Y|^2.
    for band, prediction in models.bands.items():
        share = mean / len(models.bands)
        parts[band] = ((prediction - share) * (2 * Y - (joint - mean))).sum(dim=0).double() / total
    return parts
