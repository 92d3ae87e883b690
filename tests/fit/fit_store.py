"""Turn a seed into a small store: activations of three models and the BOLD of a few subjects, no movies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brainsim.store import Store

MODELS = {"cnn": ("static", 12), "flow": ("dynamic", 10), "mae": ("masked", 14)}
TR_S = 2.0

# What a fit of these data needs to be done in a second.
FEW: dict[str, Any] = {"dataset": "tiny", "alphas": (1.0, 10.0, 100.0, 1000.0), "n_candidates": 10, "device": "cpu"}


def smooth(rng: np.random.Generator, n: int, width: int) -> np.ndarray:
    x = rng.standard_normal((n + 30, width))
    for t in range(1, len(x)):
        x[t] += 0.5 * x[t - 1]
    out: np.ndarray = x[30:].astype(np.float32)
    return out


def zscore(x: np.ndarray) -> np.ndarray:
    out: np.ndarray = ((x - x.mean(axis=0)) / x.std(axis=0)).astype(np.float32)
    return out


def clip_features(model: str, layer: int, run: int, n_trs: int) -> np.ndarray:
    """Return one feature row per second."""
    rng = np.random.default_rng([sum(map(ord, model)), layer, run])
    return np.repeat(smooth(rng, n_trs, MODELS[model][1]), 2, axis=0)


def write_activations(store: Store, *, runs: Sequence[int], n_trs: int, twin: bool = False) -> None:
    for model, (family, _) in MODELS.items():
        for layer in range(2):
            for run in runs:
                values = clip_features(model, layer, run, n_trs)
                for code in ("00000001", "00000002") if twin and model == "cnn" else ("00000001",):
                    store.write(
                        f"activations/{model}@{code}/layer{layer}/movie{run}",
                        type="activations",
                        key={"model": model, "layer": layer, "run": run, "code": code},
                        arrays={
                            "values": values,
                            "time_s": np.arange(1.0, len(values) + 1),
                            "window_s": np.stack([np.arange(len(values)), np.arange(1, len(values) + 1)], 1).astype(
                                float
                            ),
                        },
                        attributes={
                            "model": model,
                            "layer": f"layer{layer}",
                            "layer_index": layer,
                            "family": family,
                            "stimulus": f"movie{run}",
                        },
                    )


def write_subject(
    store: Store,
    name: str,
    *,
    runs: Sequence[int],
    n_trs: int,
    n_targets: int,
    dataset: str = "tiny",
    masked: Sequence[int] = (),
    start_s: float = 0.0,
    seed: int = 0,
) -> None:
    """Write BOLD that follows the first two models, two TRs late."""
    weights = {
        m: np.random.default_rng([seed, i]).standard_normal((MODELS[m][1], n_targets)) for i, m in enumerate(MODELS)
    }
    weights["mae"][:] = 0
    for run in runs:
        signal = sum(clip_features(m, 0, run, n_trs)[::2] @ weights[m] for m in MODELS)
        signal = np.concatenate([np.zeros((2, n_targets)), signal[:-2]])
        noise = np.random.default_rng([seed, 99, run]).standard_normal(signal.shape)
        values = zscore(signal / signal.std() + 0.5 * noise)
        valid = np.ones(n_targets, np.uint8)
        valid[list(masked)] = 0
        values[:, list(masked)] = np.nan
        store.write(
            f"bold/{dataset}/{name}/run-{run}",
            type="bold",
            key={"subject": name, "run": run, "seed": seed},
            arrays={"values": values, "valid": valid},
            attributes={
                "tr_s": TR_S,
                "start_s": start_s,
                "stimulus": f"movie{run}",
                "run": f"run-{run}",
                "subject": name,
                "dataset": dataset,
            },
        )
    half = np.arange(n_targets) < n_targets // 2
    store.write(
        f"rois/{dataset}/{name}",
        type="targets",
        key={"subject": name, "seed": seed},
        arrays={
            "ijk": np.arange(n_targets, dtype=np.int32)[:, None],
            "membership": np.stack([half, ~half]).astype(np.uint8),
        },
        attributes={
            "roi_names": ["V1", "V4"],
            "streams": {"early": ["V1"], "ventral": ["V4"]},
            "n_targets": n_targets,
            "affine": None,
            "volume_shape": None,
            "space": "table",
        },
    )


def make_store(path: Path) -> Path:
    """Write a dataset of two subjects alike, one that began later, and one of a single long run."""
    store = Store(path, mode="a")
    write_activations(store, runs=range(1, 6), n_trs=40)
    write_subject(store, "sub-01", runs=range(1, 6), n_trs=40, n_targets=12, masked=(3,), seed=1)
    write_subject(store, "sub-02", runs=range(1, 6), n_trs=40, n_targets=9, seed=2)
    write_subject(store, "sub-03", runs=range(1, 5), n_trs=40, n_targets=8, seed=3)
    write_subject(store, "sub-01", runs=[1], n_trs=40, n_targets=6, dataset="single", seed=4)
    return path
