"""Turn independent tasks into results in order, on a few threads, with few results waiting at any time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from brainsim.core.checks import check_count

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], *, n_workers: int = 1
) -> Generator[tuple[Item, Result], None, None]:
    """Yield (item, function(item)) in the order of the items, computed by `n_workers` threads.

    The order of the results, and so everything that is summed from them, does not depend on the number of workers. At
    most two results per worker wait. An exception of the function is raised where its result is due; tasks that have
    not begun are dropped.

    Parameters
    ----------
    function : callable
        Must be safe to call from several threads; should spend its time where Python's lock is released.
    items : iterable
        One task each; consumed as workers become free.
    n_workers : int
        Threads; 1 computes in the caller's thread.
    """
    check_count("the number of workers", n_workers)
    if n_workers == 1:
        for item in items:
            yield item, function(item)
        return
    pool = ThreadPoolExecutor(max_workers=n_workers, thread_name_prefix="brainsim")
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(function, item)))
            if len(waiting) >= 2 * n_workers:
                due, future = waiting.popleft()
                yield due, future.result()
        while waiting:
            due, future = waiting.popleft()
            yield due, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
