"""Turn result nodes into tables: a row per target, or per stream, layer, fold …, with names instead of numbers.

Tables are DataFrames of pandas: `brainsim.read_tables` returns them, `brainsim store export --format tsv` writes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainsim.commands.store_axes import NAMED_BY, dims_of, find_nodes, named_rows, row_names, targets_of, tell_row
from brainsim.core.errors import InvalidValueError
from brainsim.core.progress import SILENT, Task
from brainsim.core.registry import unknown_name
from brainsim.datasets.images import grid_of_targets
from brainsim.report.tables import MISSING

if TYPE_CHECKING:
    import pandas as pd

    from brainsim.datasets.runs import Grid
    from brainsim.store import NodeInfo, Store

# The table of what is one number per target, with the places of the targets.
TARGETS = "targets"

# Axes along which a table is long: a row for each of their names. Of others (time, features) no table is made.
_LONG_AXES = frozenset(NAMED_BY) - {"parts"} | {"null"}


def read_tables(
    prefix: str, *, store: Path | str = "store/brainsim.zarr", tables: Sequence[str] = ()
) -> dict[str, pd.DataFrame]:
    """Return the tables of results, those of several subjects, datasets and names one below the other.

    Parameters
    ----------
    prefix : str
        Names of a node path, each with the wildcards * and ? ("fits/all", "partitions/*/mine/group").
    store : Path
        The store.
    tables : sequence of str
        Only these tables; the numbers of others are not read. All by default.

    Returns
    -------
    dict of str to DataFrame
        ``targets`` has a row per target: where it lies (i, j, k, or structure and vertex; x_mm, y_mm, z_mm where that
        is known), its ROIs and streams with ; between them, and each array that holds one number for it (``r2``, …).
        Arrays with several numbers per target have a table each, with a column per fold, band, layer, family or subset
        (``targets_unique``, ``targets_split_r2``, …). Other arrays are long: ``stream_fold`` has a row per stream and
        fold. Lists of a group are tables as they are (``rows``, ``parts``, ``joint``, ``comparisons``, …).
        The first columns are name, dataset and subject, as far as the node's path tells them. What is over time, or has
        more than one axis beside targets, is in no table.

    Raises
    ------
    UnknownNameError
        Where no complete node has that path, or none of them such a table.
    InvalidValueError
        Where none of them is a result.
    AlignmentError
        Results whose targets were made anew since.

    Examples
    --------
    >>> found = brainsim.read_tables("partitions/families/mine", tables=["targets", "targets_unique"])
    >>> voxels = found["targets"].merge(found["targets_unique"])
    >>> voxels.groupby(["subject", "streams"])["static-cnn"].mean()
    """
    import pandas as pd

    from brainsim.store.remote import open_store

    opened = open_store(store)
    found = with_tables(find_nodes(opened, prefix), prefix)
    there = dict.fromkeys(name for info in found for name in plan_tables(info))
    for name in tables:
        if name not in there:
            raise unknown_name("table", name, list(there))
    parts: dict[str, list[pd.DataFrame]] = {}
    with SILENT.task("tables") as bar:
        for info in found:
            for name, table in node_tables(opened, info, bar, only=tables).items():
                parts.setdefault(name, []).append(table)
    return {name: pd.concat(some, ignore_index=True) for name, some in parts.items()}


def with_tables(found: Sequence[NodeInfo], prefix: str) -> list[NodeInfo]:
    """Return the nodes of which tables are made; an error where there are none."""
    results = [info for info in found if plan_tables(info)]
    if not results:
        types = ", ".join(dict.fromkeys(info.type for info in found))
        raise InvalidValueError(
            f"tables are made of results and of ROIs; {prefix!r} holds none ({types}).",
            hint="fits/NAME, partitions/NAME, rsa/NAME, claims/NAME, rois/DATASET, or --format npy",
        )
    return results


def plan_tables(info: NodeInfo) -> list[str]:
    """Return the names of a node's tables."""
    scalars, wide, long = _sort_arrays(info)
    first = [TARGETS] if scalars or wide else []
    return [*first, *map(_of_targets, wide), *map("_".join, long), *_lists_of(info)]


