"""Turn names into registered things, and wrong names into near misses."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from brainsim.core.errors import InvalidValueError, UnknownNameError

T = TypeVar("T")


def suggest(name: str, allowed: list[str]) -> str:
    """Return the part of an error sentence that lists near misses, or all names where few."""
    near = difflib.get_close_matches(name, allowed, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(repr(n) for n in near)}?"
    shown = ", ".join(allowed[:20])
    return f"allowed: {shown}{', …' if len(allowed) > 20 else ''}." if allowed else "the list is empty."


def unknown_name(what: str, name: str, allowed: list[str], *, hint: str | None = None) -> UnknownNameError:
    """Build the error for a name that is not in its list."""
    return UnknownNameError(f"unknown {what} {name!r}; {suggest(name, allowed)}", hint=hint)


class Registry(Mapping[str, T], Generic[T]):
    """A list of names that one file each can add to.

    Parameters
    ----------
    what : str
        What the names stand for, as it should read in an error ("model", "ROI format").
    hint : str, optional
        The command that lists the names.
    """

    def __init__(self, what: str, *, hint: str | None = None) -> None:
        self.what = what
        self.hint = hint
        self._items: dict[str, T] = {}

    def add(self, name: str, item: T) -> T:
        """Register `item` under `name`; a name can be taken once."""
        if name in self._items:
            raise InvalidValueError(f"{self.what} {name!r} is registered already.")
        self._items[name] = item
        return item

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers what it decorates under `name`."""
        return lambda item: self.add(name, item)

    def remove(self, name: str) -> None:
        """Forget `name` (for tests and plug-ins)."""
        self[name]
        del self._items[name]

    def __getitem__(self, name: str) -> T:
        try:
            return self._items[name]
        except KeyError:
            raise unknown_name(self.what, name, list(self._items), hint=self.hint) from None

    def get(self, name: str, default: Any = None) -> Any:
        """Return what is registered under `name`, or `default`."""
        return self._items.get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)
