"""`brainsim kernel`: what fits start from, made beforehand, equal to the kernel of the explicitly delayed design."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from fit_store import clip_features, write_activations, write_subject

from brainsim import kernel, store_import
from brainsim.commands import kernel_tasks, kernels
from brainsim.commands.fit import fit
from brainsim.compute.threads import torch_threads
from brainsim.core.errors import AlignmentError, InvalidValueError, NumericalError, UnknownNameError
from brainsim.store import Store

RUNS, N_TRS = (1, 2, 3), 24


@pytest.fixture
def path(tmp_path: Path) -> Path:
    store = Store(tmp_path / "s.zarr", "a")
    write_activations(store, runs=RUNS, n_trs=N_TRS)
    for name in ("sub-01", "sub-02"):
        write_subject(store, name, runs=RUNS, n_trs=N_TRS, n_targets=6)
    return store.path


def explicit_kernel(model: str, layer: int, delays: tuple[int, ...]) -> np.ndarray:
    """Average, standardise, delay and centre run by run in float64, with the design as it is written in textbooks."""
    design = []
    for run in RUNS:
        X = clip_features(model, layer, run, N_TRS).astype(np.float64).reshape(N_TRS, 2, -1).mean(axis=1)
        X = (X - X.mean(axis=0)) / X.std(axis=0)
        delayed = np.concatenate([np.pad(X, ((d, 0), (0, 0)))[:N_TRS] for d in delays], axis=1)
        design.append(delayed - delayed.mean(axis=0))
    D = np.concatenate(design)
    K = D @ D.T
    return np.asarray(K / (np.trace(K) / len(K)))


@pytest.mark.parametrize("delays", [(1, 2, 3, 4), (0,), (2, 5)])
@pytest.mark.parametrize("block_bytes", [1, 2**27])
def test_kernels_are_those_of_the_explicitly_delayed_design(
    path: Path, delays: tuple[int, ...], block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(kernels, "MIN_BLOCK_FEATURES", 5)
    done = kernel(dataset="tiny", store=path, delays=delays)
    assert [row["band"] for row in done.kernels] == ["cnn", "flow", "mae"]
    for row in done.kernels:
        expected = (explicit_kernel(row["band"], 0, delays) + explicit_kernel(row["band"], 1, delays)) / 2
        np.testing.assert_allclose(Store(path).read(row["node"], "K"), expected, atol=1e-5)


def test_features_in_bfloat16_give_the_kernel_of_their_rounded_numbers(tmp_path: Path) -> None:
    paths = {}
    for dtype in ("bfloat16", "float32"):
        store = Store(tmp_path / f"{dtype}.zarr", "a")
        write_subject(store, "sub-01", runs=RUNS, n_trs=N_TRS, n_targets=6)
        for run in RUNS:
            values = torch.from_numpy(clip_features("cnn", 0, run, N_TRS)).bfloat16().float().numpy()
            np.save(tmp_path / f"movie{run}.npy", values)
            store_import(
                [tmp_path / f"movie{run}.npy"], model="cnn", stimulus=f"movie{run}", names=["layer0"], step_s=1.0,
                dtype=dtype, store=store.path,
            )  # fmt: skip
        (row,) = kernel(dataset="tiny", store=store.path).kernels
        paths[dtype] = (store.path, row["node"])
    kernels_found = [Store(path).read(node, "K") for path, node in paths.values()]
    np.testing.assert_array_equal(*kernels_found)


def test_a_fit_finds_them_and_makes_none(path: Path) -> None:
    done = kernel(dataset="tiny", store=path)
    assert (done.n_nodes_written, done.n_nodes_reused, done.n_layers, done.n_bands) == (9, 0, 6, 3)
    assert {row["state"] for row in done.kernels} == {"made"}
    assert done.kernels[0]["subjects"] == ["sub-01", "sub-02"]
    before = {info.path: info.created for info in Store(path).nodes("kernels")}
    assert set(before) >= {row["node"] for row in done.kernels}
    fit("toy", dataset="tiny", store=path, alphas=(1.0, 100.0), n_candidates=8, layer_curves=False)
    assert {info.path: info.created for info in Store(path).nodes("kernels")} == before
    again = kernel(dataset="tiny", store=path)
    assert (again.n_nodes_written, again.n_nodes_reused) == (0, 9)
    assert {row["state"] for row in again.kernels} == {"there"}
    assert json.loads(json.dumps(asdict(again)))


def test_a_dry_run_writes_nothing_and_tells_the_bytes(path: Path) -> None:
    planned = kernel(dataset="tiny", store=path, bands="layer", dry_run=True)
    assert (planned.n_nodes_written, planned.nbytes) == (6, 6 * 4 * (len(RUNS) * N_TRS) ** 2)
    assert Store(path).nodes("kernels") == []
    assert kernel(dataset="tiny", store=path, bands="layer").n_nodes_written == 6


def test_families_regroup_models(path: Path) -> None:
    done = kernel(dataset="tiny", store=path, bands="family", families={"both": ["cnn", "flow"], "mae": ["mae"]})
    assert [(row["band"], row["n_layers"], row["n_features"]) for row in done.kernels] == [
        ("both", 4, 2 * 12 + 2 * 10),
        ("mae", 2, 2 * 14),
    ]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"dataset": "none"}, UnknownNameError),
        ({"models": ["resnet*"]}, UnknownNameError),
        ({"bands": "voxel"}, InvalidValueError),
        ({"scaling": "max"}, InvalidValueError),
        ({"delays": [-1]}, InvalidValueError),
        ({"delays": [1.5]}, InvalidValueError),
        ({"delays": [N_TRS]}, InvalidValueError),
        ({"device": "tpu"}, InvalidValueError),
        ({"cluster": "moon"}, InvalidValueError),
    ],
)
def test_bad_words_are_named_before_anything_is_made(path: Path, options: dict, error: type[Exception]) -> None:
    with pytest.raises(error):
        kernel(**{"dataset": "tiny", "store": path, **options})
    assert Store(path).nodes("kernels", complete=None) == []


def test_trs_without_clips_and_features_that_are_not_finite_leave_no_kernel(path: Path) -> None:
    write_subject(Store(path, "a"), "sub-03", runs=RUNS, n_trs=N_TRS, n_targets=6, dataset="late", start_s=30.0)
    with pytest.raises(AlignmentError, match="TRs have no clips"):
        kernel(dataset="late", store=path)
    store = Store(path, "a")
    node = "activations/cnn@00000001/layer0/movie2"
    info = store.info(node)
    arrays = {name: store.read(node, name) for name in info.arrays}
    arrays["values"][3, 4] = np.inf
    store.write(node, type=info.type, key=info.key, arrays=arrays, attributes=info.attributes, overwrite=True)
    with pytest.raises(NumericalError, match=r"cnn/layer0.*not finite"):
        kernel(dataset="tiny", store=path)
    assert store.nodes("kernels", complete=None) == []


@pytest.mark.parametrize(("n_workers", "n_threads"), [(1, 1), (0, 3), (9, 3)])
def test_n_workers_is_the_number_of_cores(
    path: Path, n_workers: int, n_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[int] = set()
    real = kernel_tasks.layer_kernel
    monkeypatch.setattr(kernel_tasks, "layer_kernel", lambda *a: seen.add(torch.get_num_threads()) or real(*a))
    with torch_threads(3):
        kernel(dataset="tiny", store=path, n_workers=n_workers)
    assert seen == {n_threads}


@pytest.mark.slow
def test_layers_made_side_by_side_give_the_same_kernels(path: Path) -> None:
    other = path.with_name("other.zarr")
    store = Store(other, "a")
    write_activations(store, runs=RUNS, n_trs=N_TRS)
    write_subject(store, "sub-01", runs=RUNS, n_trs=N_TRS, n_targets=6)
    one = kernel(dataset="tiny", store=path, subjects=["01"])
    two = kernel(dataset="tiny", store=other, cluster="local", n_workers=2)
    assert [row["node"] for row in one.kernels] == [row["node"] for row in two.kernels]
    for row in one.kernels:
        # A worker has another number of threads, and so other last bits.
        K, other_K = (Store(where).read(row["node"], "K") for where in (path, other))
        np.testing.assert_allclose(K, other_K, atol=1e-6)