def node_tables(store: Store, info: NodeInfo, bar: Task, *, only: Sequence[str] = ()) -> dict[str, pd.DataFrame]:
    """Return the tables of one node by name; see `read_tables`.

    Parameters
    ----------
    store : Store
        Where the node is.
    info : NodeInfo
        The node.
    bar : Task
        Told the bytes that were read.
    only : sequence of str
        Names of the tables that are wanted; all by default.
    """
    import pandas as pd

    def wanted(name: str) -> bool:
        return not only or name in only

    def read(name: str) -> np.ndarray:
        values = store.read(info.path, name)
        bar.advance(values.nbytes)
        return values

    scalars, wide, long = _sort_arrays(info)
    head = _path_names(info)
    found: dict[str, pd.DataFrame] = {}
    targets = find_targets(store, info)
    if targets is not None and wanted(TARGETS):
        found[TARGETS] = pd.DataFrame(_places(store, targets) | {name: read(name) for name in scalars})
    for name in filter(lambda name: wanted(_of_targets(name)), wide):
        values = pd.DataFrame(read(name).T, columns=row_names(info, name))
        values.insert(0, "target", np.arange(len(values)))
        found[_of_targets(name)] = values
    for dims, names in long.items():
        if wanted("_".join(dims)):
            index = _product(info, names[0])
            found["_".join(dims)] = pd.DataFrame({**index, **{name: read(name).reshape(-1) for name in names}})
    for name in filter(wanted, _lists_of(info)):
        found[name] = pd.DataFrame([_flat(row, info) for row in info.attributes[name]])
    for table in found.values():
        for at, (key, value) in enumerate((k, v) for k, v in head.items() if k not in table.columns):
            table.insert(at, key, value)
    return found


def find_targets(store: Store, info: NodeInfo) -> NodeInfo | None:
    """Return the node of the targets that a node's tables are of; None where they are of none.

    Raises
    ------
    UnknownNameError, AlignmentError
        As `targets_of`.
    """
    scalars, wide, _ = _sort_arrays(info)
    n_targets = {info.arrays[name][0][-1] for name in (*scalars, *wide)}
    return targets_of(store, info, n_targets) if n_targets else None


def write_tables(store: Store, info: NodeInfo, folder: Path, bar: Task) -> None:
    """Write each table of a node as tab-separated text."""
    for name, table in node_tables(store, info, bar).items():
        table.to_csv(folder / f"{name}.tsv", sep="\t", na_rep=MISSING, index=False, lineterminator="\n")


def _sort_arrays(info: NodeInfo) -> tuple[list[str], list[str], dict[tuple[str, ...], list[str]]]:
    """Return arrays of one number per target, of several, and by their axes those that have no targets."""
    scalars, wide = [], []
    long: dict[tuple[str, ...], list[str]] = {}
    for name in info.arrays:
        dims = dims_of(info, name)
        if dims == ("target",):
            scalars.append(name)
        elif len(dims) == 2 and dims[1] == "target" and dims[0] in _LONG_AXES:
            wide.append(name)
        elif dims and set(dims) <= _LONG_AXES:
            long.setdefault(dims, []).append(name)
    return scalars, wide, long


def _of_targets(name: str) -> str:
    """Return the name of the table of an array with several numbers per target."""
    return f"{TARGETS}_{name}"


def _path_names(info: NodeInfo) -> dict[str, str]:
    """Return name, dataset and subject, as far as the path of a node of its type has them."""
    from brainsim.store import NODE_TYPES

    template = NODE_TYPES[info.type].path.split("/") if info.type in NODE_TYPES else []
    found = {part.strip("{}"): word for part, word in zip(template, info.path.split("/"), strict=False) if "{" in part}
    return {key: found[key] for key in ("name", "dataset", "subject") if key in found}


