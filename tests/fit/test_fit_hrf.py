"""--hrf: kernels, fits and kept models are those of features that are convolved with a canonical response by hand."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fit_store import MODELS, TR_S, clip_features, make_store
from nilearn.glm.first_level.hemodynamic_models import compute_regressor
from scipy.integrate import quad
from scipy.stats import gamma
from sklearn.linear_model import Ridge

from brainsim import kernel
from brainsim.commands.fit import fit
from brainsim.commands.partition import partition
from brainsim.core.errors import InvalidValueError
from brainsim.core.runs import RunLayout
from brainsim.features.hrf import hrf_matrix
from brainsim.features.kernels import convolve_kernel
from brainsim.store import Store

N_RUNS, N_TRS = 5, 40
NODE = "fits/a/tiny/sub-01"
FEW: dict[str, Any] = {
    "dataset": "tiny",
    "alphas": (1.0, 10.0, 100.0, 1000.0),
    "n_candidates": 10,
    "device": "cpu",
    "subjects": ("01",),
}
# Peak and undershoot as (shape, scale in s), and the size of the undershoot.
PUBLISHED = {"spm": ((6, 1), (16, 1), 1 / 6), "glover": ((6 / 0.9, 0.9), (12 / 0.9, 0.9), 0.48)}


@lru_cache
def response(hrf: str) -> np.ndarray:
    """Return what a TR of 1 s-1 adds to the middle of each later TR, by numerical integration, (N_TRS,)."""
    peak, undershoot, ratio = PUBLISHED[hrf]

    def at(t: float) -> float:
        value = gamma.pdf(t, peak[0], scale=peak[1]) - ratio * gamma.pdf(t, undershoot[0], scale=undershoot[1])
        return float(value)

    whole = quad(at, 0, 32)[0]
    edges = [(max((k - 0.5) * TR_S, 0), min((k + 0.5) * TR_S, 32)) for k in range(N_TRS)]
    return np.array([quad(at, a, b)[0] / whole if b > a else 0.0 for a, b in edges])


def convolved(model: str, layer: int, run: int, hrf: str) -> np.ndarray:
    """Return the features of a run as a textbook has them: averaged, z-scored, convolved one by one, centred."""
    X = clip_features(model, layer, run, N_TRS).astype(float).reshape(N_TRS, 2, -1).mean(axis=1)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    H = response(hrf)
    X = np.stack([np.convolve(column, H)[:N_TRS] for column in X.T], axis=1)
    return np.asarray(X - X.mean(axis=0))


def design(model: str, hrf: str) -> np.ndarray:
    """Return a band's convolved features, scaled so that their kernel has a mean diagonal of 1, (n_rows, n_columns)."""
    layers = [np.concatenate([convolved(model, k, run, hrf) for run in range(1, N_RUNS + 1)]) for k in range(2)]
    D = np.concatenate([X / np.sqrt((X**2).sum(axis=1).mean()) for X in layers], axis=1)
    return np.asarray(D / np.sqrt((D**2).sum(axis=1).mean()))


@pytest.mark.parametrize("hrf", ["spm", "glover"])
def test_kernels_are_those_of_explicitly_convolved_features(tmp_path: Path, hrf: str) -> None:
    path = make_store(tmp_path / "s.zarr")
    done = kernel(dataset="tiny", store=path, hrf=hrf, subjects=["01"])
    assert [row["band"] for row in done.kernels] == list(MODELS)
    for row in done.kernels:
        D = design(row["band"], hrf)
        np.testing.assert_allclose(Store(path).read(row["node"], "K"), D @ D.T, atol=1e-5)


@pytest.mark.parametrize("hrf", ["spm", "glover"])
@pytest.mark.parametrize("tr_s", [0.8, 2.0])
def test_the_responses_are_those_of_nilearn(hrf: str, tr_s: float) -> None:
    n = 60
    x = np.random.default_rng(0).standard_normal(n)
    events = np.array([np.arange(n) * tr_s, np.full(n, tr_s), x])
    peer, _ = compute_regressor(events, hrf, (np.arange(n) + 0.5) * tr_s, oversampling=200)
    ours = hrf_matrix(n, tr_s, hrf=hrf) @ x
    scale = (peer[:, 0] @ ours) / (ours @ ours)  # nilearn's is not scaled to a constant input
    np.testing.assert_allclose(ours * scale, peer[:, 0], atol=0.01 * np.abs(peer).max())


