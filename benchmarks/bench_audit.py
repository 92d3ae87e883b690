"""RSA of movies at the size of the study: protocol default, then the study's beside it with every step of the audit."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import lfilter

from benchmarks.stopwatch import seconds_of
from brainsim.commands.rsa import rsa
from brainsim.store import Store

# The study's runs, systems and subjects; features are few, because what they cost is one product per layer.
N_TRS = (451, 441, 438, 488, 462, 439, 542, 338)
SYSTEMS = {
    "cnn-static-object": ("static-cnn", 11),
    "cnn-static-action": ("static-cnn", 11),
    "cnn-flow-selfsup": ("dynamic-cnn", 11),
    "cnn-flow-action": ("dynamic-cnn", 11),
    "mae-base": ("image-mae", 12),
    "mae-base-finetuned": ("image-mae", 12),
    "videomae-base": ("video-mae", 12),
    "videomae-base-finetuned": ("video-mae", 12),
    "mvd-base": ("mvd", 12),
}
N_SUBJECTS, N_TARGETS, N_FEATURES = 15, 1200, 64
TR_S, STEP_S = 2.0, 0.2
STREAMS = ("early", "ventral", "lateral", "dorsal")
QUICK = {name: (family, 2) for name, (family, _) in list(SYSTEMS.items())[::4]}


def run(*, quick: bool, device: str) -> dict[str, Any]:
    """Measure both commands one after the other; what the second finds of the first is not made again."""
    n_trs, systems, n_subjects = ((24, 26, 22), QUICK, 2) if quick else (N_TRS, SYSTEMS, N_SUBJECTS)
    with tempfile.TemporaryDirectory(prefix="brainsim-bench-") as folder:
        path = Path(folder) / "store.zarr"
        _write_store(Store(path, "a"), n_trs, systems, n_subjects)
        figures: dict[str, Any] = {
            "TRs": sum(n_trs),
            "layers": sum(n for _, n in systems.values()),
            "subjects": n_subjects,
        }
        for protocol in ("default", "both"):
            spent = seconds_of(lambda p=protocol: rsa("bench", dataset="bench", store=path, protocol=p, device=device))
            figures[f"protocol {protocol}, s"] = spent
        figures["gram nodes"] = len(Store(path).nodes("grams"))
    return figures


def _write_store(store: Store, n_trs: tuple[int, ...], systems: dict[str, tuple[str, int]], n_subjects: int) -> None:
    """Write activations by both protocols and BOLD that have slow series in common, and much of their own."""
    per_tr = round(TR_S / STEP_S)
    common = [
        lfilter([0.3], [1, -0.95], np.random.default_rng(run).standard_normal((n * per_tr, N_FEATURES)), axis=0)
        for run, n in enumerate(n_trs)
    ]
    for number, (system, (family, n_layers)) in enumerate(systems.items()):
        for protocol in ("default", "study"):
            for layer in range(n_layers):
                mixing = np.random.default_rng([number, layer]).standard_normal((N_FEATURES, N_FEATURES))
                for run, series in enumerate(common):
                    rng = np.random.default_rng([number, layer, run, len(protocol)])
                    values = 0.1 * series @ mixing + rng.standard_normal(series.shape) + 3
                    begin_s = np.arange(len(values)) * STEP_S
                    store.write(
                        f"activations/{system}@{protocol:0>8.8}/layer{layer}/movie{run}",
                        type="activations",
                        key={"system": system, "protocol": protocol, "layer": layer, "run": run},
                        arrays={
                            "values": values.astype(np.float32),
                            "time_s": begin_s + STEP_S,
                            "window_s": np.stack([begin_s, begin_s + STEP_S], axis=1),
                        },
                        attributes={
                            "model": system, "layer": f"layer{layer}", "layer_index": layer, "family": family,
                            "stimulus": f"movie{run}", "protocol": protocol,
                        },
                    )  # fmt: skip
    for number in range(n_subjects):
        _write_subject(store, number, [series.reshape(-1, per_tr, N_FEATURES).mean(axis=1) for series in common])


def _write_subject(store: Store, number: int, common: list[np.ndarray]) -> None:
    subject = f"sub-{number + 1:02d}"
    mixing = np.random.default_rng([number, 5]).standard_normal((N_FEATURES, N_TARGETS))
    for run, series in enumerate(common):
        Y = (series - series.mean(axis=0)) @ mixing
        Y = Y / Y.std(axis=0) + 2 * np.random.default_rng([number, run]).standard_normal(Y.shape)
        store.write(
            f"bold/bench/{subject}/run-{run + 1}",
            type="bold",
            key={"subject": subject, "run": run},
            arrays={"values": (Y - Y.mean(axis=0)).astype(np.float32), "valid": np.ones(N_TARGETS, np.uint8)},
            attributes={
                "tr_s": TR_S, "start_s": 0.0, "stimulus": f"movie{run}", "run": f"run-{run + 1}", "subject": subject,
                "dataset": "bench", "cleaning": {"standardize": "none", "high_pass_s": 128.0}, "qc": {},
            },
        )  # fmt: skip
    membership = np.arange(N_TARGETS) * len(STREAMS) // N_TARGETS == np.arange(len(STREAMS))[:, None]
    store.write(
        f"rois/bench/{subject}",
        type="targets",
        key={"subject": subject},
        arrays={"ijk": np.arange(N_TARGETS, dtype=np.int32)[:, None], "membership": membership.astype(np.uint8)},
        attributes={
            "roi_names": list(STREAMS), "streams": {stream: [stream] for stream in STREAMS}, "affine": None,
            "volume_shape": None, "space": "table", "n_targets": N_TARGETS,
        },
    )  # fmt: skip
