"""Turn a seed into a small store for rsa: activations of three models at 5 Hz, and BOLD that follows two of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.signal import lfilter
from scipy.stats import gamma

from brainsim.store import Store

MODELS = {"cnn": "static", "flow": "dynamic", "mae": "masked"}
N_LAYERS, N_FEATURES, N_TARGETS = 2, 30, 24
STEP_S, TR_S = 0.2, 2.0
STREAMS = {"early": [0], "dorsal": [1]}


def response() -> np.ndarray:
    """Return the haemodynamic response at 5 Hz, as the study's scripts have it."""
    t = np.arange(0, 20, STEP_S)
    h: np.ndarray = (gamma.pdf(t, 6) - gamma.pdf(t, 16) / 6) / (1 - 1 / 6)
    return h


def features(model: str, layer: int, run: int, n_trs: int, *, protocol: str = "default") -> np.ndarray:
    """Return one row per 0.2 s: slow fluctuations about a mean pattern, as activations are."""
    rng = np.random.default_rng([sum(map(ord, model + protocol)), layer, run])
    n = round(n_trs * TR_S / STEP_S)
    x = rng.standard_normal((n + 100, N_FEATURES))
    x = lfilter([0.3], [1, -0.95], x, axis=0)
    mean = np.random.default_rng([layer, 5]).random(N_FEATURES)
    out: np.ndarray = (x[100:] + 3 * mean).astype(np.float32)
    return out


def convolved(model: str, layer: int, run: int, n_trs: int) -> np.ndarray:
    """Return features as BOLD would show them in the middle of TRs, the slow way."""
    x = features(model, layer, run, n_trs).astype(np.float64)
    y = np.stack([np.convolve(column, response())[: len(x)] for column in x.T], axis=1)
    out: np.ndarray = y[5::10]
    return out


def write_store(
    path: Path,
    *,
    n_trs: Sequence[int],
    subjects: Sequence[str] = ("sub-01", "sub-02", "sub-03"),
    follows: Sequence[str] = ("cnn", "flow"),
    protocols: Sequence[str] = ("default",),
    repeats: int = 1,
    noise: float = 0.3,
) -> Path:
    """Write a store whose early stream follows the first model and whose dorsal stream follows the second."""
    store = Store(path, mode="a")
    for model, family in MODELS.items():
        for protocol in protocols:
            for layer in range(N_LAYERS):
                for run, n in enumerate(n_trs):
                    values = features(model, layer, run, n, protocol=protocol)
                    begin = np.arange(len(values)) * STEP_S
                    store.write(
                        f"activations/{model}@{protocol:0>8.8}/layer{layer}/movie{run}",
                        type="activations",
                        key={"model": model, "layer": layer, "run": run, "protocol": protocol},
                        arrays={
                            "values": values,
                            "time_s": begin + STEP_S,
                            "window_s": np.stack([begin, begin + STEP_S], axis=1),
                        },
                        attributes={
                            "model": model,
                            "layer": f"layer{layer}",
                            "layer_index": layer,
                            "family": family,
                            "stimulus": f"movie{run}",
                            "protocol": protocol,
                        },
                    )
    for number, subject in enumerate(subjects):
        for run, n in enumerate(n_trs):
            for repeat in range(repeats):
                label = f"run-{run * repeats + repeat + 1}"
                store.write(
                    f"bold/toy/{subject}/{label}",
                    type="bold",
                    key={"subject": subject, "run": label},
                    arrays={
                        "values": bold(number, run, n, follows, noise, repeat),
                        "valid": np.ones(N_TARGETS, np.uint8),
                    },
                    attributes={
                        "tr_s": TR_S,
                        "start_s": 0.0,
                        "stimulus": f"movie{run}",
                        "run": label,
                        "subject": subject,
                        "dataset": "toy",
                        "cleaning": {"standardize": "zscore"},
                        "qc": {},
                    },
                )
        store.write(
            f"rois/toy/{subject}",
            type="targets",
            key={"subject": subject},
            arrays={
                "ijk": np.arange(N_TARGETS, dtype=np.int32)[:, None],
                "membership": np.repeat(np.eye(2, dtype=np.uint8), N_TARGETS // 2, axis=1),
            },
            attributes={
                "roi_names": ["A", "B"],
                "streams": {"early": ["A"], "dorsal": ["B"]},
                "affine": None,
                "volume_shape": None,
                "space": "table",
                "n_targets": N_TARGETS,
            },
        )
    return path


def bold(number: int, run: int, n_trs: int, follows: Sequence[str], noise: float, repeat: int = 0) -> np.ndarray:
    """Return BOLD whose voxels read out the convolved features of a model; of none where there is no model."""
    rng = np.random.default_rng([number, run, repeat, 77])
    parts = []
    for which in range(len(STREAMS)):
        weights = np.random.default_rng([number, which, 3]).standard_normal((N_FEATURES, N_TARGETS // 2))
        if which < len(follows):
            x = convolved(follows[which], 0, run, n_trs)
            signal = (x - x.mean(axis=0)) @ weights
        else:
            signal = np.zeros((n_trs, N_TARGETS // 2))
        size = signal.std() if signal.any() else 1.0
        parts.append(signal + noise * size * rng.standard_normal(signal.shape))
    Y = np.concatenate(parts, axis=1)
    out: np.ndarray = ((Y - Y.mean(axis=0)) / Y.std(axis=0)).astype(np.float32)
    return out
