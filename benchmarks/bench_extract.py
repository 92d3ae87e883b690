"""Extraction of all blocks of two full-size models from an H.264 file, against the bare forward pass, and layerwise."""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.stopwatch import seconds_of
from brainsim.commands import extract_jobs, extract_run
from brainsim.commands.extract_options import ExtractOptions
from brainsim.compute.threads import torch_threads
from brainsim.core.progress import SILENT
from brainsim.models import LoadedModel
from brainsim.models.taps import capture
from brainsim.stimuli import (
    ClipRequest,
    Stimulus,
    iter_clip_batches,
    iter_frames,
    open_stimulus,
    render_moving_photographs,
    write_video,
)
from brainsim.store import Store
from brainsim.store.layout import MAX_CHUNK_BYTES

# Model, seconds from one clip to the next (the study's 5 Hz for images), length of the movie in s, clips per batch.
CASES = (("mae-base", 0.2, 6.4, 8), ("videomae-base", 0.8, 6.4, 2))
# A GPU is done with so little before it has begun.
ON_GPU = (("mae-base", 0.2, 25.6, 16), ("videomae-base", 0.8, 25.6, 4))
QUICK = (("mae-base-tiny", 0.5, 2.0, 2), ("videomae-base-tiny", 1.0, 2.0, 1))
SIZE = (1280, 720)
N_REPEATS = 3


def run(*, quick: bool, device: str) -> dict[str, Any]:
    """Measure both, in turn, so that what else the machine does meets both alike."""
    found: dict[str, Any] = {}
    cases = QUICK if quick else CASES if device == "cpu" else ON_GPU
    for model, step_s, duration_s, batch_size in cases:
        with tempfile.TemporaryDirectory(prefix="brainsim-bench-") as folder:
            width, height = (64, 48) if quick else SIZE
            movie = Path(folder) / "movie.mp4"
            frames = render_moving_photographs(0, 0, duration_s=duration_s, fps_hz=25, width=width, height=height)
            write_video(movie, frames, 25)
            case = _Case(Path(folder), movie, model, step_s=step_s, batch_size=batch_size, device=device)
            found |= {f"{model}: {key}": value for key, value in case.measure(1 if quick else N_REPEATS).items()}
    return found


