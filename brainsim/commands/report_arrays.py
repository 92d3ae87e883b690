"""Turn per-target arrays of result nodes into means per stream, a few rows in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from brainsim.report.reduce import stream_masks, stream_means
from brainsim.store import NodeInfo, Store

ROWS_AT_ONCE = 64  # parts of nine families are 511 rows of every target; a block of 64 stays small

Masks = Mapping[str, np.ndarray]


class ArrayReader:
    """Reads arrays of one result's nodes, one node per subject.

    Parameters
    ----------
    store : Store
        Open for reading.
    nodes : sequence of NodeInfo
        The subjects' nodes.
    streams : sequence of str
        Streams in the order of the page.
    masks : sequence of mapping of str to ndarray of bool
        Which targets each stream of each subject holds.
    """

    def __init__(self, store: Store, nodes: Sequence[NodeInfo], streams: Sequence[str], masks: Sequence[Masks]) -> None:
        self._store, self._nodes, self._streams, self._masks = store, nodes, streams, masks

    def has(self, array: str) -> bool:
        """Return whether every subject has an array."""
        return all(array in info.arrays for info in self._nodes)

    def read(self, array: str) -> list[np.ndarray]:
        """Return each subject's whole array."""
        return [self._store.read(info.path, array) for info in self._nodes]

    def means(
        self,
        array: str,
        *,
        rows: Sequence[int] | None = None,
        turn: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> np.ndarray:
        """Return means over targets of an (n_rows, n_targets) array: (n_subjects, n_streams, n_rows).

        Parameters
        ----------
        array : str
            Its name.
        rows : sequence of int, optional
            Which rows; all by default.
        turn : callable, optional
            What to do with the values of each target before they are averaged.
        """
        subjects = []
        for info, mask in zip(self._nodes, self._masks, strict=True):
            wanted = list(range(info.arrays[array][0][0])) if rows is None else list(rows)
            blocks = []
            for start in range(0, len(wanted), ROWS_AT_ONCE):
                values = self._read_rows(info, array, wanted[start : start + ROWS_AT_ONCE])
                blocks.append(stream_means(values if turn is None else turn(values), mask, self._streams))
            subjects.append(np.concatenate(blocks, axis=1))
        return np.stack(subjects)

    def means_if_there(
        self, array: str, *, turn: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> np.ndarray | None:
        """Return `means`, None where a subject lacks the array."""
        return self.means(array, turn=turn) if self.has(array) else None

    def reduced(
        self, array: str, reduce: Callable[[np.ndarray, Masks, Sequence[str]], np.ndarray]
    ) -> np.ndarray | None:
        """Return an (n_targets,) array reduced to streams, (n_subjects, n_streams), None where a subject lacks it."""
        if not self.has(array):
            return None
        return np.stack([reduce(v, m, self._streams) for v, m in zip(self.read(array), self._masks, strict=True)])

    def count(self, array: str) -> np.ndarray:
        """Return how many targets have a score in an array's first row: (n_subjects, n_streams)."""
        counts = []
        for info, mask in zip(self._nodes, self._masks, strict=True):
            finite = np.isfinite(self._store.read(info.path, array, rows=slice(0, 1))[0])
            counts.append([int(finite[mask[s]].sum()) if s in mask else 0 for s in self._streams])
        return np.array(counts, np.int64)

    def take(self, array: str, stream: str) -> tuple[np.ndarray, ...]:
        """Return each subject's values of one stream's targets."""
        empty = np.zeros(0, np.float32)
        return tuple(v[m[stream]] if stream in m else empty for v, m in zip(self.read(array), self._masks, strict=True))

    def _read_rows(self, info: NodeInfo, array: str, rows: Sequence[int]) -> np.ndarray:
        if list(rows) == list(range(rows[0], rows[0] + len(rows))):
            return self._store.read(info.path, array, rows=slice(rows[0], rows[0] + len(rows)))
        return np.concatenate([self._store.read(info.path, array, rows=slice(r, r + 1)) for r in rows])


def read_scores(store: Store, nodes: Sequence[NodeInfo], array: str, streams: Sequence[str]) -> np.ndarray:
    """Return an (n_rows, n_streams) array of each subject: (n_subjects, n_streams, n_rows)."""
    subjects = []
    for info in nodes:
        values = store.read(info.path, array)
        column = {s: values[:, i] for i, s in enumerate(info.attributes["streams"])}
        missing = np.full(len(values), np.nan)
        subjects.append(np.stack([column.get(s, missing) for s in streams]))
    return np.stack(subjects).astype(np.float64)


def read_masks(store: Store, info: NodeInfo, targets: NodeInfo | None) -> dict[str, np.ndarray]:
    """Return which targets of a subject's result each stream holds.

    Parameters
    ----------
    store : Store
    info : NodeInfo
        The result.
    targets : NodeInfo or None
        The subject's targets, where the store has them.
    """
    array = "subset_r2" if "subset_r2" in info.arrays else "r"
    n_targets = info.arrays[array][0][-1]
    attributes = targets.attributes if targets else {}
    names = attributes.get("roi_names") or info.attributes.get("roi_names") or []
    streams = info.attributes.get("streams") or attributes.get("streams") or {}
    has_membership = targets is not None and "membership" in targets.arrays
    membership = store.read(targets.path, "membership") if targets is not None and has_membership else None
    return stream_masks(names, membership, streams, n_targets)
