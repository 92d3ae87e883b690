"""Turn stored features into the signals of a planted cohort, and its mixtures into the truth to be recovered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from brainsim.core.runs import RunLayout

if TYPE_CHECKING:
    from brainsim.commands.encoding_data import SubjectGroup
    from brainsim.datasets.planted import PlantedSignals
    from brainsim.features.bands import Band
    from brainsim.store import Store

TR_S = 2.0
HIGH_PASS_S = 128.0  # what ingest removes by default; the truth is that of cleaned voxels

# Variance of each family's own signals, and of those that all share, in a voxel of each stream. The rest is noise.
STREAMS: dict[str, dict[str, float]] = {
    "early": {"static-cnn": 0.26, "image-mae": 0.26, "shared": 0.22},
    "ventral": {"static-cnn": 0.30, "image-mae": 0.22, "shared": 0.22},
    "lateral": {"dynamic-cnn": 0.28, "video-mae": 0.26, "shared": 0.20},
    "dorsal": {"dynamic-cnn": 0.30, "mvd": 0.26, "shared": 0.18},
}

# Variance of single systems' own signals in two cohorts: in one the five claims of the study hold (docs/claims.md), in
# the other each of them fails. A system also predicts some of what its kin compute (a third, between masked models),
# so that a system of which nothing was planted has a small score.
_HOLD = {
    "cnn-static-object": 0.11, "cnn-static-action": 0.11, "cnn-flow-selfsup": 0.14, "cnn-flow-action": 0.14,
    "mae-base-finetuned": 0.03, "videomae-base": 0.10, "videomae-base-finetuned": 0.03, "mvd-base": 0.06,
}  # fmt: skip
_FAIL = {
    "cnn-static-object": 0.04, "cnn-static-action": 0.04, "mae-base": 0.28, "mae-base-finetuned": 0.10,
    "videomae-base": 0.08, "videomae-base-finetuned": 0.08, "mvd-base": 0.08,
}  # fmt: skip

COHORTS: dict[str, dict[str, dict[str, float]]] = {
    "families": STREAMS,
    **{
        name: {stream: {f"{system}-tiny": v for system, v in variances.items()} for stream in STREAMS}
        for name, variances in (("claims-hold", _HOLD), ("claims-fail", _FAIL))
    },
}

# With more families only single ones and all but one are scored: residuals of 511 subsets of ten subjects take 0.6 GB.
MAX_COMPLETE = 6

NOISE_AR = 0.4  # correlation of successive TRs, as in data after cleaning
NOISE_SHARED = 0.2  # share of the noise that all voxels have in common
MOTION_COLUMNS = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")


def planted_signals(
    store: Store, bands: Sequence[Band], group: SubjectGroup
) -> tuple[dict[str, np.ndarray], PlantedSignals]:
    """Return each family's design kernel, and the signals that are planted."""
    from brainsim.commands.kernels import KernelOptions, layer_gram
    from brainsim.datasets.planted import choose_signals
    from brainsim.features.hrf import hrf_matrix
    from brainsim.features.kernels import convolve_kernel, delayed_kernel, normalise_kernel

    options = KernelOptions(delays=(1, 2, 3, 4), scaling="zscore")
    layout = group.layout
    # Signals are sought in what cleaning leaves of the responses: slow ones would be planted and removed again.
    clean = _cleaning(layout)
    responses = [
        clean[rows, rows] @ hrf_matrix(n_trs, TR_S) for rows, n_trs in zip(layout.slices, layout.n_trs, strict=True)
    ]
    design, convolved = {}, {}
    for band in bands:
        delayed_sum = np.zeros((layout.n_rows, layout.n_rows))
        convolved_sum = np.zeros_like(delayed_sum)
        for layer in band.layers:
            K = layer_gram(store, layer, group, options)
            delayed_sum += delayed_kernel(K, layout, delays=options.delays, name=layer.name)
            blurred = convolve_kernel(K, layout, responses=responses)
            convolved_sum += blurred / np.trace(blurred)
        design[band.family] = normalise_kernel(delayed_sum, name=band.family)
        convolved[band.family] = convolved_sum
    return design, choose_signals(convolved, design, layout)


