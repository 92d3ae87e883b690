"""Turn RDMs of stimuli into scores of combined layers among stimuli that were held out, also draw by draw of stimuli.

Every fifth stimulus is held out together, since neighbours are often of one kind. Weights are fitted on the pairs among
all other stimuli, so that they never saw a stimulus that is scored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np

from brainsim.rsa.combine import Columns, nnls_weights, ridge_weights, standardise
from brainsim.rsa.compare import SEE_ZERO, as_seen, compare_each
from brainsim.rsa.drawn import DrawnPairing, DrawnRdms
from brainsim.rsa.moments import pair_moments
from brainsim.stats.pair_sums import PairSums
from brainsim.stats.stimulus_bootstrap import pairs_of

# Stimuli are held out in so many parts.
N_FOLDS = 5

# Fewer stimuli than this in a part have too few pairs to be scored.
MIN_HELD_OUT = 4

# Pairs among fewer stimuli than this have no correlation to speak of, however often each was drawn.
MIN_DRAWN = 3

# Draws of which sums are kept at once: with 12 layers and 15 subjects 5 MB, with 108 layers 200 MB.
DRAWS = 100


def fold_of(n_stimuli: int) -> np.ndarray:
    """Return the part with which each stimulus is held out, (n_stimuli,)."""
    return np.arange(n_stimuli) % N_FOLDS


def score_held_out(
    rdms: np.ndarray, brain: np.ndarray, sets: Sequence[Columns], *, n_stimuli: int, compare: str, combine: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return similarity and explained variance of sets of layers among held-out stimuli.

    Parameters
    ----------
    rdms, brain : ndarray, (n_layers, n_pairs), (n_subjects, n_pairs)
        Of the same stimuli.
    sets : sequence of sequence of int
        Layers that are combined.
    n_stimuli : int
    compare : str
        An entry of COMPARISONS.
    combine : {"nnls", "ridge"}

    Returns
    -------
    similar, r2 : ndarray of float64, (n_sets, n_subjects, n_folds)
    """
    similar, r2 = (np.full((len(sets), len(brain), N_FOLDS), np.nan) for _ in range(2))
    first, second = (fold_of(n_stimuli)[stimuli] for stimuli in np.triu_indices(n_stimuli, k=1))
    for fold in range(N_FOLDS if len(sets) else 0):
        test, train = (first == fold) & (second == fold), (first != fold) & (second != fold)
        moments = pair_moments(rdms[:, train], brain[:, train]).standardised()
        tested = pair_moments(rdms[:, test], brain[:, test]).standardised()
        offset = _offset(brain[:, train].mean(axis=1), brain[:, train].std(axis=1))
        # A penalty is chosen by leaving out parts of the training stimuli in turn.
        parts = [(first == k) & (second == k) for k in range(N_FOLDS) if k != fold] if combine == "ridge" else []
        blocks = [pair_moments(rdms[:, part], brain[:, part]).standardised() for part in parts]
        layers = standardise(rdms[:, test])
        for row, columns in enumerate(sets):
            weights = ridge_weights(blocks, columns) if blocks else nnls_weights(moments, columns)
            similar[row, :, fold] = _similarity(compare, weights, layers[columns], offset, brain[:, test])
            r2[row, :, fold] = tested.r2(tested.R[:, columns] @ weights.T)
    return similar, r2


