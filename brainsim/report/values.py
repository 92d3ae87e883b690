"""Turn single numbers and layers into the small frozen values that everything else of a page is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Layer:
    """One layer of one system, and how deep it lies (0 = first tap)."""

    model: str
    name: str
    index: int
    family: str


@dataclass(frozen=True)
class Estimate:
    """One number with its interval and chances; NaN where one is not known.

    Parameters
    ----------
    mean, low, high : float
    p, q : float
        With subjects and runs (or stimuli) as random effects; false discovery rate of it.
    p_subjects, q_subjects : float
        By sign flips over subjects; false discovery rate of it.
    p_null : float
        By shifted null data sets.
    """

    mean: float
    low: float = float("nan")
    high: float = float("nan")
    p: float = float("nan")
    q: float = float("nan")
    p_subjects: float = float("nan")
    q_subjects: float = float("nan")
    p_null: float = float("nan")

    @property
    def has_interval(self) -> bool:
        """Whether both ends are finite."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval is known and lies on one side of zero."""
        return self.has_interval and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class RegionRow:
    """One ROI of one subject: a quantity, and the family where it is a family's."""

    subject: str
    region: str
    quantity: str
    family: str | None
    estimate: Estimate
    n_targets: int
