"""Turn frames into what a network takes: scaled, normalised, laid out."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from brainsim.models.rows import InputSpec
from brainsim.models.transfer import to_device


def scale(frames: np.ndarray, spec: InputSpec, device: torch.device) -> Tensor:
    """Return bytes over `divisor`, on a device: the first half of the way from frames to a network.

    Parameters
    ----------
    frames : ndarray of uint8, (n_clips, n_frames, height, width, 3)
        RGB; not changed.
    spec : InputSpec
        What the network is shown.
    device : torch.device
        Where it runs.

    Returns
    -------
    Tensor of float32, (n_clips, n_frames, 3, height, width)
    """
    # torch wants arrays that could be written to, though these are not.
    on_device = to_device(torch.from_numpy(frames if frames.flags.writeable else frames.copy()), device)
    return on_device.permute(0, 1, 4, 2, 3).to(torch.float32) / spec.divisor


def show(frames: Tensor, spec: InputSpec) -> Tensor:
    """Return frames as a network takes them: the second half of the way.

    Parameters
    ----------
    frames : Tensor of float32, (n_clips, n_frames, 3, height, width)
        Of `scale`, cropped or not.
    spec : InputSpec
        Mean and standard deviation to normalise with, and the layout.

    Returns
    -------
    Tensor of float32, in the layout of `spec`
    """
    mean = torch.tensor(spec.mean, device=frames.device).view(3, 1, 1)
    std = torch.tensor(spec.std, device=frames.device).view(3, 1, 1)
    return lay_out((frames - mean) / std, spec.layout)


def lay_out(x: Tensor, layout: str) -> Tensor:
    """Return frames (B, T, 3, H, W) in one of the layouts of `rows.LAYOUTS`."""
    if layout == "image":
        return x[:, 0]  # (B, 3, H, W)
    if layout == "channels-frames":
        return x.transpose(1, 2).contiguous()  # (B, 3, T, H, W)
    if layout == "stacked":
        return x.transpose(1, 2).flatten(1, 2)  # (B, 3 T, H, W)
    return x  # (B, T, 3, H, W)


def batch_shape(spec: InputSpec) -> tuple[int, ...]:
    """Return the shape of one prepared clip, with a batch axis of 1."""
    return tuple(lay_out(torch.empty(1, spec.n_frames, 3, *spec.size, device="meta"), spec.layout).shape)
