"""Inner products of TRs equal those of features convolved one by one, and are made once whatever is asked of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rsa_store import MODELS, N_FEATURES, N_LAYERS, convolved, features, write_store

from brainsim import rsa
from brainsim.commands import rsa_grams
from brainsim.commands.encoding_data import find_subjects, group_by_timing
from brainsim.commands.rsa_grams import GramPlan, layer_grams
from brainsim.features.bands import select_layers
from brainsim.features.hrf import BandedMatrix, hrf_matrix, sampling_matrix
from brainsim.store import Store

N_TRS = (61, 75, 68, 70)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("grams") / "s.zarr", n_trs=N_TRS)


def grams_of(path: Path, blocks: tuple[tuple[int, ...], ...], sampling: str) -> list[rsa_grams.RowProducts]:
    store = Store(path, "a")
    (group,) = group_by_timing(find_subjects(store, "toy", ()))
    nodes = store.nodes("activations", type="activations")
    layer = select_layers(nodes, models=("flow",), stimuli=group.stimuli)[1]
    return layer_grams(store, layer, GramPlan(group.timing, blocks, sampling))


def averaged(run: int) -> np.ndarray:
    """Return the TRs of a run as BOLD would show them, feature by feature in float64."""
    n = N_TRS[run]
    x = features("flow", 1, run, n).astype(np.float64).reshape(n, 10, -1).mean(axis=1)
    return hrf_matrix(n, 2.0) @ (x - x.mean(axis=0))


@pytest.mark.parametrize("blocks", [((0,), (1,), (2,), (3,)), ((0, 1), (2, 3)), ((0, 1, 2, 3),)])
@pytest.mark.parametrize("sampling", ["average", "window-start"])
def test_products_are_those_of_features_convolved_one_by_one(
    path: Path, blocks: tuple[tuple[int, ...], ...], sampling: str
) -> None:
    found = grams_of(path, blocks, sampling)
    for runs, one in zip(blocks, found, strict=True):
        rows = [averaged(run) if sampling == "average" else convolved("flow", 1, run, N_TRS[run]) for run in runs]
        X = np.concatenate(rows)
        size = np.square(X).sum(axis=1).mean()
        np.testing.assert_allclose(one.products, X @ X.T, atol=2e-6 * size, rtol=0)
        np.testing.assert_allclose(one.sums, X.sum(axis=1), atol=1e-6 * np.sqrt(size * N_FEATURES), rtol=0)
        np.testing.assert_array_equal(one.products, one.products.T)


def test_a_layer_in_narrow_blocks_has_the_products_of_one_in_one(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_store(tmp_path / "s.zarr", n_trs=N_TRS)
    monkeypatch.setattr(rsa_grams, "block_width", lambda n_rows: 7)
    for sampling in ("average", "window-start"):
        narrow = grams_of(other, ((0, 1), (2, 3)), sampling)
        for a, b in zip(narrow, grams_of(path, ((0, 1), (2, 3)), sampling), strict=True):
            np.testing.assert_allclose(a.products, b.products, rtol=2e-5, atol=1e-6 * np.abs(b.products).max())
            np.testing.assert_allclose(a.sums, b.sums, atol=1e-9)


def test_another_distance_comparison_lag_or_edge_reads_no_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = {"compare": "kendall", "distance": "cosine", "min_lag_s": 4, "trim_s": 0, "combine": "ridge"}
    fresh = write_store(tmp_path / "fresh.zarr", n_trs=N_TRS)
    path = write_store(tmp_path / "s.zarr", n_trs=N_TRS)
    rsa("first", dataset="toy", store=path)
    assert len(Store(path).nodes("grams")) == len(MODELS) * N_LAYERS
    made = rsa("other", dataset="toy", store=fresh, **words)

    def refuse(*_: object) -> None:
        raise AssertionError("features were read again")

    monkeypatch.setattr(rsa_grams, "_compute_grams", refuse)
    again = rsa("other", dataset="toy", store=path, **words)
    assert again.rows == made.rows
    assert again.unique == made.unique


@pytest.mark.parametrize(("protocols", "n_ways"), [(("default",), 2), (("default", "study"), 4)])
def test_an_audit_reads_features_once_for_each_way_of_making_trs(
    tmp_path: Path, protocols: tuple[str, ...], n_ways: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_store(tmp_path / "s.zarr", n_trs=N_TRS, protocols=protocols)
    made: list[str] = []
    real = rsa_grams._compute_grams
    monkeypatch.setattr(rsa_grams, "_compute_grams", lambda *a: made.append(a[1].name) or real(*a))
    rsa("two", dataset="toy", store=path, protocol="both")
    assert len(made) == n_ways * len(MODELS) * N_LAYERS
    assert len(Store(path).nodes("grams")) == len(made)


def test_a_damaged_node_is_named_and_made_again(tmp_path: Path) -> None:
    path = write_store(tmp_path / "s.zarr", n_trs=N_TRS)
    first = rsa("first", dataset="toy", store=path)
    node = Store(path).nodes("grams")[0].path
    chunk = path / node / "products/c/0"
    chunk.write_bytes(chunk.read_bytes()[:-9] + b"x" + chunk.read_bytes()[-8:])
    store = Store(path, "a")
    assert [found.node for found in store.verify()] == [node]
    assert store.repair(node).done == "deleted"
    assert rsa("first", dataset="toy", store=path, overwrite=True).rows == first.rows
    assert rsa("second", dataset="toy", store=path).rows == first.rows
    assert Store(path).has(node)


def test_a_banded_matrix_multiplies_as_the_whole_does() -> None:
    rng = np.random.default_rng(0)
    clip_s = np.arange(700) * 0.2
    whole = sampling_matrix(clip_s, 2.0, 68)
    X = rng.standard_normal((700, 19)).astype(np.float32)
    np.testing.assert_allclose(BandedMatrix(whole) @ X, whole @ X.astype(np.float64), rtol=1e-12, atol=1e-12)
    whole[10:60] = 0  # rows that see nothing
    whole[:, 300:] = 0
    np.testing.assert_allclose(BandedMatrix(whole) @ X, whole @ X.astype(np.float64), rtol=1e-12, atol=1e-12)
