"""Turn frames into coarse maps of luminance, contrast and change: what a model must beat, and what needs no weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from brainsim.models.rows import InputSpec, ModelRow, ProtocolSpec

if TYPE_CHECKING:
    from brainsim.models.network import Network

# 16 x 9 cells of 8 x 8 px.
GRID = (9, 16)
CELL_PX = 8
SIZE = (GRID[0] * CELL_PX, GRID[1] * CELL_PX)
_IMAGE = InputSpec(n_frames=1, size=SIZE)
_PAIR = InputSpec(n_frames=2, size=SIZE, layout="channels-frames")


def _row(name: str, kind: str, shown: InputSpec, notes: str) -> ModelRow:
    return ModelRow(
        name=name,
        family="low-level",
        kind=kind,
        taps=("grid",),
        protocols={"default": ProtocolSpec(shown)},
        load="brainsim.models.families.low_level:load",
        trained_to_give="nothing",
        training_set="none",
        licence="BSD-3-Clause",
        notes=(notes,),
        options={"measure": name, "grid": list(GRID)},
    )


ROWS = (
    _row(
        "pixels", "luminance", _IMAGE, "mean luminance (0 to 1) of each cell of a 16 x 9 grid, of the clip's last frame"
    ),
    _row("contrast-energy", "local contrast", _IMAGE, "RMS contrast: standard deviation of luminance inside each cell"),
    _row("frame-difference", "change", _PAIR, "mean absolute change of luminance from the frame before, in each cell"),
)


def load(row: ModelRow, protocol: str) -> Network:
    """Build the module that measures; there are no weights."""
    from brainsim.models.network import Network
    from brainsim.models.networks.low_level import LowLevel

    return Network(LowLevel(str(row.options["measure"]), cell_px=CELL_PX))
