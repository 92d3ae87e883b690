"""Turn a partition into one estimate per stream and family, and the counts behind it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from brainsim.report.content import Estimate, PartitionSet
from brainsim.report.reduce import FDR_LEVEL, estimate_of

# What may be told of a family, by the name of the quantity: short words, and how much of R2 it is.
QUANTITIES = {
    "unique": ("Unique variance", "Unique variance (ΔR²)"),
    "alone": ("Each family alone", "Cross-validated R²"),
    "shapley": ("Shapley value", "Shapley value (R²)"),
    "product": ("Product measure", "Product measure (R²)"),
}


def subject_values(partition: PartitionSet, quantity: str) -> np.ndarray | None:
    """Return each subject's values of a quantity, (n_subjects, n_streams, n_families), None where it is not there."""
    values = {
        "unique": partition.unique,
        "alone": partition.alone,
        "shapley": partition.shapley,
        "product": partition.product,
    }
    return values[quantity]


def main_quantity(partition: PartitionSet) -> str | None:
    """Return what the page tells of each family first: the unique part, or what the scored subsets allow instead."""
    return next((q for q in QUANTITIES if subject_values(partition, q) is not None), None)


def family_estimate(partition: PartitionSet, quantity: str, stream: str, family: str) -> Estimate:
    """Return the group's estimate of a quantity, or the subjects' mean."""
    values = subject_values(partition, quantity)
    s, f = partition.streams.index(stream), partition.families.index(family)
    subjects = np.full(1, np.nan) if values is None else values[:, s, f]
    return estimate_of(partition.group.get((quantity, stream, family)), subjects)


def joint_estimate(partition: PartitionSet, stream: str) -> Estimate:
    """Return the group's R2 of all families together, or the subjects' mean."""
    return estimate_of(partition.group_joint.get(stream), partition.joint[:, partition.streams.index(stream)])


def stream_n(partition: PartitionSet, stream: str) -> tuple[int, int]:
    """Return how many subjects and targets (over all subjects) a stream has."""
    n_targets = partition.n_targets[:, partition.streams.index(stream)]
    return int((n_targets > 0).sum()), int(n_targets.sum())


def n_text(n_subjects: int, n_targets: int) -> str:
    """Return both counts as a short line."""
    return f"n = {n_subjects}; {n_targets:,} targets"


def tell_n(partition: PartitionSet, stream: str) -> str:
    """Return a stream's counts as a short line: subjects, and targets where values are means over them."""
    n_subjects, n_targets = stream_n(partition, stream)
    return f"n = {n_subjects}" if partition.is_of_rdms else n_text(n_subjects, n_targets)


def found(estimates: Mapping[tuple[str, str], Estimate]) -> frozenset[tuple[str, str]]:
    """Return the cells whose false discovery rate is low enough to be called significant."""
    return frozenset(cell for cell, estimate in estimates.items() if estimate.q <= FDR_LEVEL)


def or_zero(value: float) -> float:
    """Return the value, 0 where it is not finite."""
    return value if math.isfinite(value) else 0.0


def or_low(value: float) -> float:
    """Return the value, minus infinity where it is not finite."""
    return value if math.isfinite(value) else -math.inf
