"""Turn independent tasks into results in order, on a few threads, with few results waiting and none made twice."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from typing import Generic, TypeVar

from brainsim.core.checks import check_count

Item = TypeVar("Item")
Key = TypeVar("Key")
Result = TypeVar("Result")


def map_in_order(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    n_workers: int = 1,
    max_ahead: Callable[[int], int] | None = None,
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
    max_ahead : callable, optional
        Before item i is taken, all but the last ``max_ahead(i)`` results before it have been yielded, so that items may
        be made from results. By default two per worker.
    """
    check_count("the number of workers", n_workers)
    if n_workers == 1:
        for item in items:
            yield item, function(item)
        return
    pool = ThreadPoolExecutor(max_workers=n_workers, thread_name_prefix="brainsim")
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    try:
        remaining = iter(items)
        for index in count():
            n_ahead = 2 * n_workers - 1 if max_ahead is None else min(2 * n_workers - 1, max_ahead(index))
            while len(waiting) > n_ahead:
                due, future = waiting.popleft()
                yield due, future.result()
            try:
                item = next(remaining)
            except StopIteration:
                break
            waiting.append((item, pool.submit(function, item)))
        while waiting:
            due, future = waiting.popleft()
            yield due, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def torch_threads(n_threads: int) -> Iterator[None]:
    """Have each product of torch use `n_threads` threads for a block, in threads that begin there too.

    Work side by side, each with one thread, gains more than threads that wait for each other in every product; and a
    product by one thread always gives the same bits.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def use_cores(n: int) -> Iterator[None]:
    """Have torch, and what is as many threads as torch has, use `n` cores at most for a block; 0 is all of them."""
    import torch

    with torch_threads(min(n or torch.get_num_threads(), torch.get_num_threads())):
        yield


class MadeOnce(Generic[Key, Result]):
    """The latest few results of a function; threads that want the same one wait for whoever makes it.

    Parameters
    ----------
    make : callable
        Makes a result from its key. What it raises is raised to all who wait.
    n_kept : int
        Results that are kept.
    """

    def __init__(self, make: Callable[[Key], Result], *, n_kept: int) -> None:
        self._make = make
        self._n_kept = check_count("results kept", n_kept)
        self._lock = threading.Lock()
        self._found: dict[Key, Future[Result]] = {}

    def __call__(self, key: Key) -> Result:
        """Return the result of a key."""
        with self._lock:
            future = self._found.get(key)
            is_mine = future is None
            if future is None:
                future = self._found[key] = Future()
                while len(self._found) > self._n_kept:
                    del self._found[next(iter(self._found))]
        if is_mine:
            try:
                future.set_result(self._make(key))
            except BaseException as error:
                future.set_exception(error)
                raise
        return future.result()
