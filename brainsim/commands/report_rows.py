"""Turn rows of result nodes into the values that a page is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from brainsim.commands.report_sources import number
from brainsim.report.content import Estimate, Layer


def read_estimate(row: Mapping[str, Any]) -> Estimate:
    """Return the estimate of a row of a group's table."""
    return Estimate(**{field.name: number(row.get(field.name)) for field in fields(Estimate)})


def read_layers(rows: Iterable[Mapping[str, Any]]) -> tuple[Layer, ...]:
    """Return the layers that a result lists."""
    return tuple(Layer(str(w["model"]), str(w["layer"]), int(w["index"]), str(w["family"])) for w in rows)
