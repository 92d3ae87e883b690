"""Turn a user's words for an extraction into checked options."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from brainsim.core.checks import check_choice, check_count, check_number
from brainsim.core.errors import InvalidValueError
from brainsim.models.pool_names import check_pool
from brainsim.models.rows import PRECISIONS, PROTOCOLS, ModelRow
from brainsim.stimuli import CLIP_WINDOWS, PADS, RESIZES

DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class ExtractOptions:
    """What is the same for every model and stimulus; see `brainsim.commands.extract.extract`.

    `sketch_chosen_for` is the `sketch_error` from which `sketch` was chosen before, for all stimuli together: a task
    that sees one of them could not.
    """

    layers: tuple[str, ...]
    pool: str
    dtype: str
    step_s: float
    clip_window: str
    resize: str
    protocol: str
    tap: str | None
    checkpoint: Path | None
    random_weights: bool
    seed: int
    device: str
    batch_size: int
    overwrite: bool
    precision: str = "fp32"
    pad: str = "repeat"
    sketch: int | None = None
    sketch_error: float | None = None
    compile: bool = False
    sketch_chosen_for: float | None = None

    def __post_init__(self) -> None:
        check_pool(self.pool)
        check_choice("dtype", self.dtype, DTYPES)
        check_choice("protocol", self.protocol, PROTOCOLS)
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("resize", self.resize, RESIZES)
        check_choice("clip_window", self.clip_window, CLIP_WINDOWS)
        check_choice("pad", self.pad, PADS)
        check_count("batch_size", self.batch_size)
        check_number("step_s", self.step_s, above=0, unit="s")
        if self.sketch is not None:
            check_count("sketch", self.sketch)
        if self.sketch is not None and self.sketch_error is not None:
            raise InvalidValueError(
                f"sketch is {self.sketch} and sketch_error {self.sketch_error:g}; one of them says how many features "
                "are kept."
            )

    def with_sketch(self, sketch: int | None) -> ExtractOptions:
        """Return the options with the number of projections that was chosen, and the error it was chosen for."""
        return replace(self, sketch=sketch, sketch_error=None, sketch_chosen_for=self.kept_error)

    @property
    def kept_error(self) -> float | None:
        """The error that inner products may have; None where the number of projections was given instead."""
        return self.sketch_chosen_for if self.sketch_error is None else self.sketch_error

    def checkpoint_of(self, row: ModelRow) -> Path | None:
        """Return the checkpoint that a model takes: untrained controls take none."""
        return None if row.control_of else self.checkpoint
