"""Turn a seed into page content that looks like a real study's: five families, nine systems, four streams."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np

from brainsim.report.content import (
    Content,
    DatasetNote,
    Estimate,
    FitSet,
    Layer,
    NodeNote,
    PartitionSet,
    RegionRow,
    RsaSet,
    RunQuality,
    SearchNote,
    SystemNote,
    Truth,
)

STREAMS = ("early", "ventral", "lateral", "dorsal")
SYSTEMS = {
    "cnn-static-object-tiny": ("static-cnn", 11),
    "cnn-static-action-tiny": ("static-cnn", 11),
    "cnn-flow-selfsup-tiny": ("dynamic-cnn", 11),
    "cnn-flow-action-tiny": ("dynamic-cnn", 11),
    "mae-base-tiny": ("image-mae", 12),
    "mae-base-finetuned-tiny": ("image-mae", 12),
    "videomae-base-tiny": ("video-mae", 12),
    "videomae-base-finetuned-tiny": ("video-mae", 12),
    "mvd-base-tiny": ("mvd", 12),
}
FAMILIES = ("static-cnn", "dynamic-cnn", "image-mae", "video-mae", "mvd")
INTERVAL = "95 % bootstrap interval over subjects"
REGIONS = ("V1", "V2", "V3", "hV4", "VO1", "VO2", "LO1", "LO2", "MT", "MST", "V3A", "V3B", "IPS0", "IPS1")
OPTIONS = {
    "models": ["*"],
    "bands": "system",
    "delays": [1, 2, 3, 4],
    "cv": "runs",
    "solver": "loro",
    "alphas": [float(a) for a in np.logspace(-2, 5, 15)],
    "n_candidates": 200,
    "scaling": "zscore",
    "seed": 0,
}


def fake_layers() -> tuple[Layer, ...]:
    """Return the 104 layers of the nine systems."""
    return tuple(Layer(m, f"block.{i}", i, f) for m, (f, n) in SYSTEMS.items() for i in range(n))


def fake_searches(n_subjects: int = 4, **changed: object) -> tuple[SearchNote, ...]:
    """Return searches in which little went wrong; keywords change what they tell."""
    told = {
        "n_fitted": 437, "n_masked": 7, "masked": {"not finite": 2, "constant in a test fold": 5}, "edge_share": 0.031,
        "n_candidates": 300, "n_factored": 4200, **changed,
    }  # fmt: skip
    return tuple(SearchNote(f"sub-{i + 1:02d}", **told) for i in range(n_subjects))  # type: ignore[arg-type]  # a fake


def fake_regions(n_subjects: int = 4, *, seed: int = 0, families: tuple[str, ...] = FAMILIES) -> tuple[RegionRow, ...]:
    """Return the joint score and each family's unique part of 14 ROIs, with intervals over runs."""
    rng = np.random.default_rng(seed)
    joint = rng.uniform(0.02, 0.25, len(REGIONS))
    unique = rng.gamma(0.6, 0.02, (len(families), len(REGIONS)))
    rows = []
    for i in range(n_subjects):
        for r, region in enumerate(REGIONS):
            for family, size in ((None, joint[r]), *((f, unique[k, r]) for k, f in enumerate(families))):
                mean = float(size + rng.normal(0, 0.008))
                half = float(rng.uniform(0.005, 0.02))
                quantity = "joint" if family is None else "unique"
                estimate = Estimate(mean, mean - half, mean + half)
                rows.append(RegionRow(f"sub-{i + 1:02d}", region, quantity, family, estimate, 30))
    return tuple(rows)


