"""`brainsim rsa` on movies: the study's scores from a store against the slow way, and what the defaults find."""

from __future__ import annotations

import shutil
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rsa_store import MODELS, N_LAYERS, bold, convolved, write_store
from scipy.stats import spearmanr
from sklearn.linear_model import LinearRegression

from brainsim import rsa
from brainsim.core.errors import BrainsimError, InvalidValueError, StoreError
from brainsim.rsa.compare import SEE_ZERO
from brainsim.store import Store

N_TRS = (70, 66, 74, 68, 72, 64)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("rsa") / "s.zarr", n_trs=N_TRS)


def pairs_of(X: np.ndarray) -> np.ndarray:
    return 1 - np.corrcoef(X)[np.triu_indices(len(X), k=1)]


@pytest.fixture(scope="module")
def slow() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Layer RDMs and the first subject's RDMs of every run, by convolving every feature."""
    A = [
        np.stack([pairs_of(convolved(m, layer, run, n)) for m in MODELS for layer in range(N_LAYERS)])
        for run, n in enumerate(N_TRS)
    ]
    Y = []
    for run, n in enumerate(N_TRS):
        values = bold(0, run, n, ("cnn", "flow"), 0.3).astype(np.float64)
        Y.append(np.stack([pairs_of(values[:, :12]), pairs_of(values[:, 12:])]))
    return A, Y


def weights(A: np.ndarray, y: np.ndarray) -> np.ndarray:
    return LinearRegression(positive=True).fit(A.T, y).coef_


def test_protocol_study_equals_the_slow_way(store: Path, slow: tuple[list[np.ndarray], list[np.ndarray]]) -> None:
    A, Y = slow
    rsa("study", dataset="toy", store=store, protocol="study")
    opened = Store(store)
    node = "rsa/study/toy/sub-01"
    info = opened.info(node)
    model, pair = opened.read(node, "model_score"), opened.read(node, "pair_score")
    together = opened.read(node, "together_folds")
    residual = opened.read(node, "residual_score")
    columns = {m: [2 * i, 2 * i + 1] for i, m in enumerate(MODELS)}
    names = [m["model"] for m in info.attributes["models"]]
    streams = info.attributes["streams"]

    def score(chosen: list[int], s: int) -> float:
        own = [weights(a[chosen], y[s]) for a, y in zip(A, Y, strict=True)]
        found = []
        for held in range(len(A)):
            w = np.mean([own[r] for r in range(len(A)) if r != held], axis=0)
            found.append(np.corrcoef(w @ A[held][chosen], Y[held][s])[0, 1])
        return float(np.mean(found))

    for s, stream in enumerate(("early", "dorsal")):
        at = streams.index(stream)
        for (a, first), (b, second) in product(enumerate(names), repeat=2):
            chosen = columns[first] if a == b else columns[first] + columns[second]
            assert pair[a, b, at] == pytest.approx(score(chosen, s), abs=1e-6)
        np.testing.assert_allclose(model[:, at], pair[np.arange(3), np.arange(3), at], atol=1e-6)
        assert together[at].mean() == pytest.approx(score(list(range(6)), s), abs=1e-6)
        assert residual[names.index("cnn"), names.index("flow"), at] == pytest.approx(
            slow_residual(A, [y[s] for y in Y], columns["cnn"], columns["flow"]), abs=1e-6
        )


def slow_residual(A: list[np.ndarray], Y: list[np.ndarray], control: list[int], target: list[int]) -> float:
    fits = [LinearRegression(positive=True).fit(a[control].T, y) for a, y in zip(A, Y, strict=True)]
    rest = [weights(a[target], y - f.predict(a[control].T)) for a, y, f in zip(A, Y, fits, strict=True)]
    found = []
    for held, (a, y) in enumerate(zip(A, Y, strict=True)):
        others = [r for r in range(len(A)) if r != held]
        left = y - np.mean([fits[r].coef_ for r in others], axis=0) @ a[control]
        found.append(np.corrcoef(np.mean([rest[r] for r in others], axis=0) @ a[target], left)[0, 1])
    return float(np.mean(found))


