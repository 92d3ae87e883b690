"""Turn values of voxels into views through the brain: the largest value along each line of sight."""

from __future__ import annotations

from typing import Any

import nibabel
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from brainsim.report.content_maps import VolumePlaces
from brainsim.report.palette import FAINT

Box = tuple[float, float, float, float]
WITHOUT_VALUE = "#DFE3E8"  # targets that are masked, or at zero and below

# Axis that is looked along, those that are drawn (across, up), and what stands at the left and right edge.
VIEWS = ((0, 1, 2, "P", "A"), (1, 0, 2, "L", "R"), (2, 0, 1, "L", "R"))


def draw_projections(
    figure: Figure, box: Box, values: np.ndarray, places: VolumePlaces, colours: Colormap, top: float
) -> None:
    """Draw three views into a box of the figure (fractions of it), in the targets' own space.

    Parameters
    ----------
    values : ndarray, (n_targets,)
    top : float
        Value of the darkest colour.
    """
    volume, sizes = to_canonical(values, places)
    known = np.where(np.isnan(volume), -np.inf, volume)
    there = ~np.isnan(volume) | _masked(places, volume.shape)
    spans = [volume.shape[across] * sizes[across] for _, across, _, _, _ in VIEWS]
    heights = [volume.shape[up] * sizes[up] for _, _, up, _, _ in VIEWS]
    width_in, height_in = figure.get_size_inches()
    gap = 0.06 * box[2]
    # One scale in mm for the three views.
    scale = min((box[2] - 2 * gap) * width_in / sum(spans), box[3] * height_in / max(heights))
    x = box[0]
    for (along, across, up, left, right), span, tall in zip(VIEWS, spans, heights, strict=True):
        w, h = span * scale / width_in, tall * scale / height_in
        axis = figure.add_axes((x, box[1] + (box[3] - h) / 2, w, h))
        x += w + gap
        most = _turn(known.max(axis=along), along, across, up)
        inside = _turn(there.any(axis=along).astype(float), along, across, up) > 0
        picture = np.ones((*most.shape, 4))
        picture[inside] = _rgba(WITHOUT_VALUE)
        shown = np.isfinite(most) & (most > 0)
        picture[shown] = colours(np.clip(most[shown] / top, 0, 1))
        axis.imshow(picture, origin="lower", interpolation="nearest", extent=(0, span, 0, tall), aspect="auto")
        _finish(axis, left, right)


def to_canonical(values: np.ndarray, places: VolumePlaces) -> tuple[np.ndarray, np.ndarray]:
    """Return the volume with axes from left to right, back to front and bottom to top, cut to the targets; sizes "
    "in mm."""
    volume = np.full(places.shape, np.nan)
    volume[tuple(places.ijk.T)] = values
    turn = nibabel.orientations.io_orientation(places.affine)  # type: ignore[no-untyped-call]
    sizes = np.linalg.norm(places.affine[:3, :3], axis=0)
    volume = nibabel.orientations.apply_orientation(_cut(volume, places), turn)  # type: ignore[no-untyped-call]
    in_order = np.empty(3)
    in_order[turn[:, 0].astype(int)] = sizes
    return volume, in_order


def _cut(volume: np.ndarray, places: VolumePlaces) -> np.ndarray:
    low, high = places.ijk.min(axis=0), places.ijk.max(axis=0)
    margin = 1
    return volume[tuple(slice(max(0, a - margin), b + 1 + margin) for a, b in zip(low, high, strict=True))]


def _masked(places: VolumePlaces, shape: tuple[int, ...]) -> np.ndarray:
    """Return where targets lie, masked ones too, as `to_canonical` lays them."""
    there, _ = to_canonical(np.ones(len(places.ijk)), places)
    found: np.ndarray = ~np.isnan(there)
    return found.reshape(shape)


def _turn(flat: np.ndarray, along: int, across: int, up: int) -> np.ndarray:
    """Return a projection with `up` as rows and `across` as columns."""
    left = [axis for axis in range(3) if axis != along]
    turned: np.ndarray = flat if left == [up, across] else flat.T
    return turned


def _rgba(colour: str) -> tuple[float, float, float, float]:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue, 1.0


def _finish(axis: Axes, left: str, right: str) -> None:
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set(visible=True, color="#E3E6EA", linewidth=0.6)
    style: dict[str, Any] = {"transform": axis.transAxes, "fontsize": 6, "color": FAINT, "va": "bottom"}
    axis.text(0.02, 0.01, left, ha="left", **style)
    axis.text(0.98, 0.01, right, ha="right", **style)


def draw_glass_brain(
    figure: Figure, box: Box, values: np.ndarray, places: VolumePlaces, colours: Colormap, top: float
) -> None:
    """Draw the same through nilearn's glass brain, for targets in MNI space: from the left, right, front and top."""
    from nilearn.plotting import plot_glass_brain

    volume = np.zeros(places.shape, np.float32)
    volume[tuple(places.ijk.T)] = np.nan_to_num(np.clip(values, 0, None))
    image = nibabel.Nifti1Image(volume, places.affine)  # type: ignore[no-untyped-call]
    plot_glass_brain(
        image, display_mode="lyrz", figure=figure, axes=box, colorbar=False, cmap=colours, vmin=0.0, vmax=top,
        plot_abs=False, threshold=1e-9, annotate=True, symmetric_cbar=False,
    )  # fmt: skip
