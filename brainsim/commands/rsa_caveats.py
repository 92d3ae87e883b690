"""Turn the subjects and tables of an RSA into what it cannot tell: ceilings of others, chances of one subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from brainsim.commands.encoding_data import SubjectGroup

# Subjects that are named in a sentence.
MAX_NAMED = 4


def ceiling_caveats(groups: Sequence[SubjectGroup]) -> list[str]:
    """Return why there is no noise ceiling, where there is none: it compares subjects who have the same rows.

    Parameters
    ----------
    groups : sequence of SubjectGroup
        Subjects by timing.
    """
    if len(groups) < 2:
        return []
    largest = max(groups, key=lambda group: len(group.subjects))
    reason = (
        f"No noise ceilings: subjects have different runs, times or scrubbed TRs ({'; '.join(map(_tell, groups))}), so "
        "that the RDM of one cannot be compared with that of another, and no score can be told as a share of a ceiling."
    )
    names = [subject.name for subject in largest.subjects]
    return [f"{reason} --subjects {','.join(names)} has them." if len(names) > 1 else reason]


def _tell(group: SubjectGroup) -> str:
    names = [subject.name for subject in group.subjects]
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    n_left_out = len(group.left_out)
    return (
        f"{', '.join(names[:MAX_NAMED])}{more}: {len(group.timing)} runs, {group.layout.n_rows} TRs"
        f"{f' of which {n_left_out} scrubbed' if n_left_out else ''}"
    )


def lone_caveats(tables: Mapping[str, Any]) -> list[str]:
    """Return of which streams nothing can be said beyond one subject: no interval, no p, no ceiling."""
    counts: dict[str, int] = {}
    for row in tables.get("rows", ()):
        counts[row["stream"]] = max(counts.get(row["stream"], 0), int(row["n_subjects"]))
    lone = [stream for stream, n in counts.items() if n == 1]
    if not lone:
        return []
    where = "" if len(lone) == len(counts) else f" in {', '.join(lone)}"
    return [f"One subject{where}: no interval over subjects, no noise ceiling, and no p where there is no interval."]