def test_study_layers_equal_the_slow_way(store: Path, slow: tuple[list[np.ndarray], list[np.ndarray]]) -> None:
    A, Y = slow
    rsa("study", dataset="toy", store=store, protocol="study")
    layer = Store(store).read("rsa/study/toy/sub-01", "layer_score")
    at = Store(store).info("rsa/study/toy/sub-01").attributes["streams"].index("early")
    expected = [np.mean([np.corrcoef(a[row], y[0])[0, 1] for a, y in zip(A, Y, strict=True)]) for row in range(6)]
    np.testing.assert_allclose(layer[:, at], expected, atol=1e-6)


def test_defaults_find_the_planted_models_and_families(store: Path) -> None:
    summary = rsa("geo", dataset="toy", store=store)
    best = {}
    for row in summary.rows:
        if row["mean"] > best.get(row["stream"], {"mean": -1})["mean"]:
            best[row["stream"]] = row
    assert {s: r["model"] for s, r in best.items()} == {"early": "cnn", "dorsal": "flow"}
    assert all(r["q"] < 0.05 for r in best.values())
    compared = Store(store).info("rsa/geo/toy/group").attributes["comparisons"]
    assert next(r for r in compared if (r["stream"], r["a"], r["b"]) == ("early", "cnn", "flow"))["q"] < 0.05
    unique = {(r["stream"], r["family"]): r["mean"] for r in summary.unique}
    assert unique["early", "static"] > 0.1 > 0.03 > unique["early", "dynamic"]
    assert unique["dorsal", "dynamic"] > 0.1 > 0.03 > unique["dorsal", "static"]
    assert abs(unique["early", "masked"]) < 0.03
    again = rsa("geo", dataset="toy", store=store)
    assert (again.n_nodes_written, again.n_nodes_reused) == (0, 4)
    assert again.rows == summary.rows


def test_what_is_unique_in_similarity_is_what_all_lose_without_a_family(store: Path) -> None:
    from brainsim.commands.score_sources import find_scores

    rsa("sets", dataset="toy", store=store)
    node = Store(store).info("rsa/sets/toy/sub-01")
    everyone = ["cnn", "flow", "mae"]
    sets = [{m.split("@")[0] for m in members} for members in node.attributes["joint_sets"]]
    assert sets[0] == set(everyone)
    assert {frozenset(s) for s in sets[1:]} == {frozenset(everyone) - {m} for m in everyone}
    scores = find_scores(Store(store), "toy", rsas=["sets"], as_rows=False)[0]
    gain = scores.sets[frozenset(everyone)] - scores.sets[frozenset({"flow", "mae"})]
    early, dorsal = (scores.streams.index(stream) for stream in ("early", "dorsal"))
    assert gain[:, early].min() > 0.1
    assert np.abs(gain[:, dorsal]).max() < 0.05
    # All layers together are what the node calls together, by the comparison of the analysis.
    pearson = rsa("linear", dataset="toy", store=store, compare="pearson")
    assert pearson.n_nodes_written == 4
    joint = Store(store).read("rsa/linear/toy/sub-01", "joint_score_folds")[0]
    np.testing.assert_allclose(joint, Store(store).read("rsa/linear/toy/sub-01", "together_folds"), atol=1e-6)


def test_near_pairs_and_edges_are_left_out(store: Path) -> None:
    from rsa_store import features

    from brainsim.features.hrf import hrf_matrix

    rsa("cut", dataset="toy", store=store, models=("cnn",), min_lag_s=10, trim_s=6, method="none")
    layer = Store(store).read("rsa/cut/toy/sub-02", "layer_score_folds")
    streams = Store(store).info("rsa/cut/toy/sub-02").attributes["streams"]
    run, n = 2, 74
    x = features("cnn", 1, run, n).astype(np.float64).reshape(n, 10, -1).mean(axis=1)
    X = (hrf_matrix(n, 2.0) @ (x - x.mean(axis=0)))[3:-3]
    values = bold(1, run, n, ("cnn", "flow"), 0.3)[3:-3].astype(np.float64)
    i, j = np.triu_indices(n - 6, k=1)
    far = j - i >= 5
    model, brain = pairs_of(X)[far], pairs_of(values[:, :12])[far]
    for rdm in (model, brain):
        for lag in range(5, n):
            same = (j - i)[far] == lag
            rdm[same] -= rdm[same].mean() if same.any() else 0
    expected = spearmanr(model, brain).statistic
    assert layer[1, streams.index("early"), run] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "words",
    [
        {"combine": "ridge"},
        {"cv": "subjects"},
        {"pairs": "between-run"},
        {"pairs": "all"},
        {"compare": "cka", "distance": "sqeuclidean", "min_lag_s": 0},
        {"compare": "whitened-cosine", "min_lag_s": 0},
        {"compare": "cosine", "distance": "euclidean"},
        {"compare": "kendall", "distance": "cosine"},
        {"method": "residual"},
    ],
)
def test_every_word_finds_the_planted_model(store: Path, words: dict[str, Any]) -> None:
    name = "-".join(f"{v}" for v in words.values())
    summary = rsa(name, dataset="toy", store=store, models=("cnn", "mae"), **{"method": "none", **words})
    early = {row["model"]: row["mean"] for row in summary.rows if row["stream"] == "early"}
    if words.get("compare") == "cosine":  # a model of no weight is the mean distance, whose cosine is near 1
        assert 1 - early["mae"] > 1.2 * (1 - early["cnn"])
    else:
        assert early["cnn"] > early["mae"] + 0.05
    rows = Store(store).info(f"rsa/{name}/toy/group").attributes["rows"]
    assert all((row["p"] is None) == (words.get("compare") in SEE_ZERO) for row in rows)
    ceiling = next(c for c in summary.ceilings if c["stream"] == "early")
    assert ceiling["lower"] < ceiling["upper"]


