"""Turn stored numbers of targets into images on the voxels, vertices or grayordinates that the targets came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainsim.core.errors import AlignmentError, InvalidValueError, UnknownNameError
from brainsim.core.progress import Task
from brainsim.datasets.images import grid_of_targets, name_images, write_images

if TYPE_CHECKING:
    from brainsim.datasets.runs import Grid
    from brainsim.store import NodeInfo, Store

# What the maps of an array are called: (array, or its first axis) -> attribute that names the rows.
_NAMED_BY = {
    "fold": "folds",
    "band": "bands",
    "layer": "layers",
    "subset": "subsets",
    "parts": "parts",
    "family": "families",
    "roi": "roi_names",
    "subject": "subjects",
}


@dataclass(frozen=True)
class Places:
    """Where the targets of a node lie.

    Parameters
    ----------
    grid : Grid
        Of the subject's runs.
    ijk : ndarray of int32, (n_targets, n_axes)
        Places of the targets.
    """

    grid: Grid
    ijk: np.ndarray


def has_images(info: NodeInfo) -> bool:
    """Return whether a node holds numbers of targets that images can show."""
    return bool(_map_arrays(info))


def find_places(store: Store, info: NodeInfo) -> Places:
    """Return where the targets of a node lie.

    Parameters
    ----------
    store : Store
    info : NodeInfo
        Targets, a run, or a result.

    Raises
    ------
    UnknownNameError
        The node of the targets is gone.
    AlignmentError
        It was made anew since, with other targets.
    InvalidValueError
        The targets are columns of a table.
    """
    path = _targets_path(info)
    if not store.has(path):
        raise UnknownNameError(
            f"{info.path} is of the targets of {path}, which the store does not hold.", hint="brainsim store ls rois"
        )
    targets = store.info(path)
    made_from = _targets_digest(info)
    n_targets = targets.arrays["ijk"][0][0]
    widths = {int(info.arrays[name][0][-1]) for name in _map_arrays(info)}
    if (made_from is not None and made_from != targets.digest) or widths - {n_targets}:
        raise AlignmentError(
            f"{info.path} has {', '.join(map(str, sorted(widths)))} targets and was made before {path}, which now "
            f"holds {n_targets} others.",
            hint="make it again with --overwrite",
        )
    place_index = store.read(path, "place_index") if "place_index" in targets.arrays else None
    try:
        grid = grid_of_targets(targets.attributes, place_index)
    except InvalidValueError as error:
        raise InvalidValueError(error.message, hint="--format npy, or parquet") from None
    return Places(grid, store.read(path, "ijk"))


def plan_images(info: NodeInfo, places: Places) -> list[str]:
    """Return the files that a node becomes, below its folder."""
    stems = [(name, False) for name in _map_arrays(info) if not _is_series(info, name)]
    stems += [
        (stem, True) for name in _map_arrays(info) if _is_series(info, name) for stem in _series_stems(info, name)
    ]
    images = [path.name for s, series in stems for path in name_images(Path(s), places.grid, is_series=series)]
    tables = [f"{name}.tsv" for name in _map_arrays(info) if not _is_series(info, name) and _has_rows(info, name)]
    return sorted([*images, *tables])


def write_node_images(store: Store, info: NodeInfo, folder: Path, places: Places, bar: Task) -> None:
    """Write a map or several for each array over targets, a series for each that is over time too.

    Parameters
    ----------
    store : Store
    info : NodeInfo
        The node.
    folder : Path
        Where its files go.
    places : Places
        From `find_places`.
    bar : Task
        Told the bytes of the numbers.
    """
    for name in _map_arrays(info):
        values = store.read(info.path, name)
        if _is_series(info, name):
            for stem, series, tr_s in _split_series(store, info, name, values):
                write_images(folder / stem, series, places.grid, places.ijk, tr_s=tr_s)
        elif values.ndim == 1:
            write_images(folder / name, values, places.grid, places.ijk, names=[name])
        else:
            called = _row_names(info, name)
            write_images(folder / name, values, places.grid, places.ijk, names=called)
            _write_names(folder / f"{name}.tsv", called)
        bar.advance(values.nbytes)


def _map_arrays(info: NodeInfo) -> list[str]:
    """Return the arrays of one or two axes of which the last is targets: what a map or a series of maps shows."""
    return [name for name in info.arrays if len(dims := _dims(info, name)) <= 2 and dims[-1:] == ("target",)]


def _dims(info: NodeInfo, name: str) -> tuple[str, ...]:
    """Return the axes of an array; older nodes do not name those of each."""
    from brainsim.store import NODE_TYPES

    known = NODE_TYPES[info.type].dims if info.type in NODE_TYPES else {}
    return tuple(info.dims.get(name) or known.get(name, ()))


def _has_rows(info: NodeInfo, name: str) -> bool:
    return len(info.arrays[name][0]) == 2


def _is_series(info: NodeInfo, name: str) -> bool:
    return _dims(info, name)[0] == "time"


def _targets_path(info: NodeInfo) -> str:
    if info.type == "targets":
        return info.path
    if info.type == "bold":
        return f"rois/{info.attributes['dataset']}/{info.attributes['subject']}"
    found = [path for path in info.attributes.get("sources", ()) if path.startswith("rois/")]
    if not found:
        raise UnknownNameError(f"{info.path} does not say which targets its numbers are of.", hint="--format npy")
    return str(found[0])


def _targets_digest(info: NodeInfo) -> str | None:
    """Return the digest of the targets that a node was made with, where its key tells."""
    made_from = info.key.get("data") if info.type in ("fit", "partition") else [info.key.get("targets")]
    return None if info.type in ("targets", "ceilings") or not made_from else made_from[0]


def _row_names(info: NodeInfo, name: str) -> list[str]:
    """Return what the rows of an array are called: folds, bands, families, subsets of families …"""
    axis, n_rows = _dims(info, name)[0], info.arrays[name][0][0]
    rows = info.attributes.get(_NAMED_BY.get(name, _NAMED_BY.get(axis, "")), ())
    if len(rows) != n_rows:
        return [f"{axis}-{k + 1}" for k in range(n_rows)]
    return [_tell(row) for row in rows]


def _tell(row: Any) -> str:
    if isinstance(row, Mapping):
        return f"{row['model']}/{row['layer']}"
    return row if isinstance(row, str) else "+".join(row)


def _write_names(path: Path, names: list[str]) -> None:
    lines = ["index\tname", *(f"{k}\t{name}" for k, name in enumerate(names))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _series_stems(info: NodeInfo, name: str) -> list[str]:
    return [name] if info.type == "bold" else [f"{name}_{run}" for run, _ in info.attributes["runs"]]


def _split_series(
    store: Store, info: NodeInfo, name: str, values: np.ndarray
) -> Iterator[tuple[str, np.ndarray, float]]:
    """Yield (stem, values, TR in s) of each run; TRs that took no part are NaN, so that time goes on."""
    if info.type == "bold":
        yield name, values, float(info.attributes["tr_s"])
        return
    first = 0
    for stem, (run, n_trs) in zip(_series_stems(info, name), info.attributes["runs"], strict=True):
        sources = [path for path in info.attributes["sources"] if path.startswith("bold/") and path.endswith(f"/{run}")]
        bold = store.info(sources[0])
        kept = np.ones(bold.arrays["values"][0][0], bool)
        if "kept" in bold.arrays:
            kept = store.read(bold.path, "kept").astype(bool)
        series = np.full((len(kept), values.shape[1]), np.nan, np.float32)
        series[kept] = values[first : first + n_trs]
        first += n_trs
        yield stem, series, float(bold.attributes["tr_s"])
