"""Threads that run ahead or behind keep the order, bound what waits, and lose no error."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from brainsim.core.errors import InvalidValueError
from brainsim.stimuli.ahead import Behind, run_ahead


def n_threads() -> int:
    return sum(thread.name.startswith("brainsim-") for thread in threading.enumerate())


def test_items_come_in_order_made_by_one_other_thread() -> None:
    makers = set()

    def items() -> Iterator[int]:
        for number in range(20):
            makers.add(threading.get_ident())
            yield number

    assert list(run_ahead(items(), depth=3)) == list(range(20))
    assert len(makers) == 1
    assert threading.get_ident() not in makers
    assert n_threads() == 0


@pytest.mark.parametrize("depth", [1, 3])
def test_no_more_items_wait_than_the_depth(depth: int) -> None:
    made = threading.Semaphore(0)
    n_made = 0

    def items() -> Iterator[int]:
        nonlocal n_made
        for number in range(20):
            n_made += 1
            made.release()
            yield number

    with closing(run_ahead(items(), depth=depth)) as ahead:
        for taken in range(5):
            assert next(ahead) == taken
            for _ in range(1 if taken else 1 + depth):
                assert made.acquire(timeout=10)  # it does run ahead, by as many
            assert n_made == taken + 1 + depth


def test_an_error_comes_in_place_of_its_item() -> None:
    def items() -> Iterator[int]:
        yield 0
        yield 1
        raise KeyError("third")

    ahead = run_ahead(items(), depth=4)
    assert [next(ahead), next(ahead)] == [0, 1]
    with pytest.raises(KeyError, match="third"):
        next(ahead)
    assert n_threads() == 0


def test_closing_early_closes_what_makes_the_items_and_ends_the_thread() -> None:
    closed = []

    def items() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed.append(True)

    with closing(run_ahead(items(), depth=2)) as ahead:
        next(ahead)
    assert closed == [True]
    assert n_threads() == 0


def test_calls_are_made_in_order_and_all_before_the_block_ends() -> None:
    done: list[int] = []
    with Behind(depth=2) as behind:
        for number in range(10):
            behind.call(lambda number=number: done.append(number))  # type: ignore[misc]  # a default binds it
    assert done == list(range(10))
    assert n_threads() == 0


def test_a_call_waits_where_too_many_are_not_done() -> None:
    go = threading.Event()
    with Behind(depth=1) as behind:
        behind.call(lambda: go.wait(10) and None)
        waiter = threading.Thread(target=behind.call, args=(lambda: None,))
        waiter.start()
        waiter.join(0.05)
        assert waiter.is_alive()
        go.set()
        waiter.join(10)
        assert not waiter.is_alive()


def test_an_error_of_a_call_is_raised_and_later_calls_are_dropped() -> None:
    done = []

    def fail() -> None:
        raise OSError("full")

    def hand_over() -> None:
        with Behind(depth=1) as behind:
            behind.call(fail)
            behind.call(lambda: done.append(1))
            behind.wait()

    with pytest.raises(OSError, match="full"):
        hand_over()
    assert n_threads() == 0


def test_a_depth_below_one_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="depth is 0"):
        next(run_ahead(iter([1]), depth=0))