@pytest.mark.parametrize("distance", ["mahalanobis", "crossnobis"])
def test_repeats_give_distances_in_units_of_noise(tmp_path: Path, distance: str) -> None:
    store = write_store(tmp_path / "s.zarr", n_trs=(30, 32, 34), repeats=2, noise=2.0)
    summary = rsa("x", dataset="toy", store=store, distance=distance, method="none", min_lag_s=0)
    early = {row["model"]: row["mean"] for row in summary.rows if row["stream"] == "early"}
    assert early["cnn"] > max(early["mae"], early["flow"])


def test_both_protocols_are_told_side_by_side(tmp_path: Path) -> None:
    store = write_store(tmp_path / "s.zarr", n_trs=N_TRS, protocols=("default", "study"))
    summary = rsa("two", dataset="toy", store=store, protocol="both", method="none")
    opened = Store(store)
    assert opened.has("rsa/two/toy/group")
    assert opened.has("rsa/two-study/toy/group")
    audit = opened.info("audits/two/toy").attributes
    assert [step["quirk"] for step in audit["steps"]] == [
        "mask",
        "scaling",
        "window",
        "features",
        "sampling",
        "edges",
        "lag",
        "weights",
        "comparison",
    ]
    # The study's activations are others here: conclusions about the planted models do not survive them.
    changed = [row for row in summary.audit if row["stream"] == "early" and row["a"] == "cnn"]
    assert changed
    assert all("features" in row["changed_by"] for row in changed)
    again = rsa("two", dataset="toy", store=store, protocol="both", method="none")
    assert again.n_nodes_written == 0
    assert again.audit == summary.audit


def test_an_audit_tells_the_steps_of_extraction_apart_where_each_is_stored(tmp_path: Path) -> None:
    both = {"dataset": "toy", "protocol": "both", "method": "none"}
    names = ("default", "study", "study-mask", "study-scaling", "study-window")
    store = write_store(tmp_path / "s.zarr", n_trs=N_TRS, protocols=names[:3])
    rsa("two", store=store, **both)
    steps = {step["quirk"]: step for step in Store(store).info("audits/two/toy").attributes["steps"]}
    assert [name for name in ("mask", "scaling", "window", "features") if steps[name]["differs"]] == [
        "mask",
        "features",
    ]
    # A step alone is the RSA of its activations.
    alone = write_store(tmp_path / "alone.zarr", n_trs=N_TRS, protocols=("study-mask",))
    assert steps["mask"]["rows"] == list(rsa("two", dataset="toy", store=alone, method="none").rows)
    # What is stored later is told later, by the same command.
    more = write_store(tmp_path / "more.zarr", n_trs=N_TRS, protocols=names)
    for node in Store(more).nodes("activations"):
        if node.attributes["protocol"] in names[3:]:
            shutil.copytree(more / node.path, store / node.path)
            for parent in Path(node.path).parents[:-1]:
                shutil.copy(more / parent / "zarr.json", store / parent / "zarr.json")
    again = rsa("two", store=store, **both)
    assert (again.n_nodes_written, again.n_nodes_reused) == (1, 8)
    kept = Store(store).info("audits/two/toy").attributes
    assert all(step["differs"] for step in kept["steps"] if step["quirk"] in ("mask", "scaling", "window", "features"))
    assert rsa("two", store=store, **both).n_nodes_written == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"protocol": "study", "compare": "spearman"}, "--protocol study has pearson"),
        ({"compare": "cka"}, "needs all pairs"),
        ({"distance": "crossnobis"}, "shown once"),
        ({"trim_s": 60}, "run run-2 has 66 TRs; 6 are left"),
        ({"protocol": "studdy"}, "did you mean 'study'"),
        ({"model_rdms": {"m": ("x.npy",)}}, "goes with --rdms"),
        ({"min_lag_s": -1}, "--min-lag-s"),
        ({"subsets": "max-order=0"}, "max-order"),
    ],
)
def test_bad_words_are_told(store: Path, words: dict[str, Any], told: str) -> None:
    with pytest.raises(BrainsimError, match=told):
        rsa("bad", dataset="toy", store=store, **words)
    assert not Store(store).has("rsa/bad/toy/group")


