"""Turn a checked request for a training into a run, its checkpoint and its summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainsim.commands.train_sources import OpenedClips
from brainsim.core.errors import InvalidValueError
from brainsim.core.progress import Progress
from brainsim.core.provenance import brainsim_version

if TYPE_CHECKING:
    from brainsim.models.rows import ModelRow
    from brainsim.training.recipes import Recipe
    from brainsim.training.running import Run, RunState
    from brainsim.training.windows import WindowSpec


@dataclass(frozen=True)
class TrainSummary:
    """What was trained, or would be.

    Parameters
    ----------
    system : str
        The row.
    checkpoint, curves, figure : str
        Weights for `brainsim extract --checkpoint`; the learning curve as a table and as a picture.
    n_actions : int
        Actions that are told apart; 0 where flow is learned.
    n_clips, n_windows : dict
        Clips of each part of the split; windows that are shown in an epoch.
    split : str
        Where the split comes from.
    recipe : dict
        Epochs, batch size, optimiser and the rest.
    device : str
        Where it ran.
    scores : tuple of dict
        One row per part of the split: {part, loss, top1, top5} in per cent of clips, or {part, loss, epe_px,
        epe_zero_px}.
    windows_per_s : float
        Speed of learning.
    resumed, reused : bool
        Whether an interrupted run went on; whether everything was there already.
    seconds : float
        Wall time of this call.
    warnings : tuple of str
        What the user must see.
    dry_run : bool
        Whether nothing was written.
    """

    system: str
    checkpoint: str
    curves: str
    figure: str
    n_actions: int
    n_clips: dict[str, int]
    n_windows: int
    split: str
    recipe: dict[str, Any]
    device: str
    scores: tuple[dict[str, Any], ...]
    windows_per_s: float
    resumed: bool
    reused: bool
    seconds: float
    warnings: tuple[str, ...]
    dry_run: bool = False


@dataclass(frozen=True)
class TrainPlan:
    """One training: what is trained on what, where it goes, and what tells it from others.

    Parameters
    ----------
    row : ModelRow
        The system.
    recipe : Recipe
        How it is trained.
    opened : OpenedClips
        The clips of each part of the split.
    out : Path
        The checkpoint.
    made : dict
        What tells this training from another: a repeated command finds its own by it.
    source : str
        Where the split comes from.
    """

    row: ModelRow
    recipe: Recipe
    opened: OpenedClips
    out: Path
    made: dict[str, Any]
    source: str

    @property
    def state_path(self) -> Path:
        return self.out.with_suffix(".state")

    @property
    def actions(self) -> tuple[str, ...]:
        return () if self.recipe.goal == "flow" else self.opened.actions

    def spec(self, window_step: int, *, is_larger: bool) -> WindowSpec:
        from brainsim.training.crops import decoded_size
        from brainsim.training.windows import WindowSpec

        size = self.row.input.size
        return WindowSpec(self.row.input.n_frames, window_step, decoded_size(size) if is_larger else size)

    def summary(self, window_step: int, device: str, **more: Any) -> TrainSummary:
        sources = self.opened.sources
        n_frames = self.row.input.n_frames
        return TrainSummary(
            **{
                "system": self.row.name,
                "checkpoint": str(self.out),
                "curves": str(self.out.with_suffix(".tsv")),
                "figure": str(self.out.with_suffix(".png")),
                "n_actions": len(self.actions),
                "n_clips": {part: len(own) for part, own in sources.items()},
                "n_windows": sum(s.count_windows(n_frames, window_step) for s in sources["train"]),
                "split": self.source,
                "recipe": asdict(self.recipe),
                "device": device,
                "scores": (),
                "windows_per_s": 0.0,
                "resumed": False,
                "reused": False,
                "seconds": 0.0,
                "warnings": self.opened.warnings,
                **more,
            }
        )

    def find_made(self) -> TrainSummary | None:
        """Return the summary of a training that is complete, where the checkpoint is this one's.

        Raises
        ------
        InvalidValueError
            A file that something else has made.
        """
        if not self.out.exists():
            return None
        from brainsim.training.saving import load_state

        saved = load_state(self.out)["made"]
        theirs = saved.get("training") if isinstance(saved, dict) else None
        if theirs != self.made:
            raise InvalidValueError(
                f"{self.out} is there already and was not made by this command.",
                hint="give --out another name, or --overwrite",
            )
        if saved["epoch"] < self.recipe.epochs:
            return None
        found = {name: saved[name] for name in ("scores", "windows_per_s", "device")}
        scores = tuple(found.pop("scores"))
        return self.summary(self.made["window_step"], scores=scores, reused=True, **found)

    def begin(
        self,
        flow_path: Path | None,
        *,
        window_step: int,
        precision: str,
        seed: int,
        device: str,
        n_workers: int,
        overwrite: bool,
        progress: Progress,
    ) -> tuple[Run, bool]:
        """Build the network and the run; return it and whether it goes on from a saved state."""
        from brainsim.commands.train_networks import build_goal
        from brainsim.training.running import Run, RunOptions

        goal = build_goal(
            self.row,
            self.recipe,
            n_actions=len(self.opened.actions),
            flow_checkpoint=flow_path,
            seed=seed,
            device=device,
        )
        run = Run(
            goal,
            recipe=self.recipe,
            sources=dict(self.opened.sources),
            train_spec=self.spec(window_step, is_larger=True),
            held_out_spec=self.spec(window_step, is_larger=False),
            options=RunOptions(seed=seed, precision=precision, n_workers=n_workers),
            state_path=self.state_path,
            made=self.made,
        )
        if overwrite:
            self.state_path.unlink(missing_ok=True)
        resumed = run.resume()
        if resumed:
            progress.note(f"{self.state_path}: going on in epoch {run.state.epoch + 1}, step {run.state.n_steps + 1}")
        return run, resumed

    def carry_out(self, run: Run, progress: Progress) -> TrainSummary:
        """Train to the end, with a checkpoint and curves after every epoch; score, and clean up."""

        def after_epoch(state: RunState) -> None:
            progress.note(_tell_epoch(state, self.recipe.epochs))
            self._save(run, ())

        run.learn(progress=progress, after_epoch=after_epoch)
        parts = [part for part in ("val", "test") if run.sources[part]]
        scores = tuple({"part": part, **run.score(part)} for part in parts)
        summary = self._save(run, scores)
        self.state_path.unlink(missing_ok=True)
        return summary

    def _save(self, run: Run, scores: Sequence[dict[str, Any]]) -> TrainSummary:
        from brainsim.report.figures.learning import write_learning_curves
        from brainsim.training.saving import save_checkpoint

        n_shown = (run.state.epoch * run.n_steps + run.state.n_steps) * run.batch_size
        speed = n_shown / run.state.seconds if run.state.seconds else 0.0
        save_checkpoint(
            self.out,
            run.goal.network,
            actions=self.actions,
            made={
                "training": self.made,
                "epoch": run.state.epoch,
                "scores": list(scores),
                "windows_per_s": speed,
                "device": str(run.device),
                "split": self.source,
                "brainsim": brainsim_version(),
            },
        )
        write_learning_curves(self.out.with_suffix(".tsv"), self.out.with_suffix(".png"), run.state.rows)
        return self.summary(
            self.made["window_step"], str(run.device), scores=tuple(scores), windows_per_s=round(speed, 1)
        )


def _tell_epoch(state: RunState, n_epochs: int) -> str:
    last = state.rows[-1]
    figures = ", ".join(
        f"{name} {value:.4g}" for name, value in last.items() if name not in ("epoch", "seconds", "part")
    )
    return f"epoch {state.epoch} of {n_epochs}, held out: {figures}"
