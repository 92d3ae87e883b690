"""`brainsim rsa` on betas: stimuli instead of TRs, repeats, and unique variance of RDMs that was planted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from brainsim import rsa
from brainsim.commands.ingest import ingest
from brainsim.core.errors import BrainsimError
from brainsim.rsa.repeats import crossnobis_rdm
from brainsim.store import Store

# What each family gives to the brain: so many voxels show its features as they are, and N_NOISE show noise. Distances
# add up over voxels, and those of n unrelated ones vary by 8 n: shares of voxels are shares of variance of the RDM.
N_SHOWN = {"static": 30, "flow": 20, "other": 0}
N_NOISE, N_FEATURES = 50, {"static": 30, "flow": 20, "other": 25}
N_STIMULI, N_SUBJECTS = 120, 3


def features(model: str) -> np.ndarray:
    rng = np.random.default_rng([sum(map(ord, model)), 1])
    return rng.standard_normal((N_STIMULI, N_FEATURES[model]))


def write_betas(folder: Path, *, n_repeats: int = 2, noise: float = 0.0, repeats: str = "mean") -> Path:
    """Write and ingest responses of subjects, and features of three models; return the store."""
    rng = np.random.default_rng(0)
    (folder / "betas").mkdir(parents=True)
    for subject in range(N_SUBJECTS):
        signal = np.concatenate(
            [*(features(m)[:, :n] for m, n in N_SHOWN.items()), rng.standard_normal((N_STIMULI, N_NOISE))], axis=1
        )
        shown = signal + noise * rng.standard_normal((n_repeats, *signal.shape))
        np.save(folder / "betas" / f"sub-{subject + 1:02d}_run-1.npy", shown.astype(np.float32))
    store = folder / "s.zarr"
    ingest(folder / "betas", dataset="nsd", store=store, format="betas", repeats=repeats)
    stimulus = Store(store).info(next(n.path for n in Store(store).nodes("bold", type="bold"))).attributes["stimulus"]
    opened = Store(store, mode="a")
    for model in N_FEATURES:
        for layer, columns in enumerate(np.array_split(np.arange(N_FEATURES[model]), 2)):
            opened.write(
                f"activations/{model}@00000000/layer{layer}/{stimulus}",
                type="activations",
                key={"model": model, "layer": layer},
                arrays={
                    "values": features(model)[:, columns].astype(np.float32),
                    "time_s": np.arange(1.0, N_STIMULI + 1),
                    "window_s": np.stack([np.arange(N_STIMULI), np.arange(1, N_STIMULI + 1)], axis=1).astype(float),
                },
                attributes={
                    "model": model, "layer": f"layer{layer}", "layer_index": layer, "family": model,
                    "stimulus": stimulus,
                },
            )  # fmt: skip
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_betas(tmp_path_factory.mktemp("betas"))


def lost_without(store: Path, family: str) -> float:
    """Return the share of held-out RDM variance that goes with the voxels that show a family, by true weights."""
    opened = Store(store)
    ends = dict(zip(N_SHOWN, np.cumsum(list(N_SHOWN.values())), strict=True))
    i, j = np.triu_indices(N_STIMULI, k=1)
    found = []
    for node in opened.nodes("bold/nsd", type="bold"):
        values = opened.read(node.path, "values").astype(np.float64)
        own = values[:, ends[family] - N_SHOWN[family] : ends[family]]
        whole, noise = (pdist(v, "sqeuclidean") for v in (values, values[:, -N_NOISE:]))
        part = pdist(own, "sqeuclidean") if own.shape[1] else np.zeros_like(whole)
        for fold in range(5):
            held = (i % 5 == fold) & (j % 5 == fold)
            found.append((np.var(part[held] + noise[held]) - np.var(noise[held])) / np.var(whole[held]))
    return float(np.mean(found))


def test_planted_unique_variance_of_rdms_is_recovered_from_betas(store: Path) -> None:
    summary = rsa("parts", dataset="nsd", store=store, distance="sqeuclidean", compare="pearson", subsets="all")
    assert len(summary.unique) == 3
    assert {row["family"]: row["q"] < 0.05 for row in summary.unique} == {"static": True, "flow": True, "other": False}
    for row in summary.unique:
        assert row["mean"] == pytest.approx(lost_without(store, row["family"]), abs=0.02)  # in these 120 stimuli
        shown = N_SHOWN[row["family"]]
        assert row["mean"] == pytest.approx(shown / (sum(N_SHOWN.values()) + N_NOISE), abs=0.07)  # in any
    group = Store(store).info("rsa/parts/nsd/group").attributes
    shared = [row["mean"] for row in group["parts"] if len(row["families"]) > 1]
    assert len(shared) == 4
    assert np.abs(shared).max() < 0.03  # families are unrelated
    assert group["joint"][0]["mean"] == pytest.approx(0.5, abs=0.04)
    assert group["joint"][0]["q"] < 0.05
    pairs = {(row["a"], row["b"]): row for row in group["family_comparisons"]}
    unique = {row["family"]: row["mean"] for row in summary.unique}
    assert {row["quantity"] for row in pairs.values()} == {"unique"}
    for (a, b), row in pairs.items():
        assert row["mean"] == pytest.approx(unique[a] - unique[b], abs=1e-9)
        # These 120 stimuli do not tell static and flow apart; the family that was not planted has less than both.
        assert (row["q"] < 0.05) == ("other" in (a, b))
    best = max(summary.rows, key=lambda row: row["mean"])
    assert (best["model"], best["q"] < 0.05) == ("static", True)
    compared = {(row["a"], row["b"]): row for row in group["comparisons"]}
    assert compared["other", "static"]["q"] < 0.05
    assert compared["other", "static"]["mean"] < -compared["flow", "other"]["mean"] < -0.1
    again = rsa("parts", dataset="nsd", store=store, distance="sqeuclidean", compare="pearson", subsets="all")
    assert (again.n_nodes_written, again.n_nodes_reused) == (0, N_SUBJECTS + 1)
    assert again.unique == summary.unique


def test_what_systems_lose_without_a_family_answers_claims(store: Path) -> None:
    from brainsim.commands.score_sources import find_scores

    rsa("joint", dataset="nsd", store=store, distance="sqeuclidean", n_bootstraps=20)
    scores = find_scores(Store(store), "nsd", rsas=["joint"], as_rows=False)[0]
    everyone = frozenset(N_SHOWN)
    gain = scores.sets[everyone] - scores.sets[everyone - {"flow"}]
    assert gain.min() > 0.1
    assert np.abs(scores.sets[everyone] - scores.sets[everyone - {"other"}]).max() < 0.05


def test_layers_are_compared_stimulus_by_stimulus(store: Path) -> None:
    rsa("layers", dataset="nsd", store=store, models=("static",), n_bootstraps=20)
    opened = Store(store)
    node = opened.info("rsa/layers/nsd/sub-02")
    run = next(n.path for n in opened.nodes("bold/nsd/sub-02", type="bold"))
    brain = pdist(opened.read(run, "values").astype(np.float64), "correlation")
    model = pdist(features("static")[:, :15].astype(np.float32).astype(np.float64), "correlation")
    found = opened.read("rsa/layers/nsd/sub-02", "layer_score")[0, 0]
    assert found == pytest.approx(spearmanr(model, brain).statistic, abs=1e-9)
    (stream,) = node.attributes["streams"]
    assert node.attributes["n_targets"] == {stream: 100}
    assert node.attributes["layers"][0]["family"] == "static"


def test_repeats_give_crossnobis_distances(tmp_path: Path) -> None:
    store = write_betas(tmp_path, n_repeats=3, noise=1.5, repeats="keep")
    summary = rsa(
        "cross", dataset="nsd", store=store, distance="crossnobis", models=("static", "other"), n_bootstraps=20
    )
    rows = {row["model"]: row for row in summary.rows}
    assert rows["static"]["mean"] > 0.2 > abs(rows["other"]["mean"]) + 0.1
    opened = Store(store)
    runs = sorted(n.path for n in opened.nodes("bold/nsd/sub-01", type="bold"))
    repeats = np.stack([opened.read(run, "values") for run in runs])
    expected = crossnobis_rdm(repeats)
    model = pdist(features("static")[:, :15].astype(np.float32).astype(np.float64), "sqeuclidean")
    found = opened.read("rsa/cross/nsd/sub-01", "layer_score")[0, 0]
    assert found == pytest.approx(spearmanr(model, expected).statistic, abs=1e-6)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"protocol": "study"}, "the study has movies only: betas have default"),
        ({"min_lag_s": 8.0}, "--min-lag-s is 8.0; betas have no time between rows"),
        ({"cv": "subjects"}, "--cv is subjects"),
        ({"method": "residual"}, "betas have partition or none"),
        ({"distance": "crossnobis"}, "1 of 1 stimuli were shown once"),
        ({"families": {"x": ("none-*",)}}, "matches no stored model"),
        ({"n_bootstraps": -1}, "--n-bootstraps"),
        ({"subsets": "pairs"}, "pairs"),
    ],
)
def test_bad_words_for_betas_are_told(store: Path, words: dict[str, Any], told: str) -> None:
    with pytest.raises(BrainsimError, match=told):
        rsa("bad", dataset="nsd", store=store, **words)
    assert not Store(store).has("rsa/bad/nsd/group")


def test_subjects_who_saw_other_stimuli_are_told(tmp_path: Path) -> None:
    store = write_betas(tmp_path)
    np.save(tmp_path / "betas" / "sub-01_run-1.npy", np.random.default_rng(0).random((2, 60, 100)).astype(np.float32))
    ingest(tmp_path / "betas", dataset="nsd", store=store, format="betas", overwrite=True)
    with pytest.raises(BrainsimError, match="sub-01 and sub-02 of nsd saw different stimuli"):
        rsa("bad", dataset="nsd", store=store)