def fake_complete_partition(*, n_subjects: int = 4, seed: int = 0) -> tuple[PartitionSet, Truth]:
    """Return a partition with everything that nulls, ceilings, ROIs, refinement and a time budget add."""
    partition, truth = fake_partition(n_subjects=n_subjects, seed=seed)
    rng = np.random.default_rng(seed + 1)
    shape = partition.joint.shape
    options = {**OPTIONS, "subsets": "all", "entry_z": 2.0, "n_nulls": 100, "null_shift_s": 20.0, "refine": 2,
               "time_budget_s": 600.0, "nested": True}  # fmt: skip
    searches = fake_searches(
        n_subjects,
        n_float64=12,
        n_failed=1,
        edge_share=0.073,
        stopped=(212, 300),
        gain={"rounds": 2, "n_candidates": 96, "inner_before": 0.101, "inner_after": 0.105, "r2_before": 0.0953,
              "r2_after": 0.0961},
        nulls={"n_nulls": 100, "min_shift_trs": 10, "statistic": "correlation of BOLD and prediction on test runs"},
    )  # fmt: skip
    p_values = {
        key: replace(e, p_null=float(rng.uniform(0.0099, 0.5)), p=0.01, q=0.02 if e.low > 0 else 0.4, p_subjects=0.0625)
        for key, e in partition.group.items()
    }
    unique = np.clip(10 * np.nan_to_num(np.asarray(partition.unique)) + rng.normal(0, 0.02, (*shape, 5)), 0, 1)
    return (
        replace(
            partition,
            alone=0.6 * partition.joint[..., None] * rng.uniform(0.2, 1, (*shape, 5)),
            n_subsets=31,
            significant={"joint": np.clip(4 * partition.joint, 0, 1), "unique": unique},
            normalised=partition.joint / 0.3,
            regions=fake_regions(n_subjects, seed=seed),
            searches=searches,
            group=p_values,
            group_joint={s: replace(e, p=0.002, p_null=0.0099) for s, e in partition.group_joint.items()},
            options=options,
        ),
        truth,
    )


def fake_singles(*, n_subjects: int = 4) -> PartitionSet:
    """Return a partition for which each family alone and all together were scored, and nothing else."""
    whole, _ = fake_complete_partition(n_subjects=n_subjects)
    group = {("alone", s, f): Estimate(0.05, 0.02, 0.08) for s in whole.streams for f in whole.families}
    return replace(
        whole, unique=None, shapley=None, parts=(), part_values=None, n_subsets=6, group=group, group_parts={},
        significant={"joint": whole.significant["joint"]}, regions=fake_regions(n_subjects, families=()),
        options={**whole.options, "subsets": "singles"},
    )  # fmt: skip


def fake_partition(
    *, n_subjects: int = 4, seed: int = 0, streams: tuple[str, ...] = STREAMS
) -> tuple[PartitionSet, Truth]:
    """Return a partition whose parts sum to the joint R2, and the truth it scatters around."""
    rng = np.random.default_rng(seed)
    parts = tuple(c for size in range(1, 6) for c in combinations(FAMILIES, size))
    true = np.where(
        rng.random((len(streams), len(parts))) < 0.35, rng.gamma(1.2, 0.012, (len(streams), len(parts))), 0.0
    )
    true[:, 1] += 0.05
    values = true + rng.normal(0, 0.006, (n_subjects, *true.shape))
    holds = np.array([[f in p for p in parts] for f in FAMILIES])
    sizes = np.array([len(p) for p in parts])
    shapley = (values[:, :, None] * holds / sizes).sum(-1)

    def estimate(x: np.ndarray) -> Estimate:
        half = 2 * x.std() / np.sqrt(len(x))
        return Estimate(float(x.mean()), float(x.mean() - half), float(x.mean() + half))

    cells = [(s, stream, f, family) for s, stream in enumerate(streams) for f, family in enumerate(FAMILIES)]
    group = {("unique", stream, family): estimate(values[:, s, f]) for s, stream, f, family in cells}
    group |= {("shapley", stream, family): estimate(shapley[:, s, f]) for s, stream, f, family in cells}
    subjects = tuple(f"sub-{i + 1:02d}" for i in range(n_subjects))
    partition = PartitionSet(
        name="families",
        dataset="planted",
        subjects=subjects,
        streams=streams,
        families=FAMILIES,
        n_targets=np.tile(np.array([120, 96, 140, 88, 60, 50, 40, 30][: len(streams)]), (n_subjects, 1)),
        unique=values[:, :, :5],
        joint=values.sum(-1),
        shapley=shapley,
        product=shapley * 0.97,
        parts=parts,
        part_values=values,
        group=group,
        group_joint={s: estimate(values.sum(-1)[:, i]) for i, s in enumerate(streams)},
        group_parts={(s, p): estimate(values[:, i, j]) for i, s in enumerate(streams) for j, p in enumerate(parts)},
        interval=INTERVAL,
        options=OPTIONS,
    )
    truth = Truth(
        dataset="planted",
        unique={(stream, family): float(true[s, f]) for s, stream, f, family in cells},
        joint={s: float(true[i].sum()) for i, s in enumerate(streams)},
        parts={(s, p): float(true[i, j]) for i, s in enumerate(streams) for j, p in enumerate(parts)},
        null=frozenset((stream, family) for s, stream, f, family in cells if true[s, f] == 0),
        description="Responses are planted mixes of the families' features, through an HRF, with autocorrelated noise",
    )
    return partition, truth


