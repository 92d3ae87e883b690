"""Reading a store by time and by feature block against a memory-mapped .npy, and against chunks that are narrow."""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec

from brainsim.store import ArraySpec, Store

NODE = "activations/bench@00000001/wide/movie"
N_REPEATS = 5
# What a kernel takes of 3,600 TRs at a time, and what a look at one run takes.
BLOCK_FEATURES, N_ROWS_READ = 8192, 450
NARROW_FEATURES = 4096


def run(*, quick: bool, device: str) -> dict[str, Any]:
    """Measure reads of 720 MB from the page cache, in turn; bytes are copied into new arrays each time.

    "First" is a store that was just opened: it checks every chunk it meets. Narrow chunks are (300 rows, 4,096
    features) with the same checksums, read by zarr.
    """
    n_rows, n_features = (600, 500) if quick else (3_600, 50_000)
    block, n_read = (100, 60) if quick else (BLOCK_FEATURES, N_ROWS_READ)
    with tempfile.TemporaryDirectory(prefix="brainsim-bench-") as folder:
        path, npy = Path(folder) / "store.zarr", Path(folder) / "values.npy"
        _write(path, npy, Path(folder) / "narrow", n_rows, n_features)
        narrow = zarr.open_array(Path(folder) / "narrow", mode="r")
        rng = np.random.default_rng(0)
        opened = Store(path)
        figures: dict[str, list[float]] = {}
        for repeat in range(1 if quick else N_REPEATS):
            at = int(rng.integers(0, n_rows - n_read))
            rows, columns = slice(at, at + n_read), slice(block * (repeat % 3), block * (repeat % 3 + 1))
            fresh, fresh_too = Store(path), Store(path)
            memory = np.load(npy, mmap_mode="r")
            ways: dict[str, Callable[[], Any]] = {
                "time range: store": lambda r=rows: opened.read(NODE, "values", r),
                "time range: npy": lambda r=rows, m=memory: np.array(m[r]),
                "time range: narrow chunks": lambda r=rows: narrow[r],
                "feature block: store, first": lambda c=columns, s=fresh: s.read(NODE, "values", columns=c),
                "feature block: store": lambda c=columns, s=fresh: s.read(NODE, "values", columns=c),
                "feature block: npy": lambda c=columns, m=memory: np.array(m[:, c]),
                "feature block: narrow chunks": lambda c=columns: narrow[:, c],
                "all, block by block: store": lambda s=fresh_too: _pass(
                    lambda c: s.read(NODE, "values", columns=c), n_features, block
                ),
                "all, block by block: npy": lambda m=memory: _pass(lambda c: np.array(m[:, c]), n_features, block),
            }
            for name, way in ways.items():
                begin_s = time.perf_counter()
                way()
                figures.setdefault(name, []).append(time.perf_counter() - begin_s)
        dtypes = _compare_dtypes(Path(folder) / "dtypes.zarr", np.load(npy, mmap_mode="r"), n_repeats=1 if quick else 3)
        n_files = {"store": _count(path), "narrow chunks": _count(Path(folder) / "narrow")}
    found: dict[str, Any] = {f"{name}, s": statistics.median(values) for name, values in figures.items()}
    for reading in ("time range", "feature block", "all, block by block"):
        pairs = zip(figures[f"{reading}: store"], figures[f"{reading}: npy"], strict=True)
        found[f"{reading}: store / npy"] = statistics.median(ours / theirs for ours, theirs in pairs)
    return {**found, **dtypes, **{f"chunk files: {name}": n for name, n in n_files.items()}}


def _compare_dtypes(path: Path, values: np.ndarray, *, n_repeats: int) -> dict[str, float]:
    """Write and read a fifth of the numbers in each type that activations are stored in; CPU time, medians."""
    values = np.array(values[:, : values.shape[1] // 5])
    store = Store(path, "a")
    figures: dict[str, list[float]] = {}
    for repeat in range(n_repeats):
        for dtype in ("float32", "float16", "bfloat16"):
            node = f"toy/{dtype}/{repeat}"
            begin_s = time.process_time()
            with store.writer(node, type="toy", key={}, arrays={"values": ArraySpec(values.shape, dtype)}) as writer:
                writer.append("values", values)
                writer.complete()
            middle_s = time.process_time()
            store.read(node, "values").astype(np.float32, copy=False)
            figures.setdefault(f"{dtype}: write, CPU s", []).append(middle_s - begin_s)
            figures.setdefault(f"{dtype}: read as float32, CPU s", []).append(time.process_time() - middle_s)
            figures.setdefault(f"{dtype}: bytes", []).append(float(store.info(node).nbytes))
    return {name: statistics.median(found) for name, found in figures.items()}


def _pass(read: Callable[[slice], Any], n_features: int, block: int) -> None:
    for start in range(0, n_features, block):
        read(slice(start, min(start + block, n_features)))


def _count(path: Path) -> int:
    return sum(file.is_file() for file in path.rglob("c/**/*"))


def _write(path: Path, npy: Path, narrow: Path, n_rows: int, n_features: int) -> None:
    """Write the same numbers three times, and leave all of them in the page cache."""
    values = np.random.default_rng(0).standard_normal((n_rows, n_features), dtype=np.float32)
    np.save(npy, values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = zarr.create_array(
            narrow,
            shape=values.shape,
            dtype="float32",
            chunks=(min(300, n_rows), min(NARROW_FEATURES, n_features)),
            filters=None,
            serializer=BytesCodec(),
            compressors=(Crc32cCodec(),),
            fill_value=np.nan,
            zarr_format=3,
        )
        array[:] = values
    end_s = np.arange(1.0, n_rows + 1)
    specs = {
        "values": ArraySpec(values.shape),
        "time_s": ArraySpec((n_rows,), "float64"),
        "window_s": ArraySpec((n_rows, 2), "float64"),
    }
    with Store(path, "a").writer(NODE, type="activations", key={"bench": 1}, arrays=specs) as writer:
        writer.append("values", values)
        writer.append("time_s", end_s)
        writer.append("window_s", np.stack([end_s - 1, end_s], axis=1))
        writer.complete()
    for file in (npy, *path.rglob("*"), *narrow.rglob("*")):
        if file.is_file():
            file.read_bytes()
