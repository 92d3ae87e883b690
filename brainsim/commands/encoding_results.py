"""Turn the work nodes of a subject's tasks into its result node, a few rows in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from brainsim.commands.encoding_data import Subject, SubjectGroup
from brainsim.commands.encoding_plan import EncodingPlan
from brainsim.commands.encoding_targets import has_column, nothing_fitted
from brainsim.commands.encoding_tasks import EncodingTask
from brainsim.commands.encoding_told import describe_result

if TYPE_CHECKING:
    from brainsim.store import Store

# Rows of a result that are in memory at once.
BLOCK_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Piece:
    """Where some of a subject's targets lie in a work node.

    Parameters
    ----------
    work : str
        The node.
    reason : ndarray of uint8, (n_targets,)
        Why each of the subject's targets is fitted or not.
    columns : slice
        Columns of those that were fitted in the node's arrays.
    regions : slice
        Regions of its sums.
    """

    work: str
    reason: np.ndarray
    columns: slice
    regions: slice

    def read(self, store: Store, name: str, rows: slice = slice(None)) -> np.ndarray:
        """Read an array, or some of its rows, over these targets, its last axis; NaN (or -1) where not fitted."""
        n_axes = len(store.info(self.work).arrays[name][0])
        if n_axes == 1:
            found = store.read(self.work, name, rows=self.columns)
        elif n_axes > 2:
            found = store.read(self.work, name, rows=rows)[..., self.columns]
        else:
            found = store.read(self.work, name, rows=rows, columns=self.columns)
        fill = -1 if np.issubdtype(found.dtype, np.integer) else np.nan
        spread = np.full((*found.shape[:-1], len(self.reason)), fill, dtype=found.dtype)
        spread[..., has_column(self.reason)] = found
        return spread


def assemble(
    store: Store,
    plan: EncodingPlan,
    group: SubjectGroup,
    subject: Subject,
    *,
    path: str,
    kind: str,
    key: Mapping[str, Any],
    tasks: Sequence[EncodingTask],
    attributes: Mapping[str, Any],
    overwrite: bool,
) -> None:
    """Write one subject's result from the work nodes of its tasks.

    Raises
    ------
    InvalidValueError
        Where none of the subject's targets could be fitted.
    """
    from brainsim.store import ArraySpec

    pieces = sorted(_pieces(store, subject, tasks), key=lambda piece: piece[0])
    parts = [piece for _, piece in pieces]
    reasons = np.concatenate([part.reason for part in parts])
    if not (reasons == 0).any():
        raise nothing_fitted(subject.targets.path, reasons)
    logs = [store.info(part.work).attributes for part in parts]
    at_edge = np.concatenate([part.read(store, "at_edge") for part in parts])
    names = [name for name in logs[0]["values"] if name != "at_edge"]
    first = store.info(parts[0].work).arrays
    lead = {name: tuple(first[name][0])[:-1] for name in names}
    specs = {name: ArraySpec((*lead[name], len(reasons)), first[name][1]) for name in names}
    specs |= {_q_name(name): specs[name] for name in names if _is_p(name)}
    small = _region_means(store, subject, parts, logs[0]["sums"])
    small |= _normalised(store, subject, parts, kind)
    specs |= {name: ArraySpec(array.shape, str(array.dtype)) for name, array in small.items()}
    told = {
        **describe_result(plan, group, subject, reasons, at_edge, logs),
        **attributes,
        **_region_rows(subject, small, attributes),
    }
    with store.writer(path, type=kind, key=key, arrays=specs, attributes=told, overwrite=overwrite) as writer:
        for name in names:
            for block in _blocks(store, parts, name, lead[name], len(reasons)):
                writer.append(name, block)
                if _is_p(name):
                    writer.append(_q_name(name), _false_discovery(block))
        for name, array in small.items():
            writer.append(name, array)
        writer.complete()


def _pieces(store: Store, subject: Subject, tasks: Sequence[EncodingTask]) -> Iterator[tuple[int, Piece]]:
    """Yield (first target, piece) of a subject."""
    for task in tasks:
        reasons = store.read(task.work, "reason")
        first = column = region = 0
        for part in task.parts:
            attributes = store.info(part.targets).attributes
            n_regions = len(attributes["roi_names"]) + len(attributes["streams"])
            reason = reasons[first : first + part.n_targets]
            n_columns = int(has_column(reason).sum())
            if part.subject == subject.name:
                columns, regions = slice(column, column + n_columns), slice(region, region + n_regions)
                yield part.start, Piece(task.work, reason, columns, regions)
            first, column, region = first + part.n_targets, column + n_columns, region + n_regions


def _blocks(
    store: Store, parts: Sequence[Piece], name: str, lead: tuple[int, ...], n_targets: int
) -> Iterator[np.ndarray]:
    """Yield the rows of an array over all of a subject's targets; a vector comes whole."""
    if not lead:
        yield np.concatenate([part.read(store, name) for part in parts])
        return
    n_rows = max(1, BLOCK_BYTES // (4 * n_targets * prod(lead[1:])))
    for start in range(0, lead[0], n_rows):
        rows = slice(start, min(start + n_rows, lead[0]))
        yield np.concatenate([part.read(store, name, rows) for part in parts], axis=-1)


def _is_p(name: str) -> bool:
    return name == "p" or name.endswith("_p")


def _q_name(name: str) -> str:
    """Return the name of the false discovery rates that belong to p values."""
    return f"{name[:-1]}q"


def _false_discovery(p: np.ndarray) -> np.ndarray:
    from brainsim.stats.fdr import false_discovery_rates

    return false_discovery_rates(p).astype(np.float32)


def _region_means(
    store: Store, subject: Subject, parts: Sequence[Piece], quantities: Sequence[str]
) -> dict[str, np.ndarray]:
    """Return the means of summed quantities over each ROI and stream, regions first."""
    n_rois = len(subject.targets.attributes["roi_names"])
    counts = sum(store.read(part.work, "region_count", rows=part.regions) for part in parts)
    means = {"n_targets": np.asarray(counts)}
    for quantity in quantities:
        total: Any = sum(store.read(part.work, f"sum_{quantity}")[..., part.regions] for part in parts)
        with np.errstate(invalid="ignore", divide="ignore"):
            means[quantity] = np.moveaxis(total / counts, -1, 0)
    out = {}
    for name, mean in means.items():
        dtype = np.int32 if name == "n_targets" else np.float32
        out[f"roi_{name}"], out[f"stream_{name}"] = mean[:n_rois].astype(dtype), mean[n_rois:].astype(dtype)
    return out


def _normalised(store: Store, subject: Subject, parts: Sequence[Piece], kind: str) -> dict[str, np.ndarray]:
    """Return the joint score as a share of what could be explained, where the targets' node says how much that is."""
    if "ceiling" not in subject.targets.arrays:
        return {}
    ceiling = store.read(subject.targets.path, "ceiling").astype(np.float64)
    joint = np.concatenate(
        [
            part.read(store, "r2") if kind == "fit" else part.read(store, "subset_r2", slice(-1, None)).reshape(-1)
            for part in parts
        ]
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return {"joint_normalised": np.where(ceiling > 0, joint / ceiling, np.nan).astype(np.float32)}


def _region_rows(subject: Subject, small: Mapping[str, np.ndarray], told: Mapping[str, Any]) -> dict[str, Any]:
    """Return one row per ROI and quantity, with an interval over runs."""
    from brainsim.commands.encoding_regions import roi_rows

    return {"roi_rows": roi_rows(list(subject.targets.attributes["roi_names"]), small, told)}