def fake_fit(*, n_subjects: int = 4, seed: int = 0, streams: tuple[str, ...] = STREAMS) -> FitSet:
    """Return a fit of nine systems with one hump per system in its layer curve."""
    rng = np.random.default_rng(seed)
    layers = fake_layers()
    depth = np.array([layer.index / (SYSTEMS[layer.model][1] - 1) for layer in layers])
    peak = {(m, s): rng.random() for m in SYSTEMS for s in streams}
    height = {(m, s): rng.uniform(0.02, 0.2) for m in SYSTEMS for s in streams}
    curve = np.array(
        [
            [
                height[y.model, s] * np.exp(-((d - peak[y.model, s]) ** 2) / 0.2)
                for y, d in zip(layers, depth, strict=True)
            ]
            for s in streams
        ]
    )
    r = {s: tuple(np.clip(rng.normal(0.35, 0.18, 120), -0.3, 0.9) for _ in range(n_subjects)) for s in streams}
    return FitSet(
        name="nine",
        dataset="planted",
        subjects=tuple(f"sub-{i + 1:02d}" for i in range(n_subjects)),
        streams=streams,
        r=r,
        r2={s: tuple(v**2 for v in values) for s, values in r.items()},
        bands=tuple(SYSTEMS),
        band_families=tuple(f for f, _ in SYSTEMS.values()),
        split_r2=np.abs(rng.normal(0.03, 0.02, (n_subjects, len(streams), 9))),
        layers=layers,
        layer_r2=curve + rng.normal(0, 0.006, (n_subjects, *curve.shape)),
        searches=fake_searches(n_subjects),
        n_folds=8,
        options=OPTIONS,
    )


def fake_rsa(*, n_subjects: int = 4, seed: int = 0) -> RsaSet:
    """Return similarity scores below a noise ceiling."""
    rng = np.random.default_rng(seed)
    score = rng.uniform(0.02, 0.25, (len(STREAMS), 9)) + rng.normal(0, 0.02, (n_subjects, len(STREAMS), 9))
    models = tuple((m, f) for m, (f, _) in SYSTEMS.items())
    mean, half = score.mean(0), score.std(0)
    return RsaSet(
        name="geometry",
        dataset="planted",
        subjects=tuple(f"sub-{i + 1:02d}" for i in range(n_subjects)),
        streams=STREAMS,
        models=models,
        model_score=score,
        layers=fake_layers(),
        layer_score=rng.uniform(0, 0.15, (n_subjects, len(STREAMS), 104)),
        group={
            (s, m): Estimate(float(mean[i, j]), float(mean[i, j] - half[i, j]), float(mean[i, j] + half[i, j]))
            for i, s in enumerate(STREAMS) for j, (m, _) in enumerate(models)
        },
        ceilings=dict.fromkeys(STREAMS, (0.28, 0.36)),
        comparison="spearman",
        distance="correlation",
        interval=INTERVAL,
        options={"min_lag_s": 8.0, "distance": "correlation", "compare": "spearman"},
    )  # fmt: skip


