"""Turn frames into luminance, contrast, change and motion energy: what a model must beat, and what needs no weights."""

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


_GRIDS = (
    _row(
        "pixels", "luminance", _IMAGE, "mean luminance (0 to 1) of each cell of a 16 x 9 grid, of the clip's last frame"
    ),
    _row("contrast-energy", "local contrast", _IMAGE, "RMS contrast: standard deviation of luminance inside each cell"),
    _row("frame-difference", "change", _PAIR, "mean absolute change of luminance from the frame before, in each cell"),
)


# The centre square at 96 px, as in the published model and as the nine systems see it: three pixels per cycle of the
# finest filters. 16 frames of 24 per second are the 2/3 s of its temporal filters.
_ENERGY_SIZE = (96, 96)
_ENERGY = ModelRow(
    name="motion-energy",
    family="low-level",
    kind="motion energy",
    taps=tuple(f"cycles_{cycles}" for cycles in (2, 4, 8, 16, 32)),
    protocols={
        "default": ProtocolSpec(
            InputSpec(n_frames=16, size=_ENERGY_SIZE, frame_rate_hz=24.0, sampling_hz=24.0, layout="channels-frames")
        )
    },
    load=f"{__name__}:load_motion_energy",
    trained_to_give="nothing",
    training_set="none",
    citation="Adelson & Bergen 1985, J Opt Soc Am A 2:284; Nishimoto et al. 2011, Curr Biol 21:1641",
    licence="BSD-3-Clause",
    notes=(
        "6,555 spatiotemporal Gabor filters on CIE L*: 2 to 32 cycles per picture, 8 directions, 0, 2 and 4 Hz, and "
        "local luminance at the same rates; a layer is a scale: 23 channels at each place of its grid",
        "activations are log(energy + 1e-5), energy the root of both phases' summed squares",
    ),
    options={"size": list(_ENERGY_SIZE)},
)

ROWS = (*_GRIDS, _ENERGY)


def load(row: ModelRow, protocol: str) -> Network:
    """Build the module that measures; there are no weights."""
    from brainsim.models.network import Network
    from brainsim.models.networks.low_level import LowLevel

    return Network(LowLevel(str(row.options["measure"]), cell_px=CELL_PX))


def load_motion_energy(row: ModelRow, protocol: str) -> Network:
    """Build the pyramid of filters; there are no weights."""
    from brainsim.models.network import Network
    from brainsim.models.networks.motion_energy import MotionEnergy

    height, width = row.options["size"]
    return Network(MotionEnergy((height, width)))
