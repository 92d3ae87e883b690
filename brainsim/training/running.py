"""Turn a goal and clips into a trained network: epochs, curves, and a state from which an interrupted run goes on."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import nn

from brainsim.core.errors import InvalidValueError, NumericalError
from brainsim.core.progress import SILENT, Progress
from brainsim.core.seeds import named_rng, named_seed
from brainsim.training.goals import Goal, Scores
from brainsim.training.recipes import Recipe
from brainsim.training.saving import load_state, save_state
from brainsim.training.windows import (
    Batch,
    Source,
    WindowSpec,
    iter_batches,
    iter_windows,
    read_ahead,
    spread_starts,
    stack,
)

# Points of the learning curve in every epoch.
N_POINTS = 20
# Held-out windows per clip: what is common for scoring actions of clips.
N_HELD_OUT = 10
HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}
PRECISIONS = ("fp32", "fp16", "bf16")


@dataclass(frozen=True)
class RunOptions:
    """What can be chosen of a run beside its recipe.

    Parameters
    ----------
    step : int
        Frames from one window of a clip to the next.
    seed : int
        Of orders, crops, flips and dropout.
    precision : {"fp32", "fp16", "bf16"}
        Of the forward and backward pass; weights, losses and steps stay in float32.
    n_workers : int
        Decoding threads.
    save_every_s : float
        Seconds between states saved within an epoch.
    """

    step: int = 1
    seed: int = 0
    precision: str = "fp32"
    n_workers: int = 2
    save_every_s: float = 600.0


@dataclass
class RunState:
    """How far a run has come.

    Parameters
    ----------
    epoch, n_steps : int
        Epochs that are over, and steps of the one that is not.
    seconds : float
        Time spent learning.
    rows : list of dict
        The learning curve: {epoch, seconds, part ("train" or "val"), loss, …}.
    since : list of dict
        What was measured since its last point.
    """

    epoch: int = 0
    n_steps: int = 0
    seconds: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)
    since: list[dict[str, float]] = field(default_factory=list)


class Run:
    """One training run.

    Parameters
    ----------
    goal : Goal
        What is learned; its network is on its device.
    recipe : Recipe
        How.
    sources : dict of str to sequence of Source
        Clips by part: "train", "val", "test".
    train_spec, held_out_spec : WindowSpec
        Windows to learn from (a little larger than they are shown), and to be scored on.
    options : RunOptions
        The rest.
    state_path : Path
        Where the state is saved.
    made : dict
        What tells this run from another; a state of another run is refused.
    """

    def __init__(
        self,
        goal: Goal,
        *,
        recipe: Recipe,
        sources: dict[str, Sequence[Source]],
        train_spec: WindowSpec,
        held_out_spec: WindowSpec,
        options: RunOptions,
        state_path: Path,
        made: dict[str, Any],
    ) -> None:
        self.goal = goal
        self.recipe = recipe
        self.sources = sources
        self.train_spec = train_spec
        self.held_out_spec = held_out_spec
        self.options = options
        self.state_path = state_path
        self.made = made
        self.state = RunState()
        self._is_asked: Callable[[], bool] = lambda: False
        self.device = next(goal.network.parameters()).device
        n_windows = sum(s.count_windows(train_spec.n_frames, train_spec.step) for s in sources["train"])
        self.batch_size = min(recipe.batch_size, n_windows)
        self.n_steps = n_windows // max(self.batch_size, 1)
        if n_windows < 2:
            raise InvalidValueError(f"{n_windows} windows to train on; at least 2 are needed.")
        parameters = [p for p in goal.trained().parameters() if p.requires_grad]
        self.optimiser = make_optimiser(parameters, recipe)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=options.precision == "fp16")

    def resume(self) -> bool:
        """Go on from the saved state where there is one; return whether there was.

        Raises
        ------
        InvalidValueError
            A state of a run with other clips or options.
        """
        if not self.state_path.exists():
            return False
        saved = load_state(self.state_path)
        if saved["made"] != self.made:
            changed = sorted(k for k in {*saved["made"], *self.made} if saved["made"].get(k) != self.made.get(k))
            raise InvalidValueError(
                f"{self.state_path} belongs to a run with other settings ({', '.join(changed)} changed).",
                hint="--overwrite begins again; the first settings go on",
            )
        self.goal.network.load_state_dict(saved["network"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.scaler.load_state_dict(saved["scaler"])
        self.state = RunState(**saved["state"])
        return True

    def learn(self, *, progress: Progress = SILENT, after_epoch: Callable[[RunState], None] = lambda _: None) -> None:
        """Show every window in each epoch that is left, and score the held-out clips after it.

        An interruption (SIGINT, SIGTERM) saves the state after the step at hand: the same run, made again and resumed,
        goes on at the next step, with the numbers that it would have had undisturbed.

        Raises
        ------
        NumericalError
            A loss that is no longer finite.
        """
        total = self.recipe.epochs * self.n_steps
        with _wait_with_signals() as is_asked, progress.task("training", total=total, unit="steps") as task:
            self._is_asked = is_asked
            task.advance(self.state.epoch * self.n_steps + self.state.n_steps)
            while self.state.epoch < self.recipe.epochs:
                self._learn_epoch(task.advance)
                self.state.epoch += 1
                self.state.n_steps = 0
                self._add_row("val" if self.sources["val"] else "test", self.score("val"))
                self.save()
                after_epoch(self.state)

    def score(self, part: str) -> Scores:
        """Return the scores of the clips of one part; of those of "test" where there are none to validate on."""
        sources = self.sources[part] or self.sources["test"]
        self.goal.network.eval()
        with self._autocast():
            return self.goal.score(_iter_held_out(sources, self.held_out_spec, self.batch_size))

    def save(self) -> None:
        """Write the state."""
        save_state(
            self.state_path,
            {
                "made": self.made,
                "network": self.goal.network.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "scaler": self.scaler.state_dict(),
                "state": vars(self.state),
            },
        )

    def _learn_epoch(self, advance: Callable[[], None]) -> None:
        rng = named_rng(self.options.seed, "order", self.state.epoch)
        batches = iter_batches(
            self.sources["train"],
            self.train_spec,
            batch_size=self.batch_size,
            rng=rng,
            n_workers=self.options.n_workers,
        )
        self.goal.network.eval()
        self.goal.trained().train()  # what is frozen stays in eval mode: its batch-norm statistics do not move
        point = max(self.n_steps // N_POINTS, 1)
        since = self.state.since
        begun = saved = time.monotonic()
        # Steps that were made before an interruption are decoded and passed over: the order is the same.
        for batch in islice(read_ahead(batches), self.state.n_steps, None):
            since.append(self._step(batch))
            self.state.n_steps += 1
            self.state.seconds += time.monotonic() - begun
            begun = time.monotonic()
            advance()
            if self.state.n_steps % point == 0:
                self._add_row("train", {name: fmean(step[name] for step in since) for name in since[0]})
                since.clear()
            if self._is_asked():
                self.save()
                raise KeyboardInterrupt
            if begun - saved > self.options.save_every_s:
                self.save()
                saved = time.monotonic()

    def _step(self, batch: Batch) -> dict[str, float]:
        """Go one step down; return what was measured."""
        place = (self.state.epoch, self.state.n_steps)
        # Dropout draws from torch's global generator: lend it a seed of this step.
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(named_seed(self.options.seed, "dropout", *place))
            with self._autocast():
                measured = self.goal.measure(batch, named_rng(self.options.seed, "crops", *place))
        loss = measured["loss"]
        if not bool(torch.isfinite(loss)):
            raise NumericalError(
                f"the loss is {float(loss)} in step {place[1] + 1} of epoch {place[0] + 1}; it must be finite.",
                hint="--learning-rate smaller, or --precision bf16 in place of fp16",
            )
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(self.scaler.scale(loss))
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return {name: float(value.detach()) for name, value in measured.items()}

    def _autocast(self) -> Any:
        if self.options.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=HALF[self.options.precision])

    def _add_row(self, part: str, scores: Scores) -> None:
        epoch = self.state.epoch + self.state.n_steps / max(self.n_steps, 1)
        row = {"epoch": round(epoch, 4), "seconds": round(self.state.seconds, 1), "part": part}
        self.state.rows.append({**row, **{name: value for name, value in scores.items() if math.isfinite(value)}})


def make_optimiser(parameters: list[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    """Return the optimiser of a recipe."""
    if recipe.optimiser == "adam":
        return torch.optim.Adam(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(
        parameters, lr=recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )


def _iter_held_out(sources: Sequence[Source], spec: WindowSpec, batch_size: int) -> Iterator[Batch]:
    """Yield windows spread evenly over every clip."""
    windows = (
        window
        for source in sources
        for window in iter_windows(source, spec, starts=spread_starts(source, spec.n_frames, N_HELD_OUT))
    )
    while chosen := list(islice(windows, batch_size)):
        yield stack(chosen)


@contextmanager
def _wait_with_signals() -> Iterator[Callable[[], bool]]:
    """Hold SIGINT and SIGTERM back for a `with` block; gives a function that says whether one came.

    A step that is cut off in its middle leaves weights that belong to no step. A second SIGINT is not held back.
    """
    asked: list[int] = []

    def hold(number: int, frame: object) -> None:
        asked.append(number)
        signal.signal(number, before[signal.Signals(number)])

    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        signal.signal(number, hold)
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
