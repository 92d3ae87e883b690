"""Turn names into rows: of every module in `families/`, of installed plug-ins, and of models found elsewhere."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable
from importlib import import_module, metadata

from brainsim.core.registry import Registry
from brainsim.models import external, families
from brainsim.models.rows import ModelRow

# Other distributions add families under this entry-point group: the value is a module that has ROWS.
ENTRY_POINT_GROUP = "brainsim.models"

MODELS: Registry[ModelRow] = Registry("model", hint="brainsim models list")


def register_rows(rows: Iterable[ModelRow]) -> None:
    """Add rows to the list of models; a name can be taken once."""
    for row in rows:
        MODELS.add(row.name, row)


def find_row(model: str | ModelRow) -> ModelRow:
    """Return the row of a name: one of the list, or "timm:…", "torchvision:…", "hf:…", "file:…"; of a row, itself.

    Rows of the list cost nothing. For the others their library is imported, and the network is run once without
    numbers to find its layers.

    Raises
    ------
    UnknownNameError
        No such model; near misses are named.
    """
    if isinstance(model, ModelRow):
        return model
    if model not in MODELS and external.is_external(model):
        return external.find_external(model)
    return MODELS[model]


def _discover() -> None:
    found = [import_module(f"{families.__name__}.{module.name}") for module in pkgutil.iter_modules(families.__path__)]
    found += [entry_point.load() for entry_point in metadata.entry_points(group=ENTRY_POINT_GROUP)]
    rows = [row for module in found for row in module.ROWS]
    register_rows(sorted(rows, key=lambda row: row.order))  # stable: within a family as its file has them


_discover()
