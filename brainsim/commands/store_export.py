"""Turn nodes of the store into files that other programs open: NumPy, tables, Parquet, Zarr for xarray, images."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainsim.core.checks import check_choice
from brainsim.core.errors import InvalidValueError, MissingDependencyError, StoreError
from brainsim.core.progress import SILENT, Progress, Task
from brainsim.core.resources import disk_free_bytes, format_bytes

if TYPE_CHECKING:
    import numpy as np

    from brainsim.commands.store_images import Places
    from brainsim.store import NodeInfo, Store

FORMATS = ("npy", "tsv", "parquet", "zarr", "images")

# Bytes of the rows that are in memory at once.
BLOCK_BYTES = 32 * 2**20


@dataclass(frozen=True)
class ExportSummary:
    """What `brainsim store export` wrote.

    Parameters
    ----------
    store, out, format : str
        From where, to where, and as what.
    nodes : tuple of dict
        Per node: node, files (below `out`), nbytes (of its numbers).
    nbytes : int
        Bytes of all numbers.
    dry_run : bool
        Whether nothing was written.
    seconds : float
        Wall time.
    """

    store: str
    out: str
    format: str
    nodes: tuple[dict[str, Any], ...]
    nbytes: int
    dry_run: bool
    seconds: float


def store_export(
    prefix: str,
    out: Path,
    *,
    store: Path | str = "store/brainsim.zarr",
    format: str = "npy",
    dry_run: bool = False,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> ExportSummary:
    """Write nodes as files that other programs open; every number is checked on the way, as when it is read.

    Parameters
    ----------
    prefix : str
        Names of a node path, each with the wildcards * and ? ("activations/*/layer4*").
    out : Path
        Folder to be made; what a node holds lies below it under the node's path.
    store : Path
        The store.
    format : {"npy", "tsv", "parquet", "zarr", "images"}
        One .npy per array; tables of results with a row per target, stream, layer … and names instead of numbers, as
        `brainsim.read_tables` returns them; one .parquet per first axis, a column per array; one Zarr 3 dataset per
        node, with named axes and their coordinates, as xarray opens it; or runs, ROIs and scores as the kind of images
        that the runs came as (NIfTI, CIFTI, GIFTI), on the same places. With each go the node's key and attributes.
    dry_run : bool
        Say what would be written, and write nothing.
    overwrite : bool
        Replace nodes that were exported to `out` before.
    progress : Progress
        Told the bytes.

    Returns
    -------
    ExportSummary

    Raises
    ------
    UnknownNameError
        Where no complete node has that path.
    InvalidValueError, StoreError
        Where something is at `out` already, or it does not fit on the disk; images of what lies nowhere in space;
        tables of what is no result.
    AlignmentError
        Images and tables of results whose targets were made anew since.
    MissingDependencyError
        Parquet without pyarrow.
    """
    from brainsim.commands.store_axes import find_nodes
    from brainsim.commands.store_tables import find_targets, with_tables
    from brainsim.store.remote import open_store

    started = time.monotonic()
    check_choice("--format", format, FORMATS)
    if format == "parquet":
        _pyarrow()
    opened = open_store(store)
    found = find_nodes(opened, prefix)
    places: dict[str, Places] = {}
    if format == "images":
        found = _with_images(opened, found, prefix)
        places = _find_places(opened, found)
    elif format == "tsv":
        found = with_tables(found, prefix)
        for info in found:
            find_targets(opened, info)  # before anything is written
    folder = Path(out)
    nbytes = sum(_nbytes(info) for info in found)
    for info in found:
        if (folder / info.path).exists() and not overwrite:
            raise InvalidValueError(f"{folder / info.path} is there already.", hint="another folder, or --overwrite")
    rows = [
        {"node": info.path, "files": _planned(info, format, places.get(info.path)), "nbytes": _nbytes(info)}
        for info in found
    ]
    if not dry_run:
        _check_space(folder, nbytes)
        with progress.task("export", total=nbytes, unit="B") as bar:
            for info in found:
                _export(opened, info, folder, format, places.get(info.path), bar)
    return ExportSummary(
        store=str(store),
        out=str(out),
        format=format,
        nodes=tuple(rows),
        nbytes=nbytes,
        dry_run=dry_run,
        seconds=round(time.monotonic() - started, 3),
    )


def _with_images(store: Store, found: Sequence[NodeInfo], prefix: str) -> list[NodeInfo]:
    """Return the nodes that hold numbers of targets: beside a subject's results may lie those of a group."""
    from brainsim.commands.store_images import has_images

    shown = [info for info in found if has_images(info)]
    if not shown:
        types = ", ".join(dict.fromkeys(info.type for info in found))
        raise InvalidValueError(
            f"images show numbers of voxels or vertices; {prefix!r} holds none of them ({types}).",
            hint="bold/DATASET, rois/DATASET, fits/NAME, partitions/NAME, or --format npy",
        )
    return shown