def _offset(mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Return how far a standardised RDM lies from zero, for comparisons that see it, (n_subjects,)."""
    away: np.ndarray = mean / np.where(spread > 0, spread, 1.0)
    return away


def _similarity(
    compare: str, weights: np.ndarray, layers: np.ndarray, offset: np.ndarray, brain: np.ndarray
) -> np.ndarray:
    """Return the similarity of what standardised layers predict with each subject; without weights 0, or the mean's."""
    scores = np.nan_to_num(compare_each(compare, weights @ layers + offset[:, None], as_seen(compare, brain)))
    nothing = (weights == 0).all(axis=1) & (compare not in SEE_ZERO)
    return np.where(nothing, 0.0, scores)


def score_draws(
    rdms: np.ndarray,
    brain: np.ndarray,
    sets: Sequence[Columns],
    counts: np.ndarray,
    *,
    compare: str,
    combine: str,
    advance: Callable[[float], None] = lambda share: None,
) -> np.ndarray:
    """Return the mean similarity over held-out parts of every draw of stimuli, weights fitted anew in each.

    A stimulus that is drawn twice is held out twice together, and makes no pair with itself. Weights come from sums of
    products over the pairs of a draw (`PairSums`), and so do Pearson's correlation and the cosine; ranks are made draw
    by draw.

    Parameters
    ----------
    rdms, brain, sets, compare, combine
        As in `score_held_out`; `compare` must not need all pairs.
    counts : ndarray of int, (n_draws, n_stimuli)
        How often each stimulus was drawn.
    advance : callable
        Told the share of draws that are done since it was last called.

    Returns
    -------
    ndarray of float64, (n_draws, n_sets, n_subjects)
        NaN where a draw left too few pairs in every part.
    """
    tables = []
    for start in range(0, len(counts), DRAWS):
        some = counts[start : start + DRAWS]
        tables.append(_score_some(rdms, brain, sets, some, compare=compare, combine=combine))
        advance(len(some) / len(counts))
    return np.concatenate(tables)


def _score_some(
    rdms: np.ndarray, brain: np.ndarray, sets: Sequence[Columns], counts: np.ndarray, *, compare: str, combine: str
) -> np.ndarray:
    parts = fold_of(counts.shape[1])
    subjects = DrawnRdms(brain, PairSums(counts.astype(np.float64), parts, n_parts=N_FOLDS))
    scores = np.full((len(counts), len(sets), len(brain), N_FOLDS), np.nan)
    n_drawn = np.stack([(counts[:, parts == part] > 0).sum(axis=1) for part in range(N_FOLDS)], axis=1)
    for row, columns in enumerate(sets):
        layers = rdms[np.asarray(columns)].astype(np.float64)
        pairing = subjects.beside(layers)
        for draw, fold in product(range(len(counts)), range(N_FOLDS)):
            weights = _weights_of(pairing, draw, fold, combine, n_drawn[draw] >= MIN_DRAWN)
            if weights is None:
                continue
            tested, fitted = pairing.within(draw, fold), pairing.without(draw, fold)
            offset = _offset(fitted.mean, fitted.spread)
            if compare in ("pearson", "cosine"):
                similar = tested.similarity(weights, offset if compare == "cosine" else None)
            else:
                held_out = np.repeat(np.arange(len(parts)), np.where(parts == fold, counts[draw], 0))
                pairs = pairs_of(held_out, n_stimuli=len(parts))
                similar = _similarity(compare, weights, standardise(layers[:, pairs]), offset, brain[:, pairs])
            scores[draw, row, :, fold] = similar
    n = np.isfinite(scores).sum(axis=-1)
    means: np.ndarray = np.divide(np.nansum(scores, axis=-1), n, out=np.full(n.shape, np.nan), where=n > 0)
    return means


def _weights_of(pairing: DrawnPairing, draw: int, fold: int, combine: str, is_enough: np.ndarray) -> np.ndarray | None:
    """Return weights fitted on the other parts of a draw; None where it left too little of a part, or of all others."""
    rest = [k for k in range(N_FOLDS) if k != fold and is_enough[k]]
    if not is_enough[fold] or len(rest) < (2 if combine == "ridge" else 1):
        return None
    columns = np.arange(pairing.layers.shape[-1])
    if combine == "nnls":
        return nnls_weights(pairing.without(draw, fold).moments(), columns)
    return ridge_weights([pairing.within(draw, k).moments() for k in rest], columns)
