"""Turn features that other programs made into activations of the store: checked, with their times and their source."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainsim.commands.store_import_times import check_stimulus, read_times, tell_order, was_reordered
from brainsim.core.checks import check_choice, check_node_name
from brainsim.core.errors import (
    AlignmentError,
    InputFileError,
    InvalidValueError,
    NumericalError,
    StoreError,
    UnknownNameError,
)
from brainsim.core.progress import SILENT, Progress, Task
from brainsim.core.provenance import digest, digest_file
from brainsim.core.registry import suggest
from brainsim.core.resources import disk_free_bytes, format_bytes

if TYPE_CHECKING:
    import numpy as np

    from brainsim.features.foreign import ForeignArray
    from brainsim.store import Store

# Counts up when the same files and options come to give other numbers.
IMPORT_FORMAT = 1
DTYPES = ("float32", "float16", "bfloat16")

# A folder with a file per stimulus may have thousands; a node's record should stay small.
MAX_FILES_NAMED = 16


@dataclass(frozen=True)
class ImportSummary:
    """What `brainsim store import` did.

    Parameters
    ----------
    store, model, feature_set, stimulus : str
        Where the nodes lie: ``activations/{feature_set}/{layer}/{stimulus}``.
    layers : tuple of dict
        Per layer: layer, node, n_rows, shape, n_features, files (their number), and state: "there", "written", or
        "missing" in a dry run.
    first_s, last_s : float
        Where the first row's window begins and the last one's ends, in seconds of the stimulus.
    n_nodes_written, n_nodes_reused, nbytes : int
        Nodes made now (in a dry run: to be made), found complete, and bytes of those made.
    warnings : tuple of str
        What must be known.
    dry_run : bool
        Whether nothing was written.
    seconds : float
        Wall time.
    """

    store: str
    model: str
    feature_set: str
    stimulus: str
    layers: tuple[dict[str, Any], ...]
    first_s: float
    last_s: float
    n_nodes_written: int
    n_nodes_reused: int
    nbytes: int
    warnings: tuple[str, ...]
    dry_run: bool
    seconds: float


def store_import(
    sources: Sequence[Path],
    *,
    model: str,
    stimulus: str,
    store: Path | str = "store/brainsim.zarr",
    family: str = "imported",
    layers: Sequence[str] = ("*",),
    names: Sequence[str] = (),
    layout: str = "auto",
    step_s: float | None = None,
    start_s: float = 0.0,
    times: Path | None = None,
    per_stimulus: bool = False,
    dtype: str = "float32",
    dry_run: bool = False,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> ImportSummary:
    """Take features that another program made into the store, as `extract` would have.

    Rows are the first axis of every array, and their times must be said: one of --step-s, --times and --per-stimulus.
    What is in the files is read as numbers and never run.

    Parameters
    ----------
    sources : sequence of Path
        Arrays (.npy, .npz, .h5, tensors in .pt), or one folder of thingsvision or Net2Brain.
    model : str
        What the model is to be called.
    stimulus : str
        What was shown, as named by extract and ingest.
    store : Path
        Where to; it is made where there is none.
    family : str
        The model's family.
    layers : sequence of str
        Globs over the arrays of the files, each a layer; all by default.
    names : sequence of str
        Names of the layers, in the order of the arrays; by default those of the arrays.
    layout : {"auto", "files", "net2brain", "net2brain-layers", "thingsvision"}
        How a folder is laid out: net2brain has a .npz per stimulus, net2brain-layers one per layer.
    step_s : float
        Time from row to row: the TR, where rows are TRs. By default not given.
    start_s : float
        Where the first row's window begins, with --step-s.
    times : Path
        Table (.npy, .csv, .tsv, .txt) of one time per row, at which its window ends, or of begin and end; by default
        not given.
    per_stimulus : bool
        Each row is one image of a set: row k lasts from second k to k + 1, as `extract` has folders of images.
    dtype : {"float32", "float16", "bfloat16"}
        How numbers are kept: rounded to the nearest, and refused where they are beyond the range.
    dry_run : bool
        Say what would be done, and do nothing.
    overwrite : bool
        Replace layers of this name that were made of other files, each when the new one is complete.
    progress : Progress
        Told the bytes.

    Returns
    -------
    ImportSummary

    Raises
    ------
    InputFileError, UnknownNameError
        Files that are not there, not whole, hold more than numbers or contradict their names; globs that match nothing.
    InvalidValueError, AlignmentError
        Options that contradict each other; rows and times that differ in number.
    NumericalError
        Values that are not finite, or that the dtype cannot hold: nothing of that layer is kept.
    """
    from brainsim.features.foreign_folders import open_sources
    from brainsim.store import Store
    from brainsim.store.layout import disk_dtype_of

    started = time.monotonic()
    for value, what in ((model, "--model"), (stimulus, "--stimulus"), (family, "--family")):
        check_node_name(value, what=what)
    check_choice("--dtype", dtype, DTYPES)
    if not sources:
        raise InvalidValueError("no files are given; at least one is needed.")
    arrays = _choose(open_sources([Path(s) for s in sources], layout=layout), layers, names)
    n_rows = _check_shapes(arrays)
    window_s, clock = read_times(n_rows, step_s, start_s, times, per_stimulus=per_stimulus)
    where = Path(store)
    there = None if dry_run and not where.exists() else Store(where, "r" if dry_run else "a")
    made = {"format": IMPORT_FORMAT, "model": model, "family": family, "imported": True, "dtype": dtype}
    feature_set = f"{model}@{digest(made)[:8]}"
    shown, warnings = check_stimulus(there, stimulus, window_s)
    if per_stimulus:
        warnings = [*warnings, *tell_order(arrays.values())]
    digests = {file: digest_file(file) for file in dict.fromkeys(f for array in arrays.values() for f in array.files)}
    rows, todo = [], []
    for index, (name, array) in enumerate(arrays.items()):
        node = f"activations/{feature_set}/{name}/{stimulus}"
        files = _describe_files({file.name: digests[file] for file in array.files})
        key = {**made, "layer": name, "stimulus": shown, "files": files, "array": array.name, "clock": clock}
        if was_reordered(array.row_names):
            key["order"] = "plain"  # such rows were in natural order once
        is_there = there is not None and not overwrite and there.has(node, key=key)
        attributes = {
            "model": model,
            "layer": name,
            "layer_index": index,
            "stimulus": stimulus,
            "family": family,
            "shape": list(array.shape[1:]),
            "pool": "none",
            "protocol": "imported",
            "clip_window": "trailing",
            "step_s": clock.get("step_s"),
            "sketch": None,
            "source": [str(file.absolute()) for file in array.files[:1]]
            if len(array.files) > 1
            else str(array.files[0].absolute()),
            **({"row_names": list(array.row_names)} if array.row_names is not None else {}),
        }
        n_features = _n_features(array)
        rows.append(
            {
                "layer": name,
                "node": node,
                "n_rows": n_rows,
                "shape": list(array.shape[1:]),
                "n_features": n_features,
                "files": len(array.files),
                "state": "there" if is_there else "missing" if dry_run else "written",
            }
        )
        if not is_there:
            todo.append((node, key, attributes, array))
    nbytes = sum(disk_dtype_of(dtype).itemsize * n_rows * _n_features(array) for *_, array in todo)
    if todo and not dry_run:
        assert there is not None
        _check_space(there, nbytes)
        with progress.task("import", total=nbytes, unit="B") as bar:
            for node, key, attributes, array in todo:
                _write(there, node, key, attributes, array, window_s, dtype, overwrite=overwrite, bar=bar)
    for warning in warnings:
        progress.warn(warning)
    return ImportSummary(
        store=str(store),
        model=model,
        feature_set=feature_set,
        stimulus=stimulus,
        layers=tuple(rows),
        first_s=float(window_s[0, 0]),
        last_s=float(window_s[-1, 1]),
        n_nodes_written=len(todo),
        n_nodes_reused=len(rows) - len(todo),
        nbytes=nbytes,
        warnings=tuple(warnings),
        dry_run=dry_run,
        seconds=round(time.monotonic() - started, 3),
    )


def _describe_files(digests: dict[str, str]) -> dict[str, Any]:
    """Return what the key says of files: each by its digest, or of many their number and the digest of all."""
    if len(digests) <= MAX_FILES_NAMED:
        return dict(digests)
    return {"n_files": len(digests), "digest": digest(digests)}


def _choose(found: Sequence[ForeignArray], globs: Sequence[str], names: Sequence[str]) -> dict[str, ForeignArray]:
    """Return the arrays that are wanted, under the names of their layers; others may hold anything."""
    from brainsim.features.foreign import check_numbers

    known = [array.name for array in found]
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in known):
            raise UnknownNameError(f"no array of the files matches {glob!r}; {suggest(glob, known)}")
    chosen = [array for array in found if any(fnmatchcase(array.name, glob) for glob in globs)]
    for array in chosen:
        check_numbers(array)
    if names and len(names) != len(chosen):
        raise InvalidValueError(
            f"--names has {len(names)} names for {len(chosen)} arrays ({', '.join(a.name for a in chosen[:6])}); one "
            "each is wanted."
        )
    called = list(names) or [array.name for array in chosen]
    if len(set(called)) != len(called):
        raise InvalidValueError(f"--names repeats itself: {', '.join(called)}; each layer needs a name of its own.")
    for name in called:
        check_node_name(name, what="the name of a layer")
    return dict(zip(called, chosen, strict=True))


def _check_shapes(arrays: dict[str, ForeignArray]) -> int:
    """Return the number of rows, which all layers share."""
    for array in arrays.values():
        if len(array.shape) < 2 or 0 in array.shape:
            raise InputFileError(
                f"array {array.name!r} of {array.files[0]} has shape {array.shape}; it must be (rows, features, …).",
                hint="--layers leaves arrays out that are no features",
            )
    counts = {name: array.shape[0] for name, array in arrays.items()}
    if len(set(counts.values())) != 1:
        shown = ", ".join(f"{name} {n}" for name, n in list(counts.items())[:6])
        raise AlignmentError(
            f"the layers have different numbers of rows ({shown}); they must be rows of the same stimulus.",
            hint="--layers chooses some of them",
        )
    return next(iter(counts.values()))


def _n_features(array: ForeignArray) -> int:
    from math import prod

    return prod(array.shape[1:])


def _check_space(store: Store, nbytes: int) -> None:
    free = disk_free_bytes(store.path)
    if nbytes > free:
        raise StoreError(
            f"the features need {format_bytes(nbytes)}; {format_bytes(free)} are free at {store.path}.",
            hint="--dtype float16, fewer --layers, or a larger disk",
        )


def _write(
    store: Store,
    node: str,
    key: dict[str, Any],
    attributes: dict[str, Any],
    array: ForeignArray,
    window_s: np.ndarray,
    dtype: str,
    *,
    overwrite: bool,
    bar: Task,
) -> None:
    from brainsim.store import ArraySpec
    from brainsim.store.layout import disk_dtype_of

    n_rows = len(window_s)
    specs = {
        "values": ArraySpec((n_rows, _n_features(array)), dtype),
        "time_s": ArraySpec((n_rows,), "float64"),
        "window_s": ArraySpec((n_rows, 2), "float64"),
    }
    writer = store.writer(
        node, type="activations", key=key, arrays=specs, attributes=attributes, overwrite=overwrite, keep_old=True
    )
    begun = False
    try:
        with writer:
            begun = True
            for block in array.blocks():
                values = _checked(block, array, writer.n_rows("values"), dtype)
                writer.append("values", values)
                bar.advance(values.size * disk_dtype_of(dtype).itemsize)
            writer.append("time_s", window_s[:, 1])
            writer.append("window_s", window_s)
            writer.complete()
    except BaseException:
        if begun:
            with contextlib.suppress(Exception):  # the first error is the one that is told
                if not store.has(node):  # one that was to be replaced is still there
                    store.delete(node)
        raise


def _checked(block: np.ndarray, array: ForeignArray, first: int, dtype: str) -> np.ndarray:
    """Return rows flattened in C order, finite in the dtype of the store; what becomes bfloat16 is rounded there."""
    import numpy as np

    from brainsim.store.bfloat16 import BFLOAT16, LARGEST

    flat = block.reshape(len(block), -1)
    finite = np.isfinite(flat)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise NumericalError(
            f"row {first + row}, feature {column} of {array.name!r} in {array.files[0]} is {flat[row, column]}; values "
            "must be finite. Nothing of it is kept.",
        )
    with np.errstate(over="ignore"):
        values: np.ndarray = flat if dtype == BFLOAT16 else flat.astype(dtype)
    end = LARGEST if dtype == BFLOAT16 else float(np.finfo(dtype).max)
    if not np.isfinite(values).all() or (dtype == BFLOAT16 and np.abs(values.astype(np.float64)).max() > end):
        raise NumericalError(
            f"{array.name!r} of {array.files[0]} reaches {float(np.abs(flat).max()):g}; {dtype} ends at {end:g}. "
            "Nothing of it is kept.",
            hint={"float16": "--dtype bfloat16 or float32", BFLOAT16: "--dtype float32"}.get(dtype),
        )
    return values
