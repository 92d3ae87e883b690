"""Turn names into claims: the study's, and those of installed plug-ins."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from importlib import metadata

from brainsim.core.registry import Registry
from brainsim.stats.claims import study
from brainsim.stats.claims.rows import Claim

# Other distributions add claims under this entry-point group: the value is a module that has ROWS.
ENTRY_POINT_GROUP = "brainsim.claims"

CLAIMS: Registry[Claim] = Registry("claim", hint="docs/claims.md lists them")


def register_claims(rows: Iterable[Claim]) -> None:
    """Add claims to the list; a name can be taken once."""
    for row in rows:
        CLAIMS.add(row.name, row)


def select_claims(globs: Sequence[str] = ("*",)) -> list[Claim]:
    """Return the claims that some globs stand for, in the order of the list.

    Raises
    ------
    UnknownNameError
        A glob that matches nothing.
    """
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in CLAIMS):
            CLAIMS[glob]  # the error with near misses
    chosen = [claim for claim in CLAIMS.values() if any(fnmatchcase(claim.name, glob) for glob in globs)]
    return sorted(chosen, key=lambda claim: claim.order)


def _discover() -> None:
    plugins = [entry_point.load() for entry_point in metadata.entry_points(group=ENTRY_POINT_GROUP)]
    register_claims(row for module in (study, *plugins) for row in module.ROWS)


_discover()
