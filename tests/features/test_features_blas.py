"""The symmetric product: equal to NumPy's in its lower triangle, and other threads run while it is computed."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from brainsim.core.seeds import named_rng
from brainsim.features import blas


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (50, 200), (300, 1000), (5, 0)])
@pytest.mark.parametrize("way", ["direct", "without the routine", "every other column"])
def test_lower_triangle_is_that_of_the_whole_product(
    shape: tuple[int, int], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    X = named_rng(0, "blas").standard_normal((shape[0], 2 * shape[1])).astype(np.float32)
    X = X[:, ::2] if way == "every other column" else np.ascontiguousarray(X[:, : shape[1]])
    if way == "without the routine":
        monkeypatch.setattr(blas, "_SSYRK", None)
    found = blas.lower_product(X)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.tril(found), np.tril(X @ X.T), rtol=1e-5, atol=1e-4)


def test_the_routine_is_found_here() -> None:
    assert blas._SSYRK is not None


def test_other_threads_run_meanwhile() -> None:
    X = named_rng(0, "blas").standard_normal((2000, 4000)).astype(np.float32)
    thread = threading.Thread(target=blas.lower_product, args=(X,))
    thread.start()
    n_turns = 0
    while thread.is_alive():
        n_turns += 1
    assert n_turns > 1000  # with Python's lock held there would be a turn or two
