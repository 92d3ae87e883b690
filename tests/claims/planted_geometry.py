"""Turn a seed into a store of streams whose geometries are mixed from those of nine systems: the claims hold or fail.

Every system has features of its own, slow as those of movies are. A stream is a random readout of all systems' features
after the haemodynamic response, each system by its amplitude, and noise: its RDM then holds each system's RDM by the
square of that amplitude.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.signal import lfilter

from brainsim.features.hrf import hrf_matrix
from brainsim.store import Store

STREAMS = ("early", "ventral", "lateral", "dorsal")
N_RUNS, N_TRS, TR_S = 6, 60, 2.0
N_FEATURES, N_VOXELS = 24, 80
SLOW = 0.6  # correlation of features from TR to TR
NOISE = 0.5  # of a voxel, as a share of its signal
TASTE_SD = 0.15  # of a subject's amplitudes, as a factor

FAMILIES = {
    "cnn-static-object": "static-cnn", "cnn-static-action": "static-cnn", "cnn-flow-selfsup": "dynamic-cnn",
    "cnn-flow-action": "dynamic-cnn", "mae-base": "image-mae", "mae-base-finetuned": "image-mae",
    "videomae-base": "video-mae", "videomae-base-finetuned": "video-mae", "mvd-base": "mvd",
}  # fmt: skip
# Squared amplitudes of the systems, in every stream.
HOLD = {
    "cnn-static-object": 0.6, "cnn-static-action": 0.6, "cnn-flow-selfsup": 1.0, "cnn-flow-action": 1.0,
    "mae-base": 0.0, "mae-base-finetuned": 0.3, "videomae-base": 0.45, "videomae-base-finetuned": 0.45,
    "mvd-base": 0.45,
}  # fmt: skip
FAIL = {
    "cnn-static-object": 0.3, "cnn-static-action": 0.3, "cnn-flow-selfsup": 0.0, "cnn-flow-action": 0.0,
    "mae-base": 1.0, "mae-base-finetuned": 0.6, "videomae-base": 0.4, "videomae-base-finetuned": 0.4, "mvd-base": 0.4,
}  # fmt: skip


def plant_geometry(path: Path, kind: str, seed: int, *, n_subjects: int = 10) -> Path:
    """Write activations, BOLD and targets of a cohort, "hold" or "fail", as dataset ``d``."""
    store = Store(path, mode="a")
    rng = np.random.default_rng([seed, ord(kind[0])])
    amplitudes = np.sqrt(list((HOLD if kind == "hold" else FAIL).values()))
    features = _slow(rng, (N_RUNS, len(FAMILIES)))  # (n_runs, n_systems, n_trs, n_features)
    for at, (system, family) in enumerate(FAMILIES.items()):
        for run in range(N_RUNS):
            _write_activations(store, system, family, run, features[run, at])
    responses = hrf_matrix(N_TRS, TR_S) @ features
    responses /= responses.std(axis=(0, 2, 3), keepdims=True)
    for number in range(n_subjects):
        taste = amplitudes * np.exp(TASTE_SD * rng.standard_normal((len(STREAMS), len(FAMILIES))))
        weights = rng.standard_normal((len(STREAMS), len(FAMILIES), N_FEATURES, N_VOXELS)) * taste[..., None, None]
        signal = np.einsum("rstf,xsfv->rtxv", responses, weights)  # (n_runs, n_trs, n_streams, n_voxels)
        noise = NOISE * signal.std(axis=(0, 1), keepdims=True) * rng.standard_normal(signal.shape)
        _write_subject(store, f"sub-{number + 1:02d}", (signal + noise).reshape(N_RUNS, N_TRS, -1))
    return path


def _slow(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    x = rng.standard_normal((*shape, N_TRS + 50, N_FEATURES))
    out: np.ndarray = lfilter([np.sqrt(1 - SLOW**2)], [1, -SLOW], x, axis=-2)[..., 50:, :]
    return out


def _write_activations(store: Store, system: str, family: str, run: int, values: np.ndarray) -> None:
    begin_s = np.arange(N_TRS) * TR_S
    store.write(
        f"activations/{system}@00000000/top/movie{run}",
        type="activations",
        key={"system": system, "run": run},
        arrays={
            "values": values.astype(np.float32),
            "time_s": begin_s + TR_S / 2,
            "window_s": np.stack([begin_s, begin_s + TR_S], axis=1),
        },
        attributes={"model": system, "layer": "top", "layer_index": 0, "family": family, "stimulus": f"movie{run}",
                    "protocol": "default"},
    )  # fmt: skip


def _write_subject(store: Store, subject: str, bold: np.ndarray) -> None:
    scaled = ((bold - bold.mean(axis=1, keepdims=True)) / bold.std(axis=1, keepdims=True)).astype(np.float32)
    n_targets = bold.shape[-1]
    for run, values in enumerate(scaled):
        label = f"run-{run + 1}"
        store.write(
            f"bold/d/{subject}/{label}",
            type="bold",
            key={"subject": subject, "run": label},
            arrays={"values": values, "valid": np.ones(n_targets, np.uint8)},
            attributes={"tr_s": TR_S, "start_s": 0.0, "stimulus": f"movie{run}", "run": label, "subject": subject,
                        "dataset": "d", "cleaning": {"standardize": "zscore", "high_pass_s": 128}, "qc": {}},
        )  # fmt: skip
    store.write(
        f"rois/d/{subject}",
        type="targets",
        key={"subject": subject},
        arrays={
            "ijk": np.arange(n_targets, dtype=np.int32)[:, None],
            "membership": np.repeat(np.eye(len(STREAMS), dtype=np.uint8), N_VOXELS, axis=1),
        },
        attributes={"roi_names": list(STREAMS), "streams": {s: [s] for s in STREAMS}, "affine": None,
                    "volume_shape": None, "space": "table", "n_targets": n_targets},
    )  # fmt: skip
