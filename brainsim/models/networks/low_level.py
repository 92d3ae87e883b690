"""Turn RGB frames into maps of luminance, local contrast and change on a coarse grid."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

# Rec. 601: the weights of gamma-coded R, G and B in luma, as in PIL and most grey images.
LUMA = (0.299, 0.587, 0.114)


def measure_luminance(luma: Tensor, cell_px: int) -> Tensor:
    """Return the mean of each cell; (B, T, H, W) -> (B, 1, H / cell, W / cell), of the last frame."""
    return nn.functional.avg_pool2d(luma[:, -1:], cell_px)


def measure_contrast(luma: Tensor, cell_px: int) -> Tensor:
    """Return the standard deviation inside each cell of the last frame; (B, T, H, W) -> (B, 1, H / cell, W / cell).

    The cell's mean is taken off before squaring: the difference of two large numbers would cancel in float32.
    """
    last = luma[:, -1:]
    mean = nn.functional.avg_pool2d(last, cell_px)
    around = last - mean.repeat_interleave(cell_px, dim=-2).repeat_interleave(cell_px, dim=-1)
    return nn.functional.avg_pool2d(around.square(), cell_px).sqrt()


def measure_change(luma: Tensor, cell_px: int) -> Tensor:
    """Return the mean absolute change from the frame before; (B, 2, H, W) -> (B, 1, H / cell, W / cell)."""
    return nn.functional.avg_pool2d((luma[:, -1:] - luma[:, -2:-1]).abs(), cell_px)


MEASURES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "pixels": measure_luminance,
    "contrast-energy": measure_contrast,
    "frame-difference": measure_change,
}


class _Grid(nn.Module):
    def __init__(self, measure: Callable[[Tensor, int], Tensor], cell_px: int) -> None:
        super().__init__()
        self.measure = measure
        self.cell_px = cell_px

    def forward(self, luma: Tensor) -> Tensor:
        return self.measure(luma, self.cell_px)


class LowLevel(nn.Module):
    """One measure as a network with one layer, `grid`.

    Parameters
    ----------
    measure : str
        One of `MEASURES`.
    cell_px : int
        Side of a cell of the grid, in pixels.
    """

    def __init__(self, measure: str, *, cell_px: int) -> None:
        super().__init__()
        self.grid = _Grid(MEASURES[measure], cell_px)
        self.register_buffer("luma", torch.tensor(LUMA), persistent=False)

    def forward(self, batch: Tensor) -> Tensor:
        """Measure (B, 3, H, W) or (B, 3, T, H, W) in [0, 1]; gives (B, 1, H / cell, W / cell)."""
        frames = batch.unsqueeze(2) if batch.ndim == 4 else batch
        weights = self.get_buffer("luma").view(1, 3, 1, 1, 1)
        grid: Tensor = self.grid((frames * weights).sum(dim=1))
        return grid
