"""Turn the stored fits of subjects into one row per stream, and the warnings that go with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from brainsim.commands.encoding_plan import EncodingPlan, stream_masks

if TYPE_CHECKING:
    from brainsim.store import Store


def summarise_fits(
    store: Store, plan: EncodingPlan, paths: Mapping[str, str]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Average the scores of every subject over the valid targets of each stream.

    Parameters
    ----------
    paths : mapping of str to str
        Subject -> node of its fit.

    Returns
    -------
    list of dict
        Per subject and stream: mean R2 and r, median r, share of targets with r above 0.2, number above 0.5; and
        with nulls the share of targets that are found at a false discovery rate of 5 %.
    list of str
        Warnings, each with its subject.
    """
    rows, warnings = [], []
    for group in plan.groups:
        for subject in group.subjects:
            path = paths[subject.name]
            r2, r = store.read(path, "r2"), store.read(path, "r")
            q = store.read(path, "q") if "q" in store.info(path).arrays else None
            warnings += [f"{subject.name}: {warning}" for warning in store.info(path).attributes["warnings"]]
            for stream, mask in stream_masks(store, subject).items():
                inside = mask & np.isfinite(r2)
                if not inside.any():
                    continue
                rows.append(
                    {
                        "subject": subject.name,
                        "stream": stream,
                        "n_targets": int(inside.sum()),
                        "mean_r2": float(r2[inside].mean()),
                        "mean_r": float(r[inside].mean()),
                        "median_r": float(np.median(r[inside])),
                        "share_r_above_0.2": float((r[inside] > 0.2).mean()),
                        "n_r_above_0.5": int((r[inside] > 0.5).sum()),
                        **({} if q is None else {"share_q_below_0.05": float((q[inside] <= 0.05).mean())}),
                    }
                )
    return rows, warnings
