"""Extraction killed at random instants with SIGKILL and run again: `python -m benchmarks.faults.killed --rounds 50`.

`--protocol default` kills extractions whose batches are computed side by side.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

# Imported here, so that the children, which are forked, need not: most of their time is then extraction.
from brainsim.commands import extract_run
from brainsim.commands.extract import extract
from brainsim.core.seeds import named_rng
from brainsim.models import load_model
from brainsim.stimuli import render_moving_photographs, write_video
from brainsim.store import Store, layout
from brainsim.store.files import METADATA

# The study's protocol draws random masks clip by clip: the one state that a run carries from clip to clip. By default
# there are none, and batches are computed side by side.
PROTOCOLS = ("study", "default")
N_THREADS = 2
OPTIONS: dict[str, Any] = {
    "models": ["pixels", "frame-difference", "mae-base-tiny"],
    "step_s": 0.1,
    "batch_size": 4,
}
# Small enough that a short movie has many chunks; they are of another length than batches.
CHUNK_ROWS = 14
MAX_KILLS = 3


def main(arguments: list[str]) -> None:
    """Kill, look, run again, compare; say how it went, and end with 1 where anything was not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults.killed", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--protocol", choices=PROTOCOLS, default=PROTOCOLS[0])
    options = parser.parse_args(arguments)
    torch.set_num_threads(N_THREADS)
    layout.CHUNK_ROWS, layout.MIN_CHUNK_BYTES = CHUNK_ROWS, 1
    with tempfile.TemporaryDirectory(prefix="brainsim-faults-") as folder:
        movies = [Path(folder) / f"run-{run}.mp4" for run in (1, 2)]
        for run, movie in enumerate(movies):
            frames = render_moving_photographs(0, run, duration_s=5, fps_hz=12, width=64, height=48)
            write_video(movie, frames, 12)
        extraction = partial(extract, movies, protocol=options.protocol, **OPTIONS)
        whole = Path(folder) / "undisturbed.zarr"
        _in_child(partial(extraction, store=whole))  # reads what later ones find in the disk's cache
        expected = _contents(whole)
        length_s = min(_time(partial(extraction, store=Path(folder) / f"timed-{repeat}.zarr")) for repeat in range(2))
        n_kills, n_kept = 0, 0
        for round_ in range(options.rounds):
            store = Path(folder) / f"{round_}.zarr"
            rng = named_rng(options.seed, "kill", round_)
            for _ in range(int(rng.integers(1, MAX_KILLS + 1))):
                kill_after_s = float(rng.uniform(0.0, length_s))
                n_kills += _in_child(partial(extraction, store=store), kill_after_s=kill_after_s)
                if (store / METADATA).exists():  # not killed before there was one
                    n_kept += _check_killed(store, expected)
            _in_child(partial(extraction, store=store))
            if _contents(store) != expected:
                raise SystemExit(f"round {round_}: other bits than undisturbed")
            if found := Store(store).verify():
                raise SystemExit(f"round {round_}: {found}")
    sys.stdout.write(
        f"{options.rounds} rounds, {n_kills} kills, {n_kept} rows found in unfinished nodes: the same bits each time\n"
    )


def _time(work: Callable[[], object]) -> float:
    begin_s = time.perf_counter()
    _in_child(work)
    return time.perf_counter() - begin_s


def _in_child(work: Callable[[], object], *, kill_after_s: float | None = None) -> bool:
    """Run in a forked child; return whether it was killed before it ended."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    if kill_after_s is not None:
        deadline_s = time.perf_counter() + kill_after_s
        while time.perf_counter() < deadline_s:
            time.sleep(0.001)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit("an extraction failed")
    return False


def _contents(path: Path) -> dict[str, bytes]:
    """Return the bytes of every array of every complete node."""
    store = Store(path)
    return {f"{info.path}:{a}": store.read(info.path, a).tobytes() for info in store.nodes() for a in info.arrays}


def _check_killed(path: Path, expected: dict[str, bytes]) -> int:
    """Look at a store whose writer was killed; return how many rows of unfinished nodes can be gone on from."""
    store = Store(path)
    for name, found in _contents(path).items():
        if found != expected[name]:
            raise SystemExit(f"{name} is complete, and not what it should be")
    if store.verify():
        raise SystemExit(f"damage after a kill: {store.verify()}")
    kept = 0
    for info in store.nodes("activations", complete=False):
        (n_clips, n_features), _ = info.arrays.get("values", ((0, 0), ""))
        kept += min(info.nbytes // max(n_features * np.dtype("float32").itemsize, 1), n_clips)
    return kept


if __name__ == "__main__":
    load_model, extract_run  # noqa: B018  # imported for what importing them costs
    main(sys.argv[1:])
