"""What threads share: a result is made once, and what goes wrong reaches all who wait."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from brainsim.compute.threads import MadeOnce


def test_a_result_is_made_once_for_all_threads_that_want_it() -> None:
    made = []

    def make(key: int) -> int:
        made.append(key)
        time.sleep(0.05)
        return 2 * key

    once = MadeOnce(make, n_kept=2)
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(once, [1, 1, 1, 2, 2, 1])) == [2, 2, 2, 4, 4, 2]
    assert sorted(made) == [1, 2]
    assert [once(key) for key in (3, 1)] == [6, 2]
    assert sorted(made) == [1, 1, 2, 3]  # the first was given up for the third


def test_what_making_raises_is_raised_to_all_who_wait() -> None:
    def make(key: int) -> int:
        time.sleep(0.05)
        raise ValueError(str(key))

    once = MadeOnce(make, n_kept=2)
    with ThreadPoolExecutor(2) as threads:
        for future in [threads.submit(once, 1) for _ in range(2)]:
            with pytest.raises(ValueError, match="1"):
                future.result()
