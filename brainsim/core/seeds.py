"""Turn a seed and the names of what is drawn into independent random generators."""

from __future__ import annotations

import hashlib

import numpy as np


def named_seed(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed that depends on `seed` and every name, and on nothing else.

    The same names give the same numbers whatever else was drawn before, on any machine.
    """
    text = "\x1f".join([str(int(seed)), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def named_rng(seed: int, *names: str | int) -> np.random.Generator:
    """Return a NumPy generator for what `names` say is drawn; see `named_seed`."""
    return np.random.default_rng(named_seed(seed, *names))
