"""The low-level rows measure what they say, in the clip they are asked about, and reach the known answer."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from brainsim.commands.extract import extract
from brainsim.models import MODELS, load_model
from brainsim.store import Store

FAMILY = ("pixels", "contrast-energy", "frame-difference")


def measure_slowly(name: str, frames: np.ndarray) -> np.ndarray:
    """Loop over the cells of the last frame of one clip, (n_frames, 72, 128, 3)."""
    luma = frames.astype(np.float64) / 255 @ np.array([0.299, 0.587, 0.114])
    grid = np.zeros((9, 16))
    for row in range(9):
        for column in range(16):
            cell = luma[:, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8]
            if name == "pixels":
                grid[row, column] = cell[-1].mean()
            elif name == "contrast-energy":
                grid[row, column] = cell[-1].std()
            else:
                grid[row, column] = np.abs(cell[-1] - cell[-2]).mean()
    return grid


@pytest.mark.parametrize("name", FAMILY)
def test_measures_equal_a_loop_over_cells(name: str) -> None:
    model = load_model(name)
    n_frames = model.input.n_frames
    frames = np.random.default_rng(0).integers(0, 256, (3, n_frames, 72, 128, 3), np.uint8)
    values = model.activations(frames)["grid"].numpy()
    assert values.shape == (3, 1, 9, 16)
    for clip in range(3):
        np.testing.assert_allclose(values[clip, 0], measure_slowly(name, frames[clip]), atol=2e-6)


@pytest.mark.parametrize("name", FAMILY)
def test_an_even_grey_film_has_no_contrast_and_no_change(name: str) -> None:
    model = load_model(name)
    frames = np.full((1, model.input.n_frames, 72, 128, 3), 51, np.uint8)
    values = model.activations(frames)["grid"].numpy()
    np.testing.assert_allclose(values, 0.2 if name == "pixels" else 0.0, atol=1e-6)


def test_rows_need_no_weights() -> None:
    for name in FAMILY:
        assert MODELS[name].family == "low-level"
        assert MODELS[name].weights.kind == "none"
    assert load_model("pixels", seed=1).weights_digest == load_model("pixels", seed=2).weights_digest


@pytest.mark.parametrize("name", ["pixels", "contrast-energy"])
def test_a_ridge_on_a_real_stimulus_reaches_the_known_answer(shared_dir: Path, tmp_path: Path, name: str) -> None:
    """Szinte 2024: delays 2-6 TR, 5 contiguous folds: median r 0.25, 377 voxels above 0.5."""
    folder, tr_s = shared_dir / "data" / "szinte2024_v1", 1.317025
    summary = extract(
        folder / "dm_gazecenter.npz",
        models=[name],
        store=tmp_path / "s.zarr",
        frame_s=tr_s,
        step_s=tr_s,
        axes="txy",
        value_range=(0, 9),
    )
    store = Store(tmp_path / "s.zarr")
    node = f"activations/{summary.feature_sets[name]}/grid/dm_gazecenter"
    X = store.read(node, "values").astype(np.float64)  # (150, 144)
    np.testing.assert_allclose(store.read(node, "time_s"), np.arange(1, 151) * tr_s)
    with gzip.open(folder / "mask-v1_bold.tsv.gz", "rt") as file:
        Y = np.genfromtxt(file, delimiter="\t", skip_header=1)[:, 1:]  # (150, 2365)
    Y = Y[:, Y.std(axis=0) > 0]  # 37 of 2,365 voxels are constant
    Y = (Y - Y.mean(axis=0)) / Y.std(axis=0)
    X = (X - X.mean(axis=0)) / (X.std(axis=0) + 1e-9)
    X = np.concatenate([np.pad(X, ((d, 0), (0, 0)))[:150] for d in range(2, 7)], axis=1)  # (150, 144 * 5)
    predicted = np.zeros_like(Y)
    for test in np.array_split(np.arange(150), 5):
        train = np.setdiff1d(np.arange(150), test)
        weights = np.linalg.solve(X[train] @ X[train].T + 1000 * np.eye(len(train)), Y[train] - Y[train].mean(axis=0))
        predicted[test] = X[test] @ (X[train].T @ weights) + Y[train].mean(axis=0)
    r = np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(predicted.T, Y.T, strict=True)])
    assert np.median(r) >= 0.24
    assert (r > 0.5).sum() >= 370
