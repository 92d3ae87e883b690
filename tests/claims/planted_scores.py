"""Turn a seed into the scores of a cohort for which the five claims hold, or fail, one and all.

Scores are R2 as partitions store them: a mean over the voxels of a stream, per subject and run. What is realistic is
taken from movie data and from the planted scans of `simulate`: single systems at 0.02 to 0.12; subjects differ by a
third in how well anything predicts them (attention, motion), and by SYSTEM_SD in how well one system does beside
another; a run of a few minutes scatters by RUN_SD, half of which all systems share.
"""

from __future__ import annotations

import numpy as np

from brainsim.stats.claims import Scores

STREAMS = ("early", "ventral", "lateral", "dorsal")
N_RUNS = 8
GAIN_SD = 0.33  # of a subject, as a factor
SYSTEM_SD = 0.010  # R2, of a subject and system, over and above its gain
RUN_SD = 0.020  # R2, of one run

FLOW = ("cnn-flow-selfsup", "cnn-flow-action")
JOINT = 0.18  # R2 of all systems together

# True R2 of each system alone, mean over streams.
HOLD = {
    "cnn-static-object": 0.105, "cnn-static-action": 0.095, "cnn-flow-selfsup": 0.10, "cnn-flow-action": 0.11,
    "mae-base": 0.002, "mae-base-finetuned": 0.040, "videomae-base": 0.060, "videomae-base-finetuned": 0.070,
    "mvd-base": 0.065,
}  # fmt: skip
FAIL = {
    "cnn-static-object": 0.060, "cnn-static-action": 0.050, "cnn-flow-selfsup": 0.055, "cnn-flow-action": 0.060,
    "mae-base": 0.090, "mae-base-finetuned": 0.070, "videomae-base": 0.065, "videomae-base-finetuned": 0.070,
    "mvd-base": 0.070,
}  # fmt: skip
# What all systems lose without both flow systems.
UNIQUE_FLOW = {"hold": 0.020, "fail": 0.000}


def plant_scores(kind: str, seed: int, *, n_subjects: int = 14, scatter: float = 1.0) -> Scores:
    """Return scores of a cohort: "hold", "fail", or "edge", where every tested effect is exactly zero."""
    rng = np.random.default_rng([seed, ord(kind[0])])
    truth = HOLD if kind == "hold" else FAIL
    shape = (n_subjects, len(STREAMS))
    # A subject's gain is that of all its scores, so that every true effect keeps its sign in each.
    gain = np.clip(1 + GAIN_SD * rng.standard_normal((n_subjects, 1)), 0.3, None)
    common = RUN_SD * np.sqrt(0.5) * rng.standard_normal((*shape, N_RUNS))

    def observe(value: float) -> np.ndarray:
        own = RUN_SD * np.sqrt(0.5) * rng.standard_normal((*shape, N_RUNS))
        runs = (common + own).mean(axis=-1)
        taste = SYSTEM_SD * rng.standard_normal(shape)
        scores: np.ndarray = gain * value + scatter * (taste + runs)
        return scores

    everything = frozenset(truth)
    sets = {frozenset((system,)): observe(0.08 if kind == "edge" else value) for system, value in truth.items()}
    sets[everything] = observe(JOINT)
    # Two models that share all but two families err alike: their difference scatters a third as much.
    unique = gain * UNIQUE_FLOW.get(kind, 0.0) + scatter / 3 * (observe(0.0) / max(scatter, 1e-9))
    sets[everything - set(FLOW)] = sets[everything] - unique
    subjects = tuple(f"sub-{i:02d}" for i in range(1, n_subjects + 1))
    return Scores("planted scores", "encoding", subjects, STREAMS, sets, sets[everything], "R² of all systems together")
