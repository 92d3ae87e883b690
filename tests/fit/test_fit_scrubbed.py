"""TRs that ingest scrubbed keep their place in time and take no part in fits, partitions and geometries."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fit_store import make_store
from himalaya.scoring import r2_score
from sklearn.kernel_ridge import KernelRidge

from brainsim.commands.fit import fit
from brainsim.commands.kernels import keep_rows
from brainsim.commands.partition import partition
from brainsim.commands.rsa import rsa
from brainsim.core.runs import RunLayout
from brainsim.store import Store

N_RUNS, N_TRS, MASKED = 5, 40, 3
SCRUBBED = {1: (0, 7, 8), 3: (39,), 4: (20, 21, 22, 23)}
FEW: dict[str, Any] = {
    "dataset": "tiny",
    "subjects": ("01",),
    "alphas": (1.0, 10.0, 100.0, 1000.0),
    "n_candidates": 10,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("made") / "store.zarr")


def scrubbed_copy(made: Path, folder: Path, spike: float) -> Store:
    """Return a copy of the store in which some TRs of sub-01 are scrubbed and hold a spike."""
    store = Store(shutil.copytree(made, folder), mode="a")
    for run in range(1, N_RUNS + 1):
        node = f"bold/tiny/sub-01/run-{run}"
        info, values = store.info(node), store.read(node, "values")
        kept = np.ones(N_TRS, np.uint8)
        kept[list(SCRUBBED.get(run, ()))] = 0
        is_kept = kept.astype(bool)
        values[is_kept] -= values[is_kept].mean(axis=0)
        values[is_kept] /= values[is_kept].std(axis=0)
        values[~is_kept] = np.where(np.isnan(values[~is_kept]), np.nan, spike)
        arrays = {"values": values, "valid": store.read(node, "valid"), "kept": kept}
        attributes = dict(info.attributes)
        store.write(node, type="bold", key={"scrubbed": run}, arrays=arrays, attributes=attributes, overwrite=True)
    return store


@pytest.mark.parametrize(("command", "kind"), [(fit, "fits"), (partition, "partitions")])
def test_what_scrubbed_trs_hold_changes_no_score(
    command: Callable[..., Any], kind: str, made: Path, tmp_path: Path
) -> None:
    found = []
    for spike in (0.0, 1000.0):
        store = scrubbed_copy(made, tmp_path / f"{spike:g}.zarr", spike)
        command("a", store=store.path, **FEW)
        node = f"{kind}/a/tiny/sub-01"
        found.append({name: store.read(node, name) for name in store.info(node).arrays})
    for name, array in found[0].items():
        np.testing.assert_array_equal(array, found[1][name], name)


def test_geometries_leave_their_pairs_out(made: Path, tmp_path: Path) -> None:
    scores = []
    for spike in (0.0, 1000.0):
        store = scrubbed_copy(made, tmp_path / f"{spike:g}.zarr", spike)
        rsa("a", dataset="tiny", subjects=("01",), store=store.path, min_lag_s=1)
        scores.append(store.read("rsa/a/tiny/sub-01", "layer_score"))
    np.testing.assert_array_equal(*scores)


def test_the_model_is_that_of_a_ridge_fitted_by_hand_to_the_trs_that_are_kept(made: Path, tmp_path: Path) -> None:
    store = scrubbed_copy(made, tmp_path / "s.zarr", 1000.0)
    fit("a", store=store.path, keep=("predictions", "weights"), layer_curves=False, **FEW)
    node = "fits/a/tiny/sub-01"
    info = store.info(node)
    n_kept = {run: N_TRS - len(SCRUBBED.get(run, ())) for run in range(1, N_RUNS + 1)}
    assert info.attributes["runs"] == [[f"run-{run}", n] for run, n in n_kept.items()]
    rows = np.array([r for r in range(N_RUNS * N_TRS) if r % N_TRS not in SCRUBBED.get(r // N_TRS + 1, ())])
    Y = np.concatenate([store.read(f"bold/tiny/sub-01/run-{run}", "values") for run in n_kept])[rows]
    layout = RunLayout(tuple(map(str, n_kept)), tuple(n_kept.values()))
    bands = [store.read(path, "K") for path in info.attributes["sources"] if path.startswith("kernels/")]
    Ks = [keep_rows(K, rows, layout) for K in bands]
    predicted, gamma = store.read(node, "predicted"), store.read(node, "gamma_folds")
    for fold, test in enumerate(layout.slices):
        train = np.delete(np.arange(len(rows)), np.arange(test.start, test.stop))
        for target in (0, 5, 11):
            alpha = info.attributes["alphas"][store.read(node, "alpha_index")[fold, target]]
            K = sum(g * k for g, k in zip(gamma[fold, :, target], Ks, strict=True)).astype(np.float64)
            model = KernelRidge(alpha=alpha, kernel="precomputed").fit(K[np.ix_(train, train)], Y[train, target])
            np.testing.assert_allclose(predicted[test, target], model.predict(K[test][:, train]), atol=2e-3)
        fitted = np.delete(np.arange(Y.shape[1]), MASKED)
        score = store.read(node, "r2_folds")[fold]
        np.testing.assert_allclose(r2_score(Y[test][:, fitted], predicted[test][:, fitted]), score[fitted], atol=1e-4)


def test_the_kernel_of_some_rows_is_that_of_features_centred_over_them() -> None:
    rng = np.random.default_rng(0)
    X, whole = rng.normal(size=(20, 7)) + 5, RunLayout(("a", "b"), (12, 8))
    rows = np.delete(np.arange(20), [0, 5, 13, 19])
    kept = RunLayout(("a", "b"), (10, 6))

    def centred(Z: np.ndarray, layout: RunLayout) -> np.ndarray:
        return np.concatenate([Z[s] - Z[s].mean(axis=0) for s in layout.slices])

    centred_all = centred(X, whole)
    expected = centred(X[rows], kept) @ centred(X[rows], kept).T

    found = keep_rows((centred_all @ centred_all.T).astype(np.float32), rows, kept)

    np.testing.assert_allclose(found, expected / np.diag(expected).mean(), atol=1e-5)
