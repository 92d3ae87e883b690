"""A sketch keeps inner products as well as it says, is the same for the same seed, and is cut by features at will."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.random_projection import johnson_lindenstrauss_min_dim

from brainsim.core.errors import InvalidValueError
from brainsim.models import sketch as sketches
from brainsim.models.sketch import Sketch, count_copies, draw_block, find_sketch, trim_sketches
from brainsim.models.sketch_size import count_outputs

CPU = torch.device("cpu")


def dense(n_outputs: int, n_features: int, *, seed: int = 0) -> np.ndarray:
    """Write the matrix out, entry by entry, float64 (n_outputs, n_features)."""
    R = np.zeros((n_outputs, n_features))
    for j in range(n_features):
        outputs, signs = draw_block(n_outputs, j // sketches.BLOCK, seed=seed)
        for output, sign in zip(outputs[j % sketches.BLOCK], signs[j % sketches.BLOCK], strict=True):
            R[output, j] += sign / math.sqrt(count_copies(n_outputs))
    return R


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sketches, "BLOCK", 512)


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sketches, "_kept", {})


def features(kind: str, n: int, d: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(n, d))
    if kind == "outliers":  # a few features hundreds of times as large as the others, as in transformers
        X[:, rng.choice(d, 3, replace=False)] *= 300
    if kind == "low rank":
        X = rng.normal(size=(n, 5)) @ rng.normal(size=(5, d)) + 0.01 * X
    return X.astype(np.float32)


def test_it_is_the_product_with_the_matrix_written_out() -> None:
    X = features("plain", 7, 1300)
    found = Sketch(200, seed=0, device=CPU)(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(found, X @ dense(200, 1300).T, rtol=1e-4, atol=1e-4)


def test_every_feature_goes_to_one_output_of_each_group_and_keeps_its_length() -> None:
    R = dense(200, 600)
    assert ((R != 0).sum(axis=0) == count_copies(200)).all()
    np.testing.assert_allclose((R**2).sum(axis=0), 1.0)


def test_blocks_of_features_add_up_and_fewer_features_are_the_first_columns() -> None:
    X = torch.from_numpy(features("plain", 5, 1300))
    sketch = Sketch(64, seed=3, device=CPU)
    head = X.clone()
    head[:, 700:] = 0
    np.testing.assert_allclose(sketch(X[:, :700]).numpy(), sketch(head).numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose((sketch(head) + sketch(X - head)).numpy(), sketch(X).numpy(), rtol=1e-4, atol=1e-4)


def test_clips_are_projected_alike_in_any_batch_and_seeds_differ() -> None:
    X = torch.from_numpy(features("plain", 6, 900))
    together = Sketch(64, seed=0, device=CPU)(X)
    apart = torch.cat([Sketch(64, seed=0, device=CPU)(row[None]) for row in X])
    np.testing.assert_allclose(together.numpy(), apart.numpy(), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(Sketch(64, seed=1, device=CPU)(X), together)


def test_layers_that_are_no_larger_are_left_as_they_are() -> None:
    X = torch.from_numpy(features("plain", 4, 64))
    assert torch.equal(Sketch(64, seed=0, device=CPU)(X), X)


@pytest.mark.parametrize("kind", ["plain", "outliers", "low rank"])
@pytest.mark.parametrize("error", [0.1, 0.25])
def test_kernels_are_within_the_error_that_was_asked_for(kind: str, error: float) -> None:
    n_clips = 64
    n_outputs = count_outputs(n_clips, error)
    X = features(kind, n_clips, 20_000)
    Z = Sketch(n_outputs, seed=0, device=CPU)(torch.from_numpy(X)).numpy()
    assert Z.shape == (n_clips, n_outputs)
    for exact, ours in ((X, Z), (X - X.mean(axis=0), Z - Z.mean(axis=0))):  # centring commutes with it
        lengths = np.linalg.norm(exact.astype(np.float64), axis=1)
        wrong = np.abs(ours.astype(np.float64) @ ours.T - exact.astype(np.float64) @ exact.T) / np.outer(
            lengths, lengths
        )
        assert wrong.max() < error
        assert wrong.max() > error / 100  # it is a sketch, and N is not far more than is needed


def test_inner_products_are_right_on_average_and_as_uncertain_as_said() -> None:
    X = features("outliers", 2, 700).astype(np.float64)
    x, y = X
    n_outputs = 40
    found = []
    for seed in range(400):
        z = Sketch(n_outputs, seed=seed, device=CPU)(torch.from_numpy(X.astype(np.float32))).numpy().astype(np.float64)
        found.append(z[0] @ z[1])
    variance = ((x @ x) * (y @ y) + (x @ y) ** 2 - 2 * (x**2 * y**2).sum()) / n_outputs
    assert abs(np.mean(found) - x @ y) < 4 * math.sqrt(variance / len(found))
    assert 0.75 < np.var(found) / variance < 1.3


@pytest.mark.parametrize("error", [0.05, 0.1, 0.5])
def test_the_number_of_outputs_is_the_bound_that_scikit_learn_gives(error: float) -> None:
    assert abs(count_outputs(1024, error) - johnson_lindenstrauss_min_dim(1024, eps=error)) <= 1
    assert count_outputs(1000, error) == count_outputs(1024, error)


@pytest.mark.parametrize("error", [0.0, 1.0, -0.1])
def test_an_error_that_cannot_be_kept_is_refused(error: float) -> None:
    with pytest.raises(InvalidValueError, match="above 0 and below 1"):
        count_outputs(100, error)


def test_matrices_are_drawn_once_for_many_movies_and_kept_within_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[int, int]] = []

    def watched(n_outputs: int, index: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
        drawn.append((n_outputs, index))
        return draw_block(n_outputs, index, seed=seed)

    monkeypatch.setattr(sketches, "draw_block", watched)
    X = torch.from_numpy(features("plain", 3, 1300))
    first = find_sketch(64, seed=0, device=CPU)(X)
    trim_sketches()
    assert torch.equal(find_sketch(64, seed=0, device=CPU)(X), first)
    assert drawn == [(64, 0), (64, 1), (64, 2)]
    n_bytes = find_sketch(64, seed=0, device=CPU).n_bytes
    assert n_bytes == pytest.approx(8 * 1300 * count_copies(64), rel=0.1)

    find_sketch(32, seed=0, device=CPU)(X)  # the other is now longest unused
    trim_sketches(n_bytes + 100)
    kept = find_sketch(32, seed=0, device=CPU).n_bytes + find_sketch(64, seed=0, device=CPU).n_bytes
    assert 0 < kept <= n_bytes + 100
    drawn.clear()
    assert torch.equal(find_sketch(64, seed=0, device=CPU)(X), first)  # what was let go is drawn again, the same
    assert drawn
    assert {n_outputs for n_outputs, _ in drawn} == {64}
    trim_sketches(0)
    assert sketches._kept == {}
