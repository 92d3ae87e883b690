"""Turn RDMs of layers and streams into every score of an RSA, target by target and block by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from brainsim.commands.rsa_options import RsaSettings

if TYPE_CHECKING:
    from brainsim.commands.rsa_rdms import GroupRdms
    from brainsim.rsa.combine import Columns, Weigh
    from brainsim.rsa.moments import Moments

# Pairs of more systems than this are not scored: nobody reads the table.
MAX_PAIRED = 20


@dataclass(frozen=True)
class GroupScores:
    """Scores of subjects who saw the same; every array ends in (n_targets, n_blocks).

    Parameters
    ----------
    targets : list of (str, str)
        Subject and stream.
    blocks : tuple of str
        Names of what is held out in turn.
    layer : ndarray, (n_layers, ...)
        Similarity of each layer.
    model, best : ndarray, (n_models, ...)
        Layers combined; the best layer, chosen on the other blocks. NaN with one block.
    best_layer : ndarray of int, (n_models, n_targets)
        The layer that is best over all blocks.
    weight : ndarray, (n_layers, n_targets)
        Mean weight of each layer in its model.
    pair : ndarray or None, (n_models, n_models, ...)
        Pearson's r of two models' layers together.
    together : ndarray, (...)
        Pearson's r of all layers.
    residual : ndarray or None, (n_models, n_models, ...)
        Control, target system.
    subset_r2 : ndarray or None, (n_subsets, ...)
        Held-out variance of RDMs that each subset of families explains.
    joint : ndarray or None, (n_sets, ...)
        Similarity of all models' layers together, and without those of one family in turn.
    ceilings : dict of str to (lower, upper)
        Per stream.
    notes : list of str
        What happened.
    n_voxels : dict of (str, str) to int
        Valid voxels of each target.
    """

    targets: list[tuple[str, str]]
    blocks: tuple[str, ...]
    layer: np.ndarray
    model: np.ndarray
    best: np.ndarray
    best_layer: np.ndarray
    weight: np.ndarray
    together: np.ndarray
    pair: np.ndarray | None = None
    residual: np.ndarray | None = None
    subset_r2: np.ndarray | None = None
    joint: np.ndarray | None = None
    ceilings: dict[str, tuple[float, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    n_voxels: dict[tuple[str, str], int] = field(default_factory=dict)


def score_group(
    rdms: GroupRdms,
    settings: RsaSettings,
    *,
    models: Mapping[str, Sequence[int]],
    subsets: Sequence[np.ndarray],
    joint: Sequence[np.ndarray] = (),
) -> GroupScores:
    """Score every layer, model and subset of families.

    Parameters
    ----------
    rdms : GroupRdms
        All RDMs.
    settings : RsaSettings
        How layers are combined and what is compared.
    models : mapping of str to sequence of int
        Layers of each model.
    subsets : sequence of ndarray of int
        Layers of each subset of families; empty where no partition is wanted.
    joint : sequence of ndarray of int
        Layers of sets of models whose similarity together is wanted.
    """
    from brainsim.rsa.compare import COMPARISONS, SEE_ZERO
    from brainsim.rsa.moments import pair_moments
    from brainsim.rsa.scores import best_layer_scores, explained, residual_scores, score_sets, score_systems

    comparison = COMPARISONS[settings.compare]
    layer = np.stack([comparison(A, Y) for A, Y in zip(rdms.A, rdms.Y, strict=True)], axis=-1)
    best, best_layer = best_layer_scores(layer, models)
    shape = (len(models), len(rdms.targets), len(rdms.blocks))
    names = tuple(block.name for block in rdms.blocks)
    ceilings = stream_ceilings(rdms.Y, rdms.targets, settings.compare)
    if len(rdms.blocks) < 2:
        nothing = np.full(shape, np.nan)
        weight = np.full((len(rdms.A[0]), len(rdms.targets)), np.nan)
        note = "There is one block of pairs: layers cannot be combined without the run that is scored."
        return GroupScores(
            rdms.targets, names, layer, nothing, best, best_layer, weight, nothing[0], ceilings=ceilings, notes=[note]
        )
    moments = [pair_moments(A, Y) for A, Y in zip(rdms.A, rdms.Y, strict=True)]
    if settings.weights == "pooled":
        moments = [m.standardised() for m in moments]
    weigh = _remembered(_weighing(settings, rdms.targets))
    systems = [np.asarray(columns) for columns in models.values()]
    weight = np.zeros((len(rdms.A[0]), len(rdms.targets)))
    by_model = [weigh(moments, columns) for columns in systems]
    for columns, weights in zip(systems, by_model, strict=True):
        weight[columns] = np.mean(weights, axis=0).T
    model, n_empty = _model_scores(rdms, settings, systems, by_model, moments)
    notes = []
    if n_empty:
        count = "what is left is their mean" if settings.compare in SEE_ZERO else "they count as 0"
        notes.append(f"{n_empty} of {model.size} predictions of held-out RDMs had no layer with weight; {count}.")
    by_set = [weigh(moments, columns) for columns in joint]
    pair, together = None, np.nan_to_num(score_sets(moments, [np.concatenate(systems)], weigh))[0]
    if settings.method == "residual" and len(models) <= MAX_PAIRED:
        scores = score_systems(moments, systems, weigh)
        pair, together = scores.pair, scores.together
    return GroupScores(
        targets=rdms.targets,
        blocks=names,
        layer=layer,
        model=model,
        best=best,
        best_layer=best_layer,
        weight=weight,
        together=together,
        pair=pair,
        residual=residual_scores(moments, systems) if settings.method == "residual" else None,
        subset_r2=explained(moments, subsets, weigh) if subsets else None,
        joint=_model_scores(rdms, settings, joint, by_set, moments)[0] if joint else None,
        ceilings=ceilings,
        notes=notes,
    )


def _remembered(weigh: Weigh) -> Weigh:
    """Return a weighing that fits the same layers once: subsets, sets and all layers together overlap."""
    found: dict[tuple[int, ...], list[np.ndarray]] = {}

    def again(moments: Sequence[Moments], columns: Columns) -> list[np.ndarray]:
        layers = tuple(int(column) for column in columns)
        if layers not in found:
            found[layers] = weigh(moments, columns)
        return found[layers]

    return again


def _weighing(settings: RsaSettings, targets: Sequence[tuple[str, str]]) -> Weigh:
    from brainsim.rsa.combine import averaged_weights, other_subjects_weights
    from brainsim.rsa.scores import weigh_pooled

    if settings.weights == "averaged":
        return averaged_weights
    if settings.cv == "subjects":
        subjects, streams = (np.unique([t[k] for t in targets], return_inverse=True)[1] for k in range(2))
        return other_subjects_weights(subjects, streams, combine=settings.combine)
    return weigh_pooled(settings.combine)


def _model_scores(
    rdms: GroupRdms,
    settings: RsaSettings,
    systems: Sequence[np.ndarray],
    by_model: Sequence[Sequence[np.ndarray]],
    moments: Sequence[Moments],
) -> tuple[np.ndarray, int]:
    """Return the similarity of what models predict with what was held out, and how many predict nothing."""
    from brainsim.rsa.combine import standardise
    from brainsim.rsa.compare import SEE_ZERO, as_seen, compare_each

    offsets = _offsets(rdms.Y)
    scores = np.empty((len(systems), len(rdms.targets), len(rdms.blocks)))
    for block, (A, Y, m) in enumerate(zip(rdms.A, rdms.Y, moments, strict=True)):
        seen = as_seen(settings.compare, Y)
        for row, columns in enumerate(systems):
            weights = by_model[row][block]  # (n_targets, n_columns)
            if settings.compare == "pearson":
                scores[row, :, block] = m.pearson(m.R[:, columns] @ weights.T)
            else:
                own = standardise(A[columns]) if settings.weights == "pooled" else A[columns].astype(np.float64)
                predicted = weights @ own
                scores[row, :, block] = compare_each(settings.compare, predicted + offsets[block], seen)
    empty = np.stack(
        [[(w == 0).all(axis=1) for w in weights] for weights in by_model]
    )  # (n_models, n_blocks, n_targets)
    if settings.compare not in SEE_ZERO:  # those see the mean that is left; others see nothing
        scores[np.moveaxis(empty, 1, 2)] = 0
    return np.nan_to_num(scores), int(empty.sum())


def _offsets(Y: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return, per block, how far standardised RDMs lie from zero in the other blocks, (n_targets, 1).

    Comparisons that see the zero of dissimilarities (cosine and its kin) need it; it never comes from what is scored.
    """
    means = np.stack([y.mean(axis=1, keepdims=True, dtype=np.float64) for y in Y])
    spreads = np.stack([y.std(axis=1, keepdims=True, dtype=np.float64) for y in Y])
    away = means / np.where(spreads > 0, spreads, 1.0)
    return [np.delete(away, block, axis=0).mean(axis=0) for block in range(len(Y))]


def stream_ceilings(
    Y: Sequence[np.ndarray], targets: Sequence[tuple[str, str]], compare: str
) -> dict[str, tuple[float, float]]:
    """Return the lower and upper noise ceiling of each stream, mean over blocks; NaN with one subject."""
    from brainsim.rsa.compare import COMPARISONS, noise_ceiling

    found = {}
    for stream in dict.fromkeys(stream for _, stream in targets):
        rows = [row for row, target in enumerate(targets) if target[1] == stream]
        pairs = [noise_ceiling(block[rows].astype(np.float64), COMPARISONS[compare]) for block in Y]
        found[stream] = (float(np.mean([p[0] for p in pairs])), float(np.mean([p[1] for p in pairs])))
    return found
