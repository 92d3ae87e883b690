"""Turn the word for a pool into what it asks for, without torch."""

from __future__ import annotations

import re

from brainsim.core.errors import InvalidValueError

POOL_NAMES = ("none", "mean", "cls")
_GRID = re.compile(r"spatial-([1-9]\d?)x([1-9]\d?)")


def grid_size(pool: str) -> tuple[int, int] | None:
    """Return rows and columns of "spatial-ROWSxCOLUMNS"; None for any other word."""
    found = _GRID.fullmatch(pool)
    return None if found is None else (int(found[1]), int(found[2]))


def check_pool(pool: str) -> str:
    """Return the name of a pool, or raise InvalidValueError."""
    if pool not in POOL_NAMES and grid_size(pool) is None:
        raise InvalidValueError(
            f"pool is {pool!r}; allowed: {', '.join(POOL_NAMES)}, and spatial-ROWSxCOLUMNS with 1 to 99 of each.",
            hint="--pool spatial-2x2",
        )
    return pool
