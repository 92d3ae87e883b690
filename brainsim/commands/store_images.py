"""Turn stored numbers of targets into images on the voxels, vertices or grayordinates that the targets came from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from brainsim.commands.store_axes import dims_of, row_names, targets_of
from brainsim.core.errors import InvalidValueError
from brainsim.core.progress import Task
from brainsim.datasets.images import grid_of_targets, name_images, write_images

if TYPE_CHECKING:
    from brainsim.datasets.runs import Grid
    from brainsim.store import NodeInfo, Store


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
    targets = targets_of(store, info, {int(info.arrays[name][0][-1]) for name in _map_arrays(info)})
    place_index = store.read(targets.path, "place_index") if "place_index" in targets.arrays else None
    try:
        grid = grid_of_targets(targets.attributes, place_index)
    except InvalidValueError as error:
        raise InvalidValueError(error.message, hint="--format npy, or parquet") from None
    return Places(grid, store.read(targets.path, "ijk"))


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
            called = row_names(info, name)
            write_images(folder / name, values, places.grid, places.ijk, names=called)
            _write_names(folder / f"{name}.tsv", called)
        bar.advance(values.nbytes)


def _map_arrays(info: NodeInfo) -> list[str]:
    """Return the arrays of one or two axes of which the last is targets: what a map or a series of maps shows."""
    return [name for name in info.arrays if len(dims := dims_of(info, name)) <= 2 and dims[-1:] == ("target",)]


def _has_rows(info: NodeInfo, name: str) -> bool:
    return len(info.arrays[name][0]) == 2


def _is_series(info: NodeInfo, name: str) -> bool:
    return dims_of(info, name)[0] == "time"


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
