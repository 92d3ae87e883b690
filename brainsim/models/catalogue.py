"""Turn names into rows: of every module in `families/`, of installed plug-ins, and of models found elsewhere."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable
from dataclasses import replace
from fnmatch import fnmatchcase
from importlib import import_module, metadata
from typing import Any

from brainsim.core.errors import UnknownNameError
from brainsim.core.registry import Registry, unknown_name
from brainsim.models import external, families
from brainsim.models.rows import ModelRow, WeightsSource

# Other distributions add families under this entry-point group: the value is a module that has ROWS.
ENTRY_POINT_GROUP = "brainsim.models"
# Behind the name of a row: the same network with random weights.
UNTRAINED = "-untrained"


class ModelList(Registry[ModelRow]):
    """Rows by name. Every row with weights of its own also answers to NAME-untrained, which iteration leaves out.

    Controls are made when they are asked for, so that a listing, a glob or a count is of models, not of models and
    their controls.
    """

    def __init__(self) -> None:
        super().__init__("model", hint="brainsim models list")

    def __getitem__(self, name: str) -> ModelRow:
        if name in self._items:
            return self._items[name]
        base = self._items.get(name.removesuffix(UNTRAINED)) if name.endswith(UNTRAINED) else None
        if base is None:
            raise self._unknown(name)
        if not has_control(base):
            is_random = base.weights.kind == "random"
            why = "has random weights already, drawn from --seed" if is_random else "has no weights"
            raise UnknownNameError(f"there is no {name}: {base.name} {why}.", hint=f"--models {base.name}")
        return make_control(base)

    def __contains__(self, name: object) -> bool:
        if name in self._items:
            return True
        return isinstance(name, str) and name in self.list_controls()

    def get(self, name: str, default: Any = None) -> Any:
        """Return the row of a name, or `default`."""
        try:
            return self[name]
        except UnknownNameError:
            return default

    def list_controls(self) -> list[str]:
        """Return the names of all untrained controls, in the order of their rows."""
        return [f"{row.name}{UNTRAINED}" for row in self._items.values() if has_control(row)]

    def match(self, glob: str) -> list[str]:
        """Return the names that a glob stands for: of rows, and of untrained controls where it matches no row.

        Raises
        ------
        UnknownNameError
            It matches nothing.
        """
        for names in (list(self._items), self.list_controls()):
            matches = [name for name in names if fnmatchcase(name, glob)]
            if matches:
                return matches
        return [self[glob].name]

    def _unknown(self, name: str) -> UnknownNameError:
        examples = ", ".join(source.example for source in external.SOURCES.values())
        hint = f"brainsim models list; any other model is named like {examples}"
        if ":" in name:
            *others, last = external.SOURCES
            words = f"{', '.join(others)} or {last}"
            return UnknownNameError(f"unknown model {name!r}; before the colon stands {words}.", hint=hint)
        return unknown_name(self.what, name, [*self._items, *self.list_controls()], hint=hint)


def has_control(row: ModelRow) -> bool:
    """Return whether a row has weights that can be left out."""
    return row.weights.kind not in ("none", "random")


def make_control(row: ModelRow) -> ModelRow:
    """Return the untrained control of a row: the same network, input, protocols and layers with random weights.

    Its family is a family of its own, so that a partition can set trained beside untrained. Weights and masks are
    drawn by the name of the row, so `--random-weights` of that one gives the same numbers.
    """
    return replace(
        row,
        name=f"{row.name}{UNTRAINED}",
        family=f"{row.family}{UNTRAINED}",
        kind=f"untrained control of {row.name} ({row.kind})",
        trained_to_give="nothing",
        training_set="none: seeded random weights",
        accuracy=None,
        licence="BSD-3-Clause (the weights are drawn)",
        weights=WeightsSource("random"),
        notes=(f"the network, input, protocols and layers of {row.name}, with random weights from --seed",),
        control_of=row.name,
    )


MODELS = ModelList()


def register_rows(rows: Iterable[ModelRow]) -> None:
    """Add rows to the list of models; a name can be taken once."""
    for row in rows:
        MODELS.add(row.name, row)


def find_row(model: str | ModelRow) -> ModelRow:
    """Return the row of a name: one of the list, or "timm:…", "torchvision:…", "hf:…", "file:…"; of a row, itself.

    Rows of the list, and their untrained controls, cost nothing. For the others their library is imported, and the
    network is run once without numbers to find its layers.

    Raises
    ------
    UnknownNameError
        No such model; near misses are named.
    """
    if isinstance(model, ModelRow):
        return model
    if model in MODELS or not external.is_external(model):
        return MODELS[model]
    try:
        return external.find_external(model)
    except UnknownNameError as error:
        if model.endswith(UNTRAINED):
            error.add_note(f"only brainsim's own rows have a {UNTRAINED}; of any other model it is --random-weights.")
        raise


def _discover() -> None:
    found = [import_module(f"{families.__name__}.{module.name}") for module in pkgutil.iter_modules(families.__path__)]
    found += [entry_point.load() for entry_point in metadata.entry_points(group=ENTRY_POINT_GROUP)]
    rows = [row for module in found for row in module.ROWS]
    register_rows(sorted(rows, key=lambda row: row.order))  # stable: within a family as its file has them


_discover()
