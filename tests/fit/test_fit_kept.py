"""fit --keep: predictions and weights are those that the scores came from, and what would not fit is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fit_store import make_store
from himalaya.scoring import r2_score
from sklearn.kernel_ridge import KernelRidge

from brainsim.commands.fit import fit
from brainsim.core.errors import InvalidValueError, StoreError
from brainsim.store import Store

N_RUNS, N_TRS, MASKED = 5, 40, 3
NODE = "fits/a/tiny/sub-01"
FEW: dict[str, Any] = {
    "dataset": "tiny",
    "alphas": (1.0, 10.0, 100.0, 1000.0),
    "n_candidates": 10,
    "device": "cpu",
    "subjects": ("01",),
    "layer_curves": False,
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = make_store(tmp_path_factory.mktemp("kept") / "store.zarr")
    # Tasks of five targets: what is kept is put together from several of them.
    fit("a", store=path, keep=("weights", "band-predictions", "predictions"), n_targets_batch=5, **FEW)
    return Store(path)


def bold(store: Store) -> np.ndarray:
    return np.concatenate([store.read(f"bold/tiny/sub-01/run-{run}", "values") for run in range(1, N_RUNS + 1)])


def test_scores_are_those_of_the_kept_predictions(kept: Store) -> None:
    predicted, Y = kept.read(NODE, "predicted"), bold(kept)
    assert np.isnan(predicted[:, MASKED]).all()
    fitted = np.delete(np.arange(Y.shape[1]), MASKED)
    for fold, score in enumerate(kept.read(NODE, "r2_folds")):
        rows = slice(fold * N_TRS, (fold + 1) * N_TRS)
        np.testing.assert_allclose(r2_score(Y[rows, fitted], predicted[rows, fitted]), score[fitted], atol=1e-4)
    parts = kept.read(NODE, "band_predicted")  # (n_trs, n_bands, n_targets)
    np.testing.assert_allclose(parts.sum(axis=1), predicted, atol=1e-5)
    assert kept.info(NODE).attributes["runs"] == [[f"run-{run}", N_TRS] for run in range(1, N_RUNS + 1)]


def test_kept_weights_are_those_of_a_ridge_fitted_by_hand(kept: Store) -> None:
    attributes = kept.info(NODE).attributes
    Ks = [kept.read(node, "K").astype(float) for node in attributes["sources"] if node.startswith("kernels/")]
    gammas, duals = kept.read(NODE, "gamma_folds"), kept.read(NODE, "dual_weights")
    alpha_index, Y, rows = kept.read(NODE, "alpha_index"), bold(kept), np.arange(N_RUNS * N_TRS)
    for fold in range(N_RUNS):
        test = rows[fold * N_TRS : (fold + 1) * N_TRS]
        train = np.delete(rows, test)
        assert not duals[test][:, fold, 0].any()
        for target in (0, 7, 11):
            K = sum(gamma * k for gamma, k in zip(gammas[fold, :, target], Ks, strict=True))
            ridge = KernelRidge(alpha=attributes["alphas"][alpha_index[fold, target]], kernel="precomputed")
            ridge.fit(K[np.ix_(train, train)], Y[train, target])
            np.testing.assert_allclose(duals[train, fold, target], ridge.dual_coef_, atol=1e-4)
            predicted = K[test] @ duals[:, fold, target]
            np.testing.assert_allclose(predicted, kept.read(NODE, "predicted")[test, target], atol=1e-4)


def test_keeping_changes_no_score_and_is_part_of_what_made_a_fit(kept: Store, tmp_path: Path) -> None:
    path = make_store(tmp_path / "store.zarr")
    fit("a", store=path, n_targets_batch=5, **FEW)
    plain = Store(path)
    np.testing.assert_array_equal(plain.read(NODE, "r2"), kept.read(NODE, "r2"))
    assert "predicted" not in plain.info(NODE).arrays
    with pytest.raises(InvalidValueError, match="other options"):
        fit("a", store=path, keep=("predictions",), n_targets_batch=5, **FEW)


def test_what_cannot_be_kept_is_refused_before_any_work(
    kept: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = make_store(tmp_path / "store.zarr")
    with pytest.raises(InvalidValueError, match="--keep is 'prediction'; did you mean"):
        fit("a", store=path, keep=("prediction",), **FEW)
    with pytest.raises(InvalidValueError, match="keeps scores alone"):
        fit("a", store=path, keep=("weights",), solver="himalaya-hyper-gradient", **{**FEW, "n_candidates": 0})
    monkeypatch.setattr("brainsim.commands.fit_kept.memory_free_bytes", lambda: 20_000)
    with pytest.raises(InvalidValueError, match="of a task's memory") as refused:
        fit("a", store=path, keep=("weights",), **FEW)
    assert refused.value.hint == "--n-targets-batch 1"
    monkeypatch.setattr("brainsim.commands.fit_kept.disk_free_bytes", lambda path: 10_000)
    with pytest.raises(StoreError, match="free at"):
        fit("a", store=path, keep=("weights",), **FEW)
    assert not Store(path).nodes("fits")
    assert not Store(path).nodes("kernels")
