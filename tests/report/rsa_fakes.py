"""Turn a seed into an RSA with everything that one can have, and into two protocols side by side."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
from report_fakes import FAMILIES, INTERVAL, STREAMS, SYSTEMS, fake_rsa

from brainsim.report.content import AuditSet, Estimate, GeometrySet, RsaSet

MODELS = tuple((m, f) for m, (f, _) in SYSTEMS.items())


def around(rng: np.random.Generator, mean: float, half: float = 0.02) -> Estimate:
    """Return an estimate near a mean, with an interval."""
    value = float(mean + rng.normal(0, half / 3))
    return Estimate(value, value - half, value + half)


def fake_geometry(*, n_subjects: int = 4, n_pixels: int = 40, seed: int = 0) -> GeometrySet:
    """Return RDMs of TRs that drift, and a likeness in which neighbouring layers are alike."""
    rng = np.random.default_rng(seed)
    layers = fake_rsa().layers
    n = len(layers) + len(STREAMS)
    place = np.cumsum(rng.normal(0, 0.35, (n, 6)), axis=0)
    cosine = place / np.linalg.norm(place, axis=1, keepdims=True)
    similarity = np.clip(cosine @ cosine.T, -0.2, 1)
    similarity[len(layers) :] *= 0.4
    similarity[:, len(layers) :] *= 0.4
    np.fill_diagonal(similarity, 1)
    time = np.arange(n_pixels)
    near = np.abs(time[:, None] - time[None]) < 3
    pictures = rng.normal(size=(len(STREAMS) + 9, n_pixels, n_pixels)).cumsum(1).cumsum(2)
    pictures = pictures + pictures.transpose(0, 2, 1)
    pictures[:, near] = np.nan
    return GeometrySet(
        names=(*STREAMS, *(f"{m}: block.3" for m, _ in MODELS)),
        kinds=(*("stream" for _ in STREAMS), *(f for _, f in MODELS)),
        pictures=pictures.astype(np.float32),
        similarity=((similarity + similarity.T) / 2).astype(np.float32),
        layers=layers,
        streams=STREAMS,
        rows="TRs",
        block="run-1",
        n_rows=3 * n_pixels,
        n_per_pixel=3,
        comparison="spearman",
        n_subjects=n_subjects,
        n_blocks=8,
    )


def fake_whole_rsa(*, n_subjects: int = 4, seed: int = 0, families: tuple[str, ...] = FAMILIES) -> RsaSet:
    """Return an RSA with best layers, comparisons, pairs, residuals, parts of RDM variance and pictures."""
    rng = np.random.default_rng(seed)
    base = fake_rsa(n_subjects=n_subjects, seed=seed)
    size = {(s, m): base.group[s, m].mean for s in STREAMS for m, _ in MODELS}
    comparisons = []
    for s in STREAMS:
        for a, b in combinations([m for m, _ in MODELS], 2):
            e = around(rng, size[s, a] - size[s, b], 0.04)
            q = float(rng.uniform(0, 0.2)) if e.excludes_zero else 0.4
            row = {"stream": s, "a": a, "b": b, "mean": e.mean, "low": e.low, "high": e.high}
            comparisons.append({**row, "p": q / 2, "q": q, "n_subjects": n_subjects})
    parts = tuple(c for k in range(1, len(families) + 1) for c in combinations(families, k))
    values = np.abs(rng.gamma(0.5, 0.01, (1, len(STREAMS), len(parts)))) + rng.normal(
        0, 0.002, (n_subjects, len(STREAMS), len(parts))
    )
    first = np.array([[len(base.layers) * 0 + i for i in range(0, 99, 11)]])
    best = np.broadcast_to(first, (n_subjects, len(STREAMS), 9)) + rng.integers(0, 11, (n_subjects, len(STREAMS), 9))
    return replace(
        base,
        name="whole",
        group={c: replace(e, p=(q := float(rng.uniform(0, 0.1))) / 2, q=q) for c, e in base.group.items()},
        best_score=base.model_score - 0.01,
        best_layer=best.astype(float),
        best={k: around(rng, v - 0.01) for k, v in size.items()},
        comparisons=tuple(comparisons),
        pairs={
            (s, a, b): around(rng, max(size[s, a], size[s, b]) + 0.02)
            for s in STREAMS
            for a, b in combinations([m for m, _ in MODELS], 2)
        },
        residuals={
            (s, a, b): around(rng, 0.0 if a == b else max(size[s, b] - 0.6 * size[s, a], -0.02))
            for s in STREAMS
            for a, _ in MODELS
            for b, _ in MODELS
        },
        together={s: around(rng, 0.3) for s in STREAMS},
        families=families,
        unique=values[..., : len(families)],
        alone=0.3 * values.sum(-1, keepdims=True).repeat(len(families), -1),
        joint=values.sum(-1),
        parts=parts,
        part_values=values,
        n_subsets=len(parts),
        family_comparisons=tuple(
            {
                "stream": s,
                "quantity": "unique",
                "a": a,
                "b": b,
                "mean": e.mean,
                "low": e.low,
                "high": e.high,
                "p": q,
                "q": q,
                "p_subjects": q,
                "q_subjects": q,
                "n_subjects": n_subjects,
            }
            for i, s in enumerate(STREAMS)
            for (j, a), (k, b) in combinations(enumerate(families), 2)
            for e in [around(rng, float((values[:, i, j] - values[:, i, k]).mean()), 0.006)]
            for q in [0.01 if e.excludes_zero else 0.4]
        ),
        group_families={
            ("unique", s, f): replace(around(rng, float(values[:, i, j].mean()), 0.006), p=0.01 * (j + 1), q=0.05)
            for i, s in enumerate(STREAMS)
            for j, f in enumerate(families)
        },
        group_joint={s: around(rng, float(values[:, i].sum(-1).mean()), 0.01) for i, s in enumerate(STREAMS)},
        group_parts={
            (s, p): around(rng, float(values[:, i, j].mean()), 0.006)
            for i, s in enumerate(STREAMS)
            for j, p in enumerate(parts)
        },
        geometry=fake_geometry(n_subjects=n_subjects, seed=seed),
        interval=INTERVAL,
        options={**base.options, "lag_means": "removed", "subsets": "all", "combine": "nnls", "cv": "runs"},
    )


def fake_audit(*, seed: int = 0) -> AuditSet:
    """Return two protocols of which some conclusions differ."""
    rng = np.random.default_rng(seed)
    default = {(s, m): around(rng, rng.uniform(0.02, 0.2)) for s in STREAMS for m, _ in MODELS}
    study = {k: around(rng, 1.8 * e.mean) for k, e in default.items()}
    names = ("mask", "features", "sampling", "edges", "lag", "weights", "comparison")
    changed = tuple(
        {"stream": s, "a": a, "b": b, "default": "neither", "study": b, "changed_by": list(by)}
        for s, a, b, by in (
            ("early", MODELS[0][0], MODELS[4][0], ("features",)),
            ("dorsal", MODELS[2][0], MODELS[6][0], ("sampling", "lag")),
            ("dorsal", MODELS[3][0], MODELS[8][0], ()),
        )
    )
    steps = tuple(
        {
            "quirk": n, "words": f"what step {n} does", "differs": n not in ("mask", "edges"),
            "not_stored": [MODELS[4][0]] if n in ("mask", "features") else [],
            "rows": [{"stream": s, "model": m, "mean": e.mean + 0.01} for (s, m), e in default.items()],
        }
        for n in names
    )  # fmt: skip
    return AuditSet(
        name="whole", dataset="planted", streams=STREAMS, models=MODELS, default=default, study=study, changed=changed,
        steps=steps, n_conclusions=144, max_q=0.05, n_subjects=4, comparisons=("spearman", "pearson"),
    )  # fmt: skip
