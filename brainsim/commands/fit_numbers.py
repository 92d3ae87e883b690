"""Turn the inputs of one task into the scores of a fit: joint, per band, and of every layer alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from brainsim.commands.encoding_nulls import add_nulls
from brainsim.commands.encoding_options import DESCENT
from brainsim.commands.encoding_search import edge_shares, search_pool, split_bands
from brainsim.commands.encoding_tasks import TaskInputs, TaskNumbers, sum_regions

if TYPE_CHECKING:
    from brainsim.encoding.best import SearchLog
    from brainsim.encoding.candidates import CandidatePool
    from brainsim.encoding.chosen import KeptModels


def compute_fit(inputs: TaskInputs) -> TaskNumbers:
    """Search one pool over all bands, and split the score of what was chosen over them."""
    import torch

    options = inputs.task.options
    if options.solver == DESCENT:
        numbers = _hyper_gradient(inputs)
    else:
        found = search_pool(inputs, fit_pool(inputs), band_groups=[0] * len(inputs.Ks), masks=[1], label="fit")
        best = found.best_of(1)
        kept = _kept_models(inputs, found.gammas)
        split = split_bands(inputs, found.gammas, best, kept=kept)
        numbers = TaskNumbers(
            values={
                "r2": best.r2.mean(dim=0).cpu().numpy(),
                "r": best.r.mean(dim=0).cpu().numpy(),
                "r2_folds": best.r2.cpu().numpy(),
                "r_folds": best.r.cpu().numpy(),
                "split_r2": split.r2,
                "weight": split.weight,
                "alpha_index": best.alpha.cpu().numpy().astype(np.int16),
                **kept.arrays,
            },
            at_edge=edge_shares(best, len(options.grid)),
            log=found.log,
            is_scored=torch.isfinite(best.r2).all(dim=0).cpu().numpy(),
            notes=found.notes,
        )
        add_nulls(found, inputs, numbers)
    numbers.sums["r2_folds"] = sum_regions(numbers.values["r2_folds"], inputs.regions)
    if len(inputs.layer_Ks):
        numbers.values["layer_r2"], log = _layer_curves(inputs)
        numbers.log.n_factored += log.n_factored
        numbers.log.n_float64 += log.n_float64
    return numbers


def _kept_models(inputs: TaskInputs, gammas: np.ndarray) -> KeptModels:
    """Return where to note what the user wants to keep of the chosen models."""
    from brainsim.encoding.chosen import KeptModels
    from brainsim.encoding.folds import index_folds

    folds = index_folds(inputs.folds, len(inputs.Y), nested=False)
    return KeptModels(inputs.task.analysis.get("keep", ()), folds, gammas, inputs.Y.shape[1])


def _hyper_gradient(inputs: TaskInputs) -> TaskNumbers:
    """Let himalaya descend in the weights of the bands; there is no pool, so no alpha and no candidate to tell of."""
    from brainsim.encoding.best import SearchLog
    from brainsim.encoding.himalaya_gradient import search_with_hyper_gradient

    options = inputs.task.options
    scores = search_with_hyper_gradient(
        inputs.Ks,
        inputs.Y,
        folds=inputs.folds,
        backend=options.himalaya_backend,
        n_targets_batch=options.n_targets_batch,
        seed=options.seed,
        progress=inputs.progress,
    )
    values = {
        "r2": scores.r2.mean(axis=0),
        "r": scores.r.mean(axis=0),
        "r2_folds": scores.r2,
        "r_folds": scores.r,
        "split_r2": scores.split_r2,
        "weight": scores.weight,
    }
    is_scored = np.isfinite(values["r2"])
    return TaskNumbers(values=values, at_edge=np.full(len(is_scored), np.nan), log=SearchLog(), is_scored=is_scored)


def fit_pool(inputs: TaskInputs) -> CandidatePool:
    """Draw the mixtures. A fit asks for the best one of all bands: one group, so that every candidate competes."""
    from brainsim.encoding.candidates import draw_pool

    options = inputs.task.options
    return draw_pool(
        [0] * len(inputs.Ks),
        n_candidates=options.n_candidates,
        concentration=options.concentration,
        seed=options.seed,
    )


def _layer_curves(inputs: TaskInputs) -> tuple[np.ndarray, SearchLog]:
    """Return the test R2 of each layer alone, (n_layers, n_fitted), and what happened."""
    from brainsim.encoding.candidates import single_bands
    from brainsim.encoding.folds import index_folds
    from brainsim.encoding.search import SearchOptions, search_supports

    options = inputs.task.options
    pool = single_bands(len(inputs.layer_Ks))
    bests, log = search_supports(
        inputs.layer_Ks,
        inputs.Y,
        pool=pool,
        alphas=options.grid,
        folds=index_folds(inputs.folds, len(inputs.Y), nested=options.nested),
        device=inputs.device,
        options=SearchOptions(n_workers=inputs.n_workers),
        progress=inputs.progress,
        label="layer curves",
    )
    return np.stack([bests[support].r2.mean(dim=0).cpu().numpy() for support in pool.supports.tolist()]), log