def fake_study(*, n_subjects: int = 4, seed: int = 0) -> Content:
    """Return everything that a page of the demo holds."""
    rng = np.random.default_rng(seed)
    partition, truth = fake_partition(n_subjects=n_subjects, seed=seed)
    runs = tuple(
        RunQuality(
            "planted", f"sub-{s + 1:02d}", f"run-{r + 1}", 60, 2.0, 443, 444, float(rng.normal(70, 8)),
            float(rng.uniform(0.1, 0.3)), float(rng.gamma(3, 0.05)), int(rng.integers(0, 4)), 1, 0,
        )
        for s in range(n_subjects)
        for r in range(8)
    )  # fmt: skip
    return Content(
        fits=(fake_fit(n_subjects=n_subjects, seed=seed),),
        partitions=(partition,),
        rsas=(fake_rsa(n_subjects=n_subjects, seed=seed),),
        truths={"planted": truth},
        runs=runs,
        datasets=(
            DatasetNote(
                "planted", "T1w", {s: (s,) for s in STREAMS},
                {"confounds": "motion6", "high_pass_s": 128.0, "standardize": "zscore", "drop_volumes": 0},
            ),
        ),
        systems=tuple(
            SystemNote(
                m, f, n, "supervised static", "none", "random (seed 0)", "default", "trailing", 1.0, "none",
                "He et al. 2016, Deep residual learning, doi:10.1109/CVPR.2016.90",
            )
            for m, (f, n) in SYSTEMS.items()
        ),
        nodes=(NodeNote("partitions/families/group", "partition-group", "ab" * 32, "2026-11-23T08:00:00Z", 0, 12345),),
        warnings=("fits/nine/planted/sub-01: 6.2 % of targets chose the largest alpha; widen the grid.",),
        software={"brainsim": "0.1.0", "python": "3.11.2", "numpy": "2.4.6"},
        store="brainsim-demo/store/brainsim.zarr",
        created="2026-11-23T09:00:00Z",
    )  # fmt: skip


def fake_table_study(*, seed: int = 0) -> Content:
    """Return the page of one subject, one ROI, one system of one layer, without truth or partition."""
    rng = np.random.default_rng(seed)
    r = np.clip(rng.normal(0.27, 0.22, 2365), -0.2, 0.86)
    r[:12] = np.nan
    fit = FitSet(
        name="pixels",
        dataset="szinte2024",
        subjects=("sub-01",),
        streams=("all",),
        r={"all": (r,)},
        r2={"all": (r**2,)},
        bands=("pixels",),
        band_families=("low-level",),
        split_r2=(r**2)[None, None, :1],
        layers=(Layer("pixels", "pixels", 0, "low-level"),),
        layer_r2=np.full((1, 1, 1), 0.1),
        searches=(SearchNote("sub-01", n_masked=12, edge_share=0.02),),
        n_folds=5,
        options={**OPTIONS, "delays": [2, 3, 4, 5, 6], "cv": "blocks", "n_blocks": 5, "gap_trs": 6, "bands": "system"},
    )
    return Content(
        fits=(fit,),
        runs=(RunQuality("szinte2024", "sub-01", "run-1", 150, 1.317025, 2353, 2365, n_constant=12, n_nan=0),),
        datasets=(
            DatasetNote("szinte2024", "table", {"all": ("all",)}, {"confounds": "none", "standardize": "zscore"}),
        ),
        systems=(SystemNote("pixels", "low-level", 1, "low-level", step_s=1.317, clip_window="trailing"),),
        software={"brainsim": "0.1.0"},
        store="store/brainsim.zarr",
        created="2026-11-23T09:00:00Z",
    )
