"""Turn the family files into the list of models: every module in `families/`, and every installed plug-in."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable
from importlib import import_module, metadata

from brainsim.core.registry import Registry
from brainsim.models import families
from brainsim.models.rows import ModelRow

# Other distributions add families under this entry-point group: the value is a module that has ROWS.
ENTRY_POINT_GROUP = "brainsim.models"

MODELS: Registry[ModelRow] = Registry("model", hint="brainsim models list")


def register_rows(rows: Iterable[ModelRow]) -> None:
    """Add rows to the list of models; a name can be taken once."""
    for row in rows:
        MODELS.add(row.name, row)


def _discover() -> None:
    for module in sorted(pkgutil.iter_modules(families.__path__), key=lambda m: m.name):
        register_rows(import_module(f"{families.__name__}.{module.name}").ROWS)
    for entry_point in metadata.entry_points(group=ENTRY_POINT_GROUP):
        register_rows(entry_point.load().ROWS)


_discover()