def _cleaning(layout: RunLayout, *, subject: str | None = None, seed: int = 0) -> np.ndarray:
    """Return the matrix that removes what ingest removes: drifts, and a subject's motion."""
    from brainsim.datasets.cleaning import make_drifts
    from brainsim.datasets.planted import cleaning_matrix, draw_motion, subject_rng

    nuisances = []
    for run, n_trs in zip(layout.names, layout.n_trs, strict=True):
        columns = [make_drifts(n_trs, tr_s=TR_S, high_pass_s=HIGH_PASS_S)]
        if subject is not None:
            motion = draw_motion(subject_rng(seed, subject, f"motion {run}"), n_trs)
            columns.append(np.column_stack([motion[name] for name in MOTION_COLUMNS]))
        nuisances.append(np.concatenate(columns, axis=1))
    return cleaning_matrix(nuisances, layout)


def planted_weights(
    signals: PlantedSignals, subject: str, n_voxels: int, seed: int, streams: Mapping[str, Mapping[str, float]]
) -> dict[str, np.ndarray]:
    """Return how the voxels of each stream mix the signals, (n_signals, n_voxels) each."""
    from brainsim.datasets.planted import draw_weights, subject_rng

    rng = subject_rng(seed, subject, "weights")
    return {stream: draw_weights(rng, signals, variances, n_voxels) for stream, variances in streams.items()}


def planted_truth(
    design: dict[str, np.ndarray],
    signals: PlantedSignals,
    layout: RunLayout,
    weights: dict[str, dict[str, np.ndarray]],
    seed: int,
    streams: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:
    """Return what each subset of families explains of the cleaned voxels, as unique and shared parts per stream."""
    from brainsim.datasets.planted_scores import PlantedSubject, noise_covariance, score_planted
    from brainsim.variance.lattice import commonality_parts, subset_names, subset_plan, unique_parts

    families = list(design)
    lattice = subset_plan(len(families), "all" if len(families) <= MAX_COMPLETE else "leave-one-out")
    singles = [1 << family for family in range(len(families))]
    masks = list(dict.fromkeys([*singles, *lattice.masks]))
    subsets, parts_of = subset_names(families, masks), subset_names(families, lattice.part_masks)
    noise = {stream: 1 - sum(variances.values()) for stream, variances in streams.items()}
    subjects = []
    for subject, mix in weights.items():
        clean = _cleaning(layout, subject=subject, seed=seed)
        noises = np.concatenate([np.full(mix[stream].shape[1], noise[stream]) for stream in streams])
        mixes = np.concatenate([mix[stream] for stream in streams], axis=1)
        covariance = noise_covariance(clean, layout, ar=NOISE_AR)
        subjects.append(PlantedSubject(clean @ signals.courses, mixes, noises, covariance))
    found = score_planted(design, subjects, layout, subsets)
    rows, joint, parts, null = [], [], [], []
    for index, (stream, variances) in enumerate(streams.items()):
        by_mask = [
            dict(zip(masks, np.array_split(r2, len(streams), axis=2)[index].mean(axis=(1, 2)), strict=True))
            for r2 in found
        ]
        scores = [np.array([values[mask] for mask in lattice.masks]) for values in by_mask]
        uniques = [unique_parts(r2, lattice) for r2 in scores]
        for family, single, value, attainable in zip(families, singles, *uniques, strict=True):
            own = {"unique": float(value), "attainable": float(attainable), "alone": float(by_mask[0][single])}
            rows.append({"stream": stream, "family": family, **own})
            if family not in variances:
                null.append([stream, family])
        joint.append({"stream": stream, "r2": float(scores[0][-1]), "attainable": float(scores[1][-1])})
        shared = [commonality_parts(r2, lattice) for r2 in scores]
        for members, value, attainable in zip(parts_of, *shared, strict=True):
            numbers = {"r2": float(value), "attainable": float(attainable)}
            parts.append({"stream": stream, "families": members, **numbers})
    return {
        "rows": rows,
        "joint": joint,
        "parts": parts,
        "null": null,
        "families": families,
        "description": "Share of a voxel's variance after cleaning, mean over voxels and subjects, that the best "
        "linear prediction from a subset of families explains of the noiseless signals, on runs it was not fitted to; "
        "attainable: that it is expected to explain when it is fitted to as many TRs as noisy as these.",
    }
