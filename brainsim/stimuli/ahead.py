"""Turn work that waits for other work into threads: one that runs ahead of who takes items, one that follows behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

from brainsim.core.checks import check_count

Item = TypeVar("Item")


def run_ahead(items: Iterator[Item], *, depth: int) -> Generator[Item, None, None]:
    """Yield items that a thread makes while the caller works on earlier ones.

    Items come in order. An error of `items` is raised where its item would have come. When the generator is closed or
    ends, the thread is gone and `items`, where it is a generator, is closed.

    Parameters
    ----------
    items : iterator
        What makes them; runs in the thread alone.
    depth : int
        Items that may wait: what bounds the memory.
    """
    check_count("depth", depth)
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="brainsim-ahead") as thread:
        waiting: deque[Future[Item | object]] = deque(thread.submit(next, items, end) for _ in range(depth))
        try:
            while (item := waiting.popleft().result()) is not end:
                waiting.append(thread.submit(next, items, end))
                yield item  # type: ignore[misc]  # anything but the sentinel
        finally:
            for later in waiting:
                later.cancel()
            close = getattr(items, "close", None)
            if close is not None:
                thread.submit(close).result()


class Behind:
    """Calls that a thread makes, in order, while the caller goes on; used in a `with` block.

    An error of a call is raised by a later `call` or `wait`, or on leaving the block. A block that is left by an error
    drops the calls that have not begun.

    Parameters
    ----------
    depth : int
        Calls that may be under way or waiting while the caller works: what bounds the memory that they hold.
    """

    def __init__(self, *, depth: int) -> None:
        self._depth = check_count("depth", depth)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="brainsim-behind")
        self._waiting: deque[Future[None]] = deque()

    def call(self, function: Callable[[], None]) -> None:
        """Hand a call over; waits for earlier ones where more than `depth` are not done."""
        self._waiting.append(self._thread.submit(function))
        self._wait_until(self._depth)

    def wait(self) -> None:
        """Wait until every call is done."""
        self._wait_until(0)

    def _wait_until(self, n: int) -> None:
        while len(self._waiting) > n:
            self._waiting.popleft().result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            if error is None:
                self.wait()
        finally:
            self._thread.shutdown(cancel_futures=True)