def _find_places(store: Store, found: Sequence[NodeInfo]) -> dict[str, Places]:
    from brainsim.commands.store_images import find_places

    return {info.path: find_places(store, info) for info in found}


def _export(store: Store, info: NodeInfo, folder: Path, format: str, places: Places | None, bar: Task) -> None:
    """Write a node beside its place and move it there when it is whole."""
    import shutil

    from brainsim.commands.store_images import write_node_images
    from brainsim.commands.store_tables import write_tables

    final = folder / info.path
    partial = final.with_name(f".{final.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        if format == "zarr":
            _write_zarr(store, info, partial, bar)
        else:
            record = {"node": info.path, "type": info.type, "key": info.key, "attributes": info.attributes,
                      "software": info.software}  # fmt: skip
            (partial / "node.json").write_text(json.dumps(record, indent=1) + "\n")
            if places is not None:
                write_node_images(store, info, partial, places, bar)
            elif format == "tsv":
                write_tables(store, info, partial, bar)
            elif format == "npy":
                _write_npy(store, info, partial, bar)
            else:
                _write_parquet(store, info, partial, bar)
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{final} cannot be written ({error.strerror or error}).") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_npy(store: Store, info: NodeInfo, folder: Path, bar: Task) -> None:
    import numpy as np

    from brainsim.store.layout import read_dtype_of

    for name, (shape, dtype) in info.arrays.items():
        with (folder / f"{name}.npy").open("wb") as file:
            header = {
                "descr": np.lib.format.dtype_to_descr(read_dtype_of(dtype)),
                "fortran_order": False,
                "shape": shape,
            }
            np.lib.format.write_array_header_1_0(file, header)
            for block in _blocks(store, info, name, bar):
                file.write(block.tobytes())


def _write_parquet(store: Store, info: NodeInfo, folder: Path, bar: Task) -> None:
    """Write arrays that share their first axis as the columns of one table; rows of more axes are lists, flattened."""
    import math

    from brainsim.store.layout import read_dtype_of

    pa, pq = _pyarrow()
    for axis, names in _by_first_axis(info).items():
        n_rows = info.arrays[names[0]][0][0]
        widths = {name: math.prod(info.arrays[name][0][1:]) for name in names}
        types = {name: pa.from_numpy_dtype(read_dtype_of(info.arrays[name][1])) for name in names}
        fields = [
            pa.field(name, types[name] if len(info.arrays[name][0]) == 1 else pa.list_(types[name], widths[name]))
            for name in names
        ]
        described = {
            "node": info.path,
            "attributes": json.dumps(info.attributes),
            "key": json.dumps(info.key),
            "shapes": json.dumps({name: list(info.arrays[name][0]) for name in names}),
        }
        row_bytes = sum(widths[name] * _itemsize(info, name) for name in names)
        step = max(BLOCK_BYTES // max(row_bytes, 1), 1)
        schema = pa.schema(fields, metadata=described)
        with pq.ParquetWriter(folder / f"{axis}.parquet", schema) as writer:
            for start in range(0, n_rows, step):
                columns = []
                for name, field in zip(names, fields, strict=True):
                    block = store.read(info.path, name, slice(start, start + step))
                    bar.advance(block.nbytes)
                    flat = pa.array(block.reshape(-1))
                    is_list = pa.types.is_fixed_size_list(field.type)
                    columns.append(pa.FixedSizeListArray.from_arrays(flat, widths[name]) if is_list else flat)
                writer.write_table(pa.table(columns, schema=schema))


def _write_zarr(store: Store, info: NodeInfo, folder: Path, bar: Task) -> None:
    """Write one dataset: variables with named axes, and where an axis has times, these as its coordinate."""
    import warnings

    import numpy as np
    import zarr

    from brainsim.store.layout import read_dtype_of

    group = zarr.open_group(folder, mode="w", zarr_format=3)
    lengths: dict[str, int] = {}
    for name, (shape, stored) in info.arrays.items():
        dtype = read_dtype_of(stored)
        dims = _dims(info, name)
        for axis, (dim, length) in enumerate(zip(dims, shape, strict=True)):
            if lengths.setdefault(dim, length) != length:  # two axes of one name that differ in length
                dims = (*dims[:axis], f"{name}_{dim}", *dims[axis + 1 :])
        array = group.create_array(
            name,
            shape=shape,
            dtype=dtype,
            chunks=(_block_rows(info, name), *(max(n, 1) for n in shape[1:])),
            filters=None,
            compressors=None,
            fill_value=np.nan if dtype.kind == "f" else 0,
            dimension_names=dims,
        )
        at = 0
        for block in _blocks(store, info, name, bar):
            array[at : at + len(block)] = block
            at += len(block)
    if "time_s" in info.arrays and "time" in lengths:
        time_s = store.read(info.path, "time_s")
        coordinate = group.create_array(
            "time", shape=time_s.shape, dtype="float64", fill_value=np.nan, dimension_names=("time",)
        )
        coordinate[:] = time_s
        coordinate.attrs["units_of_time"] = "s of the stimulus"
    group.attrs.update({**info.attributes, "node": info.path, "key": info.key, "software": info.software})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that other programs may not know it: they read the arrays' own
        zarr.consolidate_metadata(folder, zarr_format=3)


def _planned(info: NodeInfo, format: str, places: Places | None) -> list[str]:
    if places is not None:
        from brainsim.commands.store_images import plan_images

        return [f"{info.path}/{file}" for file in plan_images(info, places)]
    if format == "zarr":
        return [info.path]
    if format == "tsv":
        from brainsim.commands.store_tables import plan_tables

        return [f"{info.path}/{name}.tsv" for name in plan_tables(info)]
    names = list(info.arrays) if format == "npy" else list(_by_first_axis(info))
    return [f"{info.path}/{name}.{format}" for name in names]


def _by_first_axis(info: NodeInfo) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name, (shape, _) in info.arrays.items():
        axis = _dims(info, name)[0]
        same = [key for key, names in groups.items() if key.split("-")[0] == axis]
        key = next((k for k in same if info.arrays[groups[k][0]][0][0] == shape[0]), None)
        groups.setdefault(key or (axis if not same else f"{axis}-{name}"), []).append(name)
    return groups


def _dims(info: NodeInfo, name: str) -> tuple[str, ...]:
    return info.dims.get(name) or tuple(f"{name}_axis_{axis}" for axis in range(len(info.arrays[name][0])))


def _blocks(store: Store, info: NodeInfo, name: str, bar: Task) -> Iterator[np.ndarray]:
    rows = _block_rows(info, name)
    for start in range(0, info.arrays[name][0][0], rows):
        block = store.read(info.path, name, slice(start, start + rows))
        bar.advance(block.nbytes)
        yield block


def _block_rows(info: NodeInfo, name: str) -> int:
    import math

    shape, _ = info.arrays[name]
    row_bytes = max(math.prod(shape[1:]) * _itemsize(info, name), 1)
    return max(min(BLOCK_BYTES // row_bytes, shape[0]), 1)


def _itemsize(info: NodeInfo, name: str) -> int:
    from brainsim.store.layout import read_dtype_of

    return read_dtype_of(info.arrays[name][1]).itemsize


def _nbytes(info: NodeInfo) -> int:
    import math

    return sum(math.prod(shape) * _itemsize(info, name) for name, (shape, _) in info.arrays.items())


def _check_space(folder: Path, nbytes: int) -> None:
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = disk_free_bytes(there)
    if nbytes > free:
        raise StoreError(f"the export needs {format_bytes(nbytes)}; {format_bytes(free)} are free at {there}.")


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingDependencyError(
            "Parquet is written by pyarrow, which is not installed.", hint="pip install 'brainsim-toolkit[parquet]'"
        ) from None
    return pyarrow, pyarrow.parquet