def _places(store: Store, targets: NodeInfo) -> dict[str, Any]:
    """Return the columns that say which target a row is: its number, place, ROIs and streams."""
    ijk = store.read(targets.path, "ijk")
    index = store.read(targets.path, "place_index") if "place_index" in targets.arrays else None
    columns: dict[str, Any] = {"target": np.arange(len(ijk))}
    a: Mapping[str, Any] = targets.attributes
    if index is not None and a.get("structures"):
        columns |= _places_of_structures(grid_of_targets(a, index), ijk[:, 0])
    elif a.get("affine") is not None:
        columns |= _voxels(ijk, np.array(a["affine"]))
    else:
        columns["column"] = ijk[:, 0]
    members = store.read(targets.path, "membership").astype(bool)
    rois = [str(roi) for roi in a["roi_names"]]
    columns["rois"] = _join(rois, members)
    streams: Mapping[str, Sequence[str]] = a.get("streams", {})
    within = [members[[rois.index(roi) for roi in some]].any(axis=0) for some in streams.values()]
    columns["streams"] = _join(list(streams), np.array(within).reshape(len(streams), len(ijk)))
    return columns


def _voxels(ijk: np.ndarray, affine: np.ndarray) -> dict[str, np.ndarray]:
    mm = ijk @ affine[:3, :3].T + affine[:3, 3]
    return {**dict(zip("ijk", ijk.T, strict=True)), **dict(zip(("x_mm", "y_mm", "z_mm"), mm.T, strict=True))}


def _places_of_structures(grid: Grid, places: np.ndarray) -> dict[str, Any]:
    """Return structure and vertex of each target; of those that are voxels of a volume, where they lie there."""
    import pandas as pd

    parts = []
    for structure in grid.structures:
        rows: dict[str, Any] = {"structure": structure.name}
        if structure.n_vertices is not None:
            rows["vertex"] = pd.array(structure.index, dtype="Int64")
        elif grid.voxels is not None and grid.voxels.affine is not None:
            found = _voxels(structure.index, np.array(grid.voxels.affine))
            rows |= {k: pd.array(v, dtype="Int64") if k in "ijk" else v for k, v in found.items()}
        parts.append(pd.DataFrame(rows, index=range(len(structure.index))))
    whole = pd.concat(parts, ignore_index=True).iloc[places]
    return {str(column): whole[column].array for column in whole.columns}


def _join(names: Sequence[str], members: np.ndarray) -> list[str | float]:
    """Return for each target the names of the rows that hold it, NaN where there is none."""
    targets, rows = np.nonzero(members.T)
    bounds = np.searchsorted(targets, np.arange(members.shape[1] + 1)).tolist()
    told = [names[row] for row in rows.tolist()]
    return [";".join(told[start:end]) or np.nan for start, end in pairwise(bounds)]


def _product(info: NodeInfo, name: str) -> dict[str, np.ndarray]:
    """Return the columns that name every element of an array, in the order of its memory."""
    shape = info.arrays[name][0]
    columns: dict[str, np.ndarray] = {}
    for at, (axis, index) in enumerate(zip(dims_of(info, name), np.indices(shape), strict=True)):
        which = index.reshape(-1)
        rows = named_rows(info, name, at)
        if rows is not None and axis != "model_other" and isinstance(rows[0], Mapping):
            columns |= {key: np.array([row[key] for row in rows], dtype=object)[which] for key in rows[0]}
        else:
            columns[axis] = np.array(row_names(info, name, at), dtype=object)[which]
    return columns


def _lists_of(info: NodeInfo) -> list[str]:
    """Return the attributes that are lists of rows and do not merely say what the axes of arrays are."""
    axes = {axis for name in info.arrays for axis in dims_of(info, name)}
    names_of_axes = {NAMED_BY[axis] for axis in axes & set(NAMED_BY)}
    return [
        name
        for name, rows in info.attributes.items()
        if isinstance(rows, list) and rows and all(isinstance(r, Mapping) for r in rows) and name not in names_of_axes
    ]


def _flat(row: Mapping[str, Any], info: NodeInfo) -> dict[str, Any]:
    """Return a row whose cells are single values: the subjects' values get columns of their own."""
    subjects = info.attributes.get("subjects", ())
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if key == "subjects" and isinstance(value, list) and len(value) == len(subjects):
            flat |= {f"subject_{name}": number for name, number in zip(subjects, value, strict=True)}
        elif isinstance(value, list) and all(isinstance(item, str) for item in value):
            flat[key] = tell_row(value)
        elif isinstance(value, list | Mapping):
            flat[key] = json.dumps(value)
        else:
            flat[key] = np.nan if value is None else value
    return flat