def test_runs_of_other_lengths_and_trs_are_convolved_each_with_its_own() -> None:
    layout = RunLayout(("a", "b"), (30, 17))
    responses = [hrf_matrix(30, 2.0), hrf_matrix(17, 0.8, hrf="glover")]
    X = np.random.default_rng(0).standard_normal((47, 9))
    expected = np.concatenate([responses[0] @ X[:30], responses[1] @ X[30:]])
    found = convolve_kernel(X @ X.T, layout, responses=responses)
    np.testing.assert_allclose(found, expected @ expected.T, atol=1e-10)
    # What one run shows does not reach another.
    alone = np.zeros_like(X)
    alone[29] = 1
    assert not convolve_kernel(alone @ alone.T, layout, responses=responses)[30:].any()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = make_store(tmp_path_factory.mktemp("hrf") / "s.zarr")
    fit("a", store=path, hrf="glover", keep=("weights", "band-predictions", "predictions"), layer_curves=False, **FEW)
    return Store(path)


def test_kept_models_are_ridge_regressions_on_convolved_features(kept: Store) -> None:
    Y = np.concatenate([kept.read(f"bold/tiny/sub-01/run-{run}", "values") for run in range(1, N_RUNS + 1)])
    told = kept.info(NODE).attributes
    gammas, alphas = kept.read(NODE, "gamma_folds"), np.array(told["alphas"])[kept.read(NODE, "alpha_index")]
    duals, parts = kept.read(NODE, "dual_weights"), kept.read(NODE, "band_predicted")
    Ds, rows = [design(band, "glover") for band in told["bands"]], np.arange(N_RUNS * N_TRS)
    for fold in range(N_RUNS):
        test = rows[fold * N_TRS : (fold + 1) * N_TRS]
        train = np.delete(rows, test)
        for target in (0, 7, 11):
            weighed = [np.sqrt(gamma) * D for gamma, D in zip(gammas[fold, :, target], Ds, strict=True)]
            X = np.concatenate(weighed, axis=1)
            ridge = Ridge(alpha=alphas[fold, target], fit_intercept=False).fit(X[train], Y[train, target])
            ends = np.cumsum([0, *(D.shape[1] for D in Ds)])
            for band, D in enumerate(weighed):
                coefficients = ridge.coef_[ends[band] : ends[band + 1]]
                np.testing.assert_allclose(parts[test, band, target], D[test] @ coefficients, atol=2e-4)
                # The dual weights give the coefficients of the convolved features.
                np.testing.assert_allclose(D.T @ duals[:, fold, target], coefficients, atol=2e-4)


def test_what_was_convolved_is_another_result_and_says_so(kept: Store) -> None:
    told = kept.info(NODE)
    assert told.key["options"]["hrf"] == told.attributes["options"]["hrf"] == "glover"
    assert "delays" not in told.key["options"]
    for other in ({}, {"hrf": "spm"}, {"delays": (1, 2, 3, 4)}):
        with pytest.raises(InvalidValueError, match="other options"):
            fit("a", store=kept.path, layer_curves=False, **FEW, **other)
    made = {kernel(dataset="tiny", store=kept.path, hrf=hrf, dry_run=True).kernels[0]["node"] for hrf in ("spm", "fir")}
    made |= {kernel(dataset="tiny", store=kept.path, hrf="glover", dry_run=True).kernels[0]["node"]}
    assert len(made) == 3
    node = kept.info(next(path for path in told.attributes["sources"] if path.startswith("kernels/")))
    assert (node.attributes["hrf"], node.attributes["delays"]) == ("glover", [])


def test_a_partition_takes_a_response_too(kept: Store) -> None:
    partition("p", store=kept.path, hrf="glover", **FEW)
    options = kept.info("partitions/p/tiny/sub-01").attributes["options"]
    assert (options["hrf"], "delays" in options) == ("glover", False)


@pytest.mark.parametrize("command", [fit, partition, kernel])
def test_delays_beside_a_response_and_other_words_are_refused(command: Any, kept: Store) -> None:
    name = () if command is kernel else ("refused",)
    with pytest.raises(InvalidValueError, match=r"--delays is 1,2,3,4 and --hrf is spm") as refused:
        command(*name, dataset="tiny", store=kept.path, hrf="spm", delays=(1, 2, 3, 4))
    assert "leave --delays out" in str(refused.value.hint)
    with pytest.raises(InvalidValueError, match=r"--hrf is 'gloverr'; did you mean 'glover'"):
        command(*name, dataset="tiny", store=kept.path, hrf="gloverr")


def test_the_usual_delays_are_those_that_were_used_without_a_word(tmp_path: Path) -> None:
    path = make_store(tmp_path / "s.zarr")
    told = kernel(dataset="tiny", store=path, dry_run=True).kernels
    assert told == kernel(dataset="tiny", store=path, delays=(1, 2, 3, 4), hrf="fir", dry_run=True).kernels
