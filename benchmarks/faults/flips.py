"""Bytes of chunk files changed at random: `python -m benchmarks.faults.flips --rounds 1000`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from brainsim.core.errors import StoreDamageError
from brainsim.core.seeds import named_rng
from brainsim.store import Store

# Chunks of many sizes, of every width of number, with a last one that is not full.
ARRAYS = {"float32": (95, 300), "float16": (60, 7, 11), "uint8": (500,), "float64": (64, 3), "int16": (40, 5)}
CHUNK_ROWS = 16


def main(arguments: list[str]) -> None:
    """Change one byte, look with every way of reading, put it back; end with 1 where any number was read."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults.flips", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    rng = named_rng(options.seed, "flips")
    with tempfile.TemporaryDirectory(prefix="brainsim-faults-") as folder:
        store = make_store(Path(folder) / "store.zarr")
        chunks = sorted(p for p in store.path.rglob("c/**/*") if p.is_file())
        seen: Counter[Path] = Counter()
        for round_ in range(options.rounds):
            path = chunks[rng.integers(len(chunks))]
            if problem := flip_and_look(store, path, rng):
                raise SystemExit(f"round {round_}: {problem}")
            seen[path] += 1
        if store.verify():
            raise SystemExit("damage is left")
    sys.stdout.write(
        f"{options.rounds} bytes changed in {len(seen)} chunk files: verify named each, and none was read as a number\n"
    )


def make_store(path: Path) -> Store:
    """Return a store with a node for each width of number."""
    store = Store(path, "a")
    for dtype, shape in ARRAYS.items():
        values = (named_rng(0, "flips", dtype).standard_normal(shape) * 50).astype(dtype)
        store.write(f"toys/{dtype}", type="toy", key={"d": dtype}, arrays={"X": values}, chunk_rows=CHUNK_ROWS)
    return store


def flip_and_look(store: Store, path: Path, rng: np.random.Generator) -> str | None:
    """Change one byte of a chunk file; return what went unnoticed, None where nothing did. The byte is put back."""
    node, _, file = path.relative_to(store.path).as_posix().partition("/X/")
    index = int(file.split("/")[1])
    shape, _ = store.info(node).arrays["X"]
    rows = slice(index * CHUNK_ROWS, (index + 1) * CHUNK_ROWS)
    ways: dict[str, Callable[[], object]] = {
        "all": lambda: store.read(node, "X"),
        "its rows": lambda: store.read(node, "X", rows),
        "its last row": lambda: store.read(node, "X", [min(rows.stop, shape[0]) - 1]),
        "plain zarr": lambda: store.open_array(node, "X")[rows],
    }
    if len(shape) > 1:
        store.read(node, "X", columns=slice(0, 1))  # found right just before: what was checked is checked again
        ways["columns"] = lambda: store.read(node, "X", columns=slice(0, 2))
    good = path.read_bytes()
    at, other = int(rng.integers(len(good))), int(rng.integers(1, 256))
    path.write_bytes(good[:at] + bytes([good[at] ^ other]) + good[at + 1 :])
    try:
        for name, read in ways.items():
            try:
                read()
            except StoreDamageError:
                continue
            return f"byte {at} of {path} was changed by {other:#x}; {name} gave numbers"
        found = [(damage.node, damage.chunk) for damage in store.verify(prefix=node)]
        return None if found == [(node, f"X/{file}")] else f"byte {at} of {path} was changed; verify found {found}"
    finally:
        path.write_bytes(good)


if __name__ == "__main__":
    main(sys.argv[1:])
