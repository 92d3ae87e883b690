"""Turn RGB frames into maps of luminance, local contrast and change on a coarse grid."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from brainsim.models.families.low_level import CELL_PX

# Rec. 601: the weights of gamma-coded R, G and B in luma, as in PIL and most grey images.
LUMA = (0.299, 0.587, 0.114)


def measure_luminance(luma: Tensor) -> Tensor:
    """Return the mean of each cell; (B, T, H, W) -> (B, 1, H / 8, W / 8), of the last frame."""
    return nn.functional.avg_pool2d(luma[:, -1:], CELL_PX)


def measure_contrast(luma: Tensor) -> Tensor:
    """Return the standard deviation inside each cell of the last frame; (B, T, H, W) -> (B, 1, H / 8, W / 8).

    The cell's mean is taken off before squaring: the difference of two large numbers would cancel in float32.
    """
    last = luma[:, -1:]
    mean = nn.functional.avg_pool2d(last, CELL_PX)
    around = last - mean.repeat_interleave(CELL_PX, dim=-2).repeat_interleave(CELL_PX, dim=-1)
    return nn.functional.avg_pool2d(around.square(), CELL_PX).sqrt()


def measure_change(luma: Tensor) -> Tensor:
    """Return the mean absolute change from the frame before, in each cell; (B, 2, H, W) -> (B, 1, H / 8, W / 8)."""
    return nn.functional.avg_pool2d((luma[:, -1:] - luma[:, -2:-1]).abs(), CELL_PX)


MEASURES: dict[str, Callable[[Tensor], Tensor]] = {
    "pixels": measure_luminance,
    "contrast-energy": measure_contrast,
    "frame-difference": measure_change,
}


class _Grid(nn.Module):
    def __init__(self, measure: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.measure = measure

    def forward(self, luma: Tensor) -> Tensor:
        return self.measure(luma)


class LowLevel(nn.Module):
    """One measure as a network with one layer, `grid`.

    Parameters
    ----------
    measure : str
        One of `MEASURES`.
    """

    def __init__(self, measure: str) -> None:
        super().__init__()
        self.grid = _Grid(MEASURES[measure])
        self.register_buffer("luma", torch.tensor(LUMA), persistent=False)

    def forward(self, batch: Tensor) -> Tensor:
        """Measure (B, 3, H, W) or (B, 3, T, H, W) in [0, 1]; gives (B, 1, H / 8, W / 8)."""
        frames = batch.unsqueeze(2) if batch.ndim == 4 else batch
        weights = self.get_buffer("luma").view(1, 3, 1, 1, 1)
        grid: Tensor = self.grid((frames * weights).sum(dim=1))
        return grid