class _Case:
    """One model on one movie."""

    def __init__(self, folder: Path, movie: Path, model: str, *, step_s: float, batch_size: int, device: str) -> None:
        self.folder = folder
        self.options = ExtractOptions(
            layers=("*",), pool="none", dtype="float32", step_s=step_s, clip_window="trailing", resize="crop",
            protocol="default", tap=None, checkpoint=None, random_weights=True, seed=0, device=device,
            batch_size=batch_size, overwrite=True,
        )  # fmt: skip
        self.rows = extract_jobs.find_models([model], self.options)
        self.stimulus: Stimulus = open_stimulus(movie)
        self.jobs = extract_jobs.plan_jobs(self.rows, [self.stimulus], self.options, None)
        self.models = extract_run.load_models(self.jobs, self.options, SILENT)
        self.model: LoadedModel = self.models[model]
        self.plan = self.jobs[0].plan
        self.batches = [self.model.prepare(batch.frames) for batch in self._decode()]
        self.n_extractions = 0

    def measure(self, n_repeats: int) -> dict[str, Any]:
        """Return seconds, each the median of its repeats, and the ratios."""
        self.run_bare(1)  # warms up
        ways: dict[str, Callable[[], None]] = {
            "bare": self.run_bare,
            "beside": self.run_beside,
            "extract": self.run_extract,
            "plain": lambda: self.run_plain(layers),
            "decode": self.run_decode,
            "write": self.run_write,
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        cpu_s: dict[str, list[float]] = {name: [] for name in ways}
        n_layers = len(self.model.taps)
        for repeat in range(n_repeats):
            # One layer of the plain way each time: its passes cost the same whatever the layer.
            layers = [self.model.taps[repeat * n_layers // n_repeats].name]
            for name, way in ways.items():
                begin_s = time.process_time()
                seconds[name].append(seconds_of(way))
                cpu_s[name].append(time.process_time() - begin_s)
        middle = {name: statistics.median(values) for name, values in seconds.items()}
        # What else the machine does comes and goes: each is compared with what was measured just before or after it.
        pairs = {
            "the bare forward pass": ("bare", 1),
            "the bare forward pass, batches side by side": ("beside", 1),
            "one pass per layer": ("plain", n_layers),
        }
        ratios: dict[str, Any] = {}
        for what, (other, n_times) in pairs.items():
            for kind, spent in (("", seconds), (", CPU time", cpu_s)):
                rounds = [n_times * o / e for o, e in zip(spent[other], spent["extract"], strict=True)]
                ratios[f"times as fast as {what}{kind}"] = statistics.median(rounds)
        # Where no core is idle in a forward pass, what is done beside it takes its time from it.
        must = [sum(spent) / spent[0] for spent in zip(*(cpu_s[n] for n in ("beside", "decode", "write")), strict=True)]
        ratios["limit: batches side by side with bare decoding and writing in CPU time"] = 1 / statistics.median(must)
        return {
            "clips": self.plan.n_clips,
            "layers": n_layers,
            "bare forward pass, s": middle["bare"],
            "bare forward pass, batches side by side, s": middle["beside"],
            "extract, s": middle["extract"],
            "one pass of the plain way, s": middle["plain"],
            "decoding alone, s": middle["decode"],
            "writing alone, s": middle["write"],
            **ratios,
        }

    def run_bare(self, n_batches: int | None = None) -> None:
        """Run the network over tensors that are ready, and keep nothing."""
        for batch in self.batches[:n_batches]:
            self._forward(batch)
        self._wait()

    def run_beside(self) -> None:
        """Do the same as extraction does it on a CPU: batches side by side, each by its share of the threads."""
        n_at_once = extract_run.count_at_once(self.jobs, self.models, batch_size=self.options.batch_size)
        with torch_threads(torch.get_num_threads() // n_at_once), ThreadPoolExecutor(n_at_once) as threads:
            for _ in threads.map(self._forward, self.batches):
                pass
        self._wait()

    def run_decode(self) -> None:
        """Decode, resize and batch, and do nothing with it: no extraction can be faster."""
        for _ in self._decode():
            pass

    def run_write(self) -> None:
        """Write as many bytes as an extraction does, layer by layer in whole files, and nothing else."""
        n_bytes = 4 * self.plan.n_clips * sum(math.prod(tap.shape) for tap in self.model.taps)
        block = np.ones(min(n_bytes, MAX_CHUNK_BYTES), np.uint8)
        files = [self.folder / f"{start}.bin" for start in range(0, n_bytes, len(block))]
        for file in files:
            file.write_bytes(block.data)
        for file in files:
            file.unlink()

    def run_extract(self) -> None:
        """Extract as the command does, into a new store."""
        store = Store(self.folder / f"{self.n_extractions}.zarr", "a")
        self.n_extractions += 1
        jobs = extract_jobs.plan_jobs(self.rows, [self.stimulus], self.options, store)
        extract_run.run_jobs(jobs, self.models, self.options, store, SILENT)
        for info in store.nodes("activations"):
            store.delete(info.path)

    def run_plain(self, layers: list[str]) -> None:
        """Write each layer with a pass of its own over the movie, as feature extractors are commonly used."""
        size = self.model.input.size
        for layer in layers:
            wanted = np.zeros(self.stimulus.n_frames, bool)
            wanted[self.plan.frame_index] = True
            frames = np.zeros((self.stimulus.n_frames, *size, 3), np.uint8)
            for index, found in iter_frames(self.stimulus, {size: wanted}):
                frames[index] = found[size]
            kept = []
            for first in range(0, self.plan.n_clips, self.options.batch_size):
                clips = frames[self.plan.frame_index[first : first + self.options.batch_size]]
                with torch.inference_mode(), capture(self.model.network.module, [layer]) as outputs:
                    self.model.network.forward(self.model.prepare(clips))
                kept.append(outputs[layer].flatten(1).cpu().numpy())
            np.save(self.folder / f"{layer}.npy", np.concatenate(kept))

    def _decode(self) -> Any:
        request = ClipRequest(self.plan, self.model.input.size, self.options.batch_size)
        return iter_clip_batches(self.stimulus, {"model": request})

    def _forward(self, batch: torch.Tensor) -> None:
        with torch.inference_mode():
            self.model.network.forward(batch)

    def _wait(self) -> None:
        if self.model.device.type == "cuda":
            torch.cuda.synchronize()
