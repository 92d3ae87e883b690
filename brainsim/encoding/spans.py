"""Turn ranges of rows into their union and into places within it."""

from __future__ import annotations

from collections.abc import Sequence

from brainsim.core.errors import InvalidValueError

Span = tuple[int, int]  # first row, and the row after the last


def merge_spans(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Return the union of ranges as increasing ranges that do not touch."""
    merged: list[Span] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return tuple(merged)


def within(spans: Sequence[Span], wanted: Span) -> Span:
    """Return where a range that lies inside one of `spans` stands in their concatenation."""
    offset = 0
    for start, stop in spans:
        if start <= wanted[0] and wanted[1] <= stop:
            return wanted[0] - start + offset, wanted[1] - start + offset
        offset += stop - start
    raise InvalidValueError(f"rows {wanted} lie in none of {list(spans)}.")
