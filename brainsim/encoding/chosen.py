"""Turn what a search chose into the models themselves: dual weights, and predictions on the test rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from brainsim.encoding.best import SupportBest
from brainsim.encoding.folds import Factor, FoldIndex, TargetBatch, training_weights

# What of the models can be kept, and the arrays that hold it.
KEEPABLE = {
    "predictions": ("predicted",),
    "band-predictions": ("band_predicted",),
    "weights": ("dual_weights", "gamma_folds"),
}


@dataclass(frozen=True)
class RefittedModels:
    """Models of one fold that chose the same mixture and alpha.

    Parameters
    ----------
    fold : int
        The outer fold that training did not see.
    candidate : int
        The mixture.
    targets : Tensor of int64, (n_chosen,)
        Who chose it.
    dual : Tensor, (n_rows, n_chosen)
        Dual weights ``w``, zero on the rows left out; the prediction of any row is ``sum_b gamma_b K_b w``.
    joint : Tensor, (n_test, n_chosen)
        Predictions of the fold's test rows.
    """

    fold: int
    candidate: int
    targets: torch.Tensor
    dual: torch.Tensor
    joint: torch.Tensor


def chosen_groups(best: SupportBest) -> Iterator[tuple[int, int, torch.Tensor]]:
    """Yield each chosen (candidate, alpha) with the (n_folds, n_targets) mask of where it was chosen."""
    key = best.candidate.long() * (int(best.alpha.max()) + 1) + best.alpha.long()
    key[best.candidate < 0] = -1
    for value in torch.unique(key[key >= 0]):
        mask = key == value
        fold, target = (int(i[0]) for i in torch.nonzero(mask, as_tuple=True))
        yield int(best.candidate[fold, target]), int(best.alpha[fold, target]), mask


def refit_chosen(
    K: torch.Tensor, factor: Factor, batch: TargetBatch, folds: FoldIndex, *, candidate: int, mask: torch.Tensor
) -> Iterator[RefittedModels]:
    """Refit one mixture and alpha for the folds and targets that chose it, fold by fold.

    Parameters
    ----------
    K : Tensor of float32, (n_rows, n_rows)
        The mixture.
    factor : Factor
        Of it and the alpha.
    batch : TargetBatch
        All targets.
    candidate : int
        The mixture's number.
    mask : Tensor of bool, (n_folds, n_targets)
        Where it was chosen.
    """
    columns = torch.nonzero(mask.any(dim=0))[:, 0]
    C = factor.G @ batch.Y[:, columns].to(factor.dtype)
    for fold in torch.nonzero(mask.any(dim=1))[:, 0].tolist():
        at = mask[fold, columns]
        dual = training_weights(C[:, at], factor, fold)
        yield RefittedModels(fold, candidate, columns[at], dual, K[slice(*folds.test[fold])].to(dual) @ dual)


class KeptModels:
    """Arrays that hold what is kept of the chosen models.

    Parameters
    ----------
    what : sequence of str
        Names of `KEEPABLE`.
    folds : FoldIndex
        Outer folds.
    gammas : ndarray, (n_candidates, n_bands)
        The pool's mixtures.
    n_targets : int
        Number of targets.

    Attributes
    ----------
    arrays : dict of str to ndarray of float32
        ``predicted`` (n_rows, n_targets): every row by the model that did not see its fold. ``band_predicted``
        (n_rows, n_bands, n_targets): its parts, which sum to it. ``dual_weights`` (n_rows, n_folds, n_targets) and
        ``gamma_folds`` (n_folds, n_bands, n_targets): the model of fold f predicts ``sum_b gamma_b K_b w``. NaN where
        no model was chosen, and in rows that no fold tests.
    """

    def __init__(self, what: Sequence[str], folds: FoldIndex, gammas: np.ndarray, n_targets: int) -> None:
        n_bands = gammas.shape[1]
        shapes = {
            "predicted": (folds.n_rows, n_targets),
            "band_predicted": (folds.n_rows, n_bands, n_targets),
            "dual_weights": (folds.n_rows, folds.n_folds, n_targets),
            "gamma_folds": (folds.n_folds, n_bands, n_targets),
        }
        names = [name for word in what for name in KEEPABLE[word]]
        self._folds, self._gammas = folds, gammas
        self.arrays = {name: np.full(shapes[name], np.nan, np.float32) for name in names}

    def take(self, models: RefittedModels) -> None:
        """Note models; those of other folds and targets may be noted at the same time."""
        targets, fold = models.targets.cpu().numpy(), models.fold
        rows = slice(*self._folds.test[fold])
        if "predicted" in self.arrays:
            self.arrays["predicted"][rows, targets] = models.joint.float().cpu().numpy()
        if "band_predicted" in self.arrays:
            self.arrays["band_predicted"][rows, :, targets] = 0
        if "dual_weights" in self.arrays:
            self.arrays["dual_weights"][:, fold, targets] = models.dual.float().cpu().numpy()
            self.arrays["gamma_folds"][fold, :, targets] = self._gammas[models.candidate]

    def take_band(self, fold: int, band: int, targets: torch.Tensor, predicted: torch.Tensor) -> None:
        """Note what a band adds to the predictions of a fold, (n_test, n_chosen), once its models have been noted."""
        if "band_predicted" in self.arrays:
            rows = slice(*self._folds.test[fold])
            self.arrays["band_predicted"][rows, band, targets.cpu().numpy()] = predicted.float().cpu().numpy()


def kept_bytes(what: Sequence[str], *, n_rows: int, n_folds: int, n_bands: int, n_targets: int) -> int:
    """Return what `KeptModels` holds, in bytes."""
    per_target = {
        "predictions": n_rows,
        "band-predictions": n_rows * n_bands,
        "weights": n_folds * (n_rows + n_bands),
    }
    return 4 * n_targets * sum(per_target[word] for word in what)
