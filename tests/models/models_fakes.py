"""Turn a row into frames that fit it: real photographs where they matter, noise where they do not."""

from __future__ import annotations

import numpy as np

from brainsim.models import InputSpec


def noise_frames(shown: InputSpec, *, n_clips: int = 2, seed: int = 0) -> np.ndarray:
    """Return uint8 (n_clips, n_frames, height, width, 3)."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n_clips, shown.n_frames, *shown.size, 3), dtype=np.uint8)


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest absolute difference, relative to the expected array's largest value."""
    assert got.shape == expected.shape
    return float(np.abs(got - expected).max() / np.abs(expected).max())
