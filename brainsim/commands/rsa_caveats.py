"""Turn the subjects and tables of an RSA into what it cannot tell: ceilings of others, chances of one subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from brainsim.commands.encoding_data import SubjectGroup

# Subjects that are named in a sentence.
MAX_NAMED = 4

# Tables of a group whose rows have p and q, each of them one family of tests.
TESTED = ("rows", "comparisons")


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


def without_lone_p(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return tables whose rows have a p only where they have an interval, with the false discovery rates of the rest.

    Over the runs or stimuli of one subject a chance can be counted, but it would speak of nobody else, and it would
    stand where readers expect one over subjects.

    Parameters
    ----------
    tables : mapping
        Of a group node.
    """
    settled = dict(tables)
    for name in TESTED:
        rows = [dict(row) for row in tables.get(name, ())]
        bare = [row for row in rows if row.get("low") is None and row.get("p") is not None]
        for row in bare:
            row["p"] = None
        if bare:
            settled[name] = _with_q(rows)
    return settled


def _with_q(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    import numpy as np

    from brainsim.stats.fdr import false_discovery_rates

    p = np.array([np.nan if row["p"] is None else row["p"] for row in rows])
    q = false_discovery_rates(p)
    return [{**row, "q": float(value) if np.isfinite(value) else None} for row, value in zip(rows, q, strict=True)]
