"""Turn decoded windows into what a network learns from: cropped and flipped at random."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from brainsim.stimuli.frames import Size

# Frames are decoded a little larger than they are shown, so that a crop can move: 256 px for 224.
DECODED_OVER_SHOWN = 256 / 224
# Side of a random crop, as a share of the decoded frame.
CROP_SHARE = (0.875, 1.0)


def decoded_size(shown: Size) -> Size:
    """Return the size to which frames are decoded, px."""
    return round(shown[0] * DECODED_OVER_SHOWN), round(shown[1] * DECODED_OVER_SHOWN)


def crop_at_random(frames: Tensor, size: Size, *, rng: np.random.Generator, flips: bool) -> Tensor:
    """Return one random crop of every clip, the same for all its frames, in the size wanted.

    Parameters
    ----------
    frames : Tensor, (n, n_frames, 3, height, width)
        Decoded frames.
    size : (int, int)
        Height and width wanted, px.
    rng : numpy.random.Generator
        Of places, sizes (`CROP_SHARE` of the side) and flips.
    flips : bool
        Mirror half of the clips left to right.
    """
    n, n_frames = frames.shape[:2]
    share = rng.uniform(*CROP_SHARE, n)
    centre = rng.uniform(-1, 1, (n, 2)) * (1 - share)[:, None]  # of the crop, where the frame reaches from -1 to 1
    mirror = np.where(flips & (rng.uniform(size=n) < 0.5), -1.0, 1.0)
    affine = np.zeros((n, 2, 3), np.float32)
    affine[:, 0, 0], affine[:, 1, 1] = share * mirror, share
    affine[:, :, 2] = centre
    grid = functional.affine_grid(
        torch.from_numpy(affine).to(frames.device), [n, 3, *size], align_corners=False
    )  # (n, height, width, 2)
    flat = frames.flatten(1, 2)  # (n, n_frames * 3, height, width): one grid for all frames of a clip
    cropped = functional.grid_sample(flat, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return cropped.view(n, n_frames, 3, *size)
