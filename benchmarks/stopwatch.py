"""Turn a call into the seconds that it takes."""

from __future__ import annotations

import time
from collections.abc import Callable


def seconds_of(call: Callable[[], object]) -> float:
    """Return the wall time of a call, in seconds."""
    begin_s = time.perf_counter()
    call()
    return time.perf_counter() - begin_s
