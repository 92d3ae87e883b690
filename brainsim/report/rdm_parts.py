"""Turn an RSA whose RDM variance was divided among families into a partition, so that the same figures tell both."""

from __future__ import annotations

import numpy as np

from brainsim.report.content import PartitionSet, RsaSet


def as_partition(rsa: RsaSet) -> PartitionSet | None:
    """Return the parts of RDM variance as a partition; None where an RSA has none."""
    if rsa.joint is None or len(rsa.families) < 2 or (rsa.unique is None and rsa.alone is None):
        return None
    return PartitionSet(
        name=rsa.name,
        dataset=rsa.dataset,
        subjects=rsa.subjects,
        streams=rsa.streams,
        families=rsa.families,
        n_targets=np.isfinite(rsa.joint).astype(np.int64),
        joint=rsa.joint,
        unique=rsa.unique,
        alone=rsa.alone,
        parts=rsa.parts,
        part_values=rsa.part_values,
        n_subsets=rsa.n_subsets,
        group=rsa.group_families,
        group_joint=rsa.group_joint,
        group_parts=rsa.group_parts,
        comparisons=rsa.family_comparisons,
        interval=rsa.interval_of_parts or rsa.interval,
        options=rsa.options,
        of="RDMs",
    )