@pytest.mark.parametrize("words", [{"min_lag_s": -1}, {"compare": "cka", "pairs": "between-run"}, {"combine": "ols"}])
def test_words_are_checked_before_a_store_is_there(tmp_path: Path, words: dict[str, Any]) -> None:
    """A study's plan asks beforehand."""
    for protocol in ("default", "both"):
        with pytest.raises(InvalidValueError, match=f"--{next(iter(words)).replace('_', '-')}"):
            rsa("plan", dataset="toy", store=tmp_path / "none.zarr", protocol=protocol, dry_run=True, **words)
    with pytest.raises(StoreError):  # betas may have it, and movies with --min-lag-s 0
        rsa("plan", dataset="toy", store=tmp_path / "none.zarr", compare="cka", dry_run=True)


def test_one_run_scores_layers_alone_and_says_so(tmp_path: Path) -> None:
    store = write_store(tmp_path / "s.zarr", n_trs=(50,), subjects=("sub-01", "sub-02"))
    summary = rsa("one", dataset="toy", store=store, models=("cnn",), method="none")
    assert any("one block of pairs" in warning for warning in summary.warnings)
    assert all(row["mean"] is None and row["p"] is None for row in summary.rows)
    assert np.isfinite(Store(store).read("rsa/one/toy/sub-01", "layer_score")).all()


def test_a_run_that_one_subject_lacks_takes_the_ceilings_and_that_is_told(tmp_path: Path) -> None:
    store = write_store(tmp_path / "s.zarr", n_trs=(50, 48, 52))
    words: dict[str, Any] = {"dataset": "toy", "store": store, "models": ("cnn", "flow"), "method": "none"}
    whole = rsa("whole", **words)
    assert {row["stream"] for row in whole.ceilings} == {"early", "dorsal"}
    assert not any("noise ceiling" in warning for warning in whole.warnings)
    shutil.rmtree(store / "bold" / "toy" / "sub-02" / "run-3")
    summary = rsa("lacking", **words)
    assert summary.ceilings == ()
    (told,) = [warning for warning in summary.warnings if "noise ceiling" in warning]
    assert "sub-01, sub-03: 3 runs, 150 TRs; sub-02: 2 runs, 98 TRs" in told
    assert "--subjects sub-01,sub-03 has them" in told
    assert told in Store(store).info("rsa/lacking/toy/group").attributes["warnings"]
    again = rsa("two", **words, subjects=("sub-01", "sub-03"))
    assert {row["stream"] for row in again.ceilings} == {"early", "dorsal"}


@pytest.mark.parametrize("protocol", ["default", "study"])
def test_one_subject_has_no_p_where_it_has_no_interval(tmp_path: Path, protocol: str) -> None:
    store = write_store(tmp_path / "s.zarr", n_trs=(50, 48, 52), subjects=("sub-01",))
    summary = rsa("alone", dataset="toy", store=store, protocol=protocol)
    group = Store(store).info("rsa/alone/toy/group").attributes
    for row in (*summary.rows, *group["rows"], *group["comparisons"]):
        assert row["mean"] is not None
        assert [row[name] for name in ("low", "high", "p", "q", "p_subjects", "q_subjects")] == [None] * 6
    assert any(warning.startswith("One subject: no interval over subjects") for warning in summary.warnings)
