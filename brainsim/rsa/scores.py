"""Turn moments into the scores of systems: alone, in pairs, all together, beside one another, and family by family.

Scores are (n_sets, n_targets, n_blocks). Where no layer has a positive weight, a system predicts nothing: its score is
0, and such cases are counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from brainsim.rsa.combine import Columns, Weigh, averaged_weights, mean_of_others, nnls_weights, pooled_weights
from brainsim.rsa.moments import Moments, pool_others


@dataclass(frozen=True)
class SystemScores:
    """Pearson's r of held-out RDMs with what systems predict.

    Parameters
    ----------
    single : ndarray of float64, (n_systems, n_targets, n_blocks)
    pair : ndarray of float64, (n_systems, n_systems, n_targets, n_blocks)
        Two systems' layers together; a system with itself is the system.
    together : ndarray of float64, (n_targets, n_blocks)
        All layers.
    n_empty : int
        Predictions of single systems without any weight, scored as 0.
    """

    single: np.ndarray
    pair: np.ndarray
    together: np.ndarray
    n_empty: int


def weigh_pooled(combine: str) -> Weigh:
    """Return the weighing by all other blocks together; it takes standardised moments."""
    pooled: list[tuple[Sequence[Moments], list[Moments]]] = []  # the last moments, and what is pooled of them

    def weigh(moments: Sequence[Moments], columns: Columns) -> list[np.ndarray]:
        if combine == "nnls" and not (pooled and pooled[0][0] is moments):
            pooled[:] = [(moments, pool_others(moments))]
        return pooled_weights(moments, columns, combine=combine, others=pooled[0][1] if pooled else None)

    return weigh


def score_sets(moments: Sequence[Moments], sets: Sequence[Columns], weigh: Weigh) -> np.ndarray:
    """Return the correlation of each block's RDMs with what some layers predict, (n_sets, n_targets, n_blocks).

    NaN where no layer has weight.
    """
    scores = np.empty((len(sets), moments[0].n_targets, len(moments)))
    for row, columns in enumerate(sets):
        for block, (m, weights) in enumerate(zip(moments, weigh(moments, columns), strict=True)):
            scores[row, :, block] = m.pearson(m.R[:, columns] @ weights.T)
    return scores


def score_systems(
    moments: Sequence[Moments], systems: Sequence[Columns], weigh: Weigh = averaged_weights
) -> SystemScores:
    """Score systems alone, in pairs and all together; by default with averaged weights, as the study does.

    Parameters
    ----------
    moments : sequence of Moments
        One per run.
    systems : sequence of sequence of int
        Layers of each system.
    weigh : callable
        From moments and layers to each block's weights.
    """
    n = len(systems)
    couples = list(combinations(range(n), 2))
    sets = [*systems, *(np.concatenate([systems[a], systems[b]]) for a, b in couples)]
    scores = score_sets(moments, [*sets, np.concatenate(list(systems))], weigh)
    single = np.nan_to_num(scores[:n])
    pair = np.empty((n, n, *single.shape[1:]))
    pair[np.arange(n), np.arange(n)] = single
    for (a, b), values in zip(couples, np.nan_to_num(scores[n:-1]), strict=True):
        pair[a, b] = pair[b, a] = values
    return SystemScores(single, pair, np.nan_to_num(scores[-1]), int(np.isnan(scores[:n]).sum()))


def residual_scores(moments: Sequence[Moments], systems: Sequence[Columns]) -> np.ndarray:
    """Return how well each system predicts what another one leaves: the study's control.

    The control's layers are fitted to each run and subtracted from it; the target system's layers are fitted to what
    is left, run by run. From the held-out run the control's averaged prediction is subtracted, and what is left is
    correlated with the target system's averaged prediction. It is a correlation of residuals in two stages, not a part
    of variance.

    Returns
    -------
    ndarray of float64, (n_systems, n_systems, n_targets, n_blocks)
        Control, target system; 0 where a system predicts nothing, as behind itself.
    """
    n = len(systems)
    scores = np.zeros((n, n, moments[0].n_targets, len(moments)))
    for a, control in enumerate(systems):
        own = np.stack([nnls_weights(m, control) for m in moments])
        left = [m.residual(m.R[:, control] @ w.T) for m, w in zip(moments, own, strict=True)]
        test = [m.residual(m.R[:, control] @ w.T) for m, w in zip(moments, mean_of_others(own), strict=True)]
        for b, target in enumerate(systems):
            if a == b:  # optimal weights leave no residual that more weight would lessen: what is fitted is rounding
                continue
            fitted = mean_of_others(np.stack([nnls_weights(m, target) for m in left]))
            for block, (m, w) in enumerate(zip(test, fitted, strict=True)):
                scores[a, b, :, block] = np.nan_to_num(m.pearson(m.R[:, target] @ w.T))
    return scores


def explained(moments: Sequence[Moments], sets: Sequence[Columns], weigh: Weigh) -> np.ndarray:
    """Return the share of held-out RDM variance that some layers explain, for each set of layers.

    Parameters
    ----------
    moments : sequence of Moments
        One per block, standardised.
    sets : sequence of sequence of int
        Layers, of subsets of families for example.
    weigh : callable
        From moments and layers to each block's weights.

    Returns
    -------
    ndarray of float64, (n_sets, n_targets, n_blocks)
        R² over pairs; negative where a prediction is worse than none.
    """
    scores = np.empty((len(sets), moments[0].n_targets, len(moments)))
    for row, columns in enumerate(sets):
        for block, (m, weights) in enumerate(zip(moments, weigh(moments, columns), strict=True)):
            scores[row, :, block] = m.r2(m.R[:, columns] @ weights.T)
    return scores


def best_layer_scores(layer_scores: np.ndarray, systems: Mapping[str, Columns]) -> tuple[np.ndarray, np.ndarray]:
    """Return each system's best layer and its score, the layer chosen on the other blocks.

    Parameters
    ----------
    layer_scores : ndarray, (n_layers, n_targets, n_blocks)
        Similarity of each layer in each block.
    systems : mapping of str to sequence of int
        Layers of each system.

    Returns
    -------
    scores : ndarray of float64, (n_systems, n_targets, n_blocks)
        NaN with one block.
    layers : ndarray of int, (n_systems, n_targets)
        The layer that is best over all blocks.
    """
    n_blocks = layer_scores.shape[2]
    scores = np.full((len(systems), *layer_scores.shape[1:]), np.nan)
    layers = np.empty((len(systems), layer_scores.shape[1]), np.int64)
    for row, columns in enumerate(systems.values()):
        own = layer_scores[np.asarray(columns)]
        layers[row] = np.asarray(columns)[own.mean(axis=2).argmax(axis=0)]
        for block in range(n_blocks if n_blocks > 1 else 0):
            chosen = np.delete(own, block, axis=2).mean(axis=2).argmax(axis=0)
            scores[row, :, block] = own[chosen, np.arange(own.shape[1]), block]
    return scores, layers
