"""Turn frames and the flows between them into the loss that teaches flow without truth, and flows into their error.

The loss is that of hidden two-stream MotionNet (Zhu, Lan, Newsam, Hauptmann 2018, arXiv:1704.00389): brightness
constancy and structural similarity of each frame with its warped successor, and smoothness, at four scales.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

# Generalised Charbonnier penalty (d² + eps)^exponent: of brightness, and of the flow's gradients.
BRIGHTNESS_EXPONENT, BRIGHTNESS_EPS = 0.4, 1e-8
SMOOTHNESS_EXPONENT, SMOOTHNESS_EPS = 0.3, 1e-7
# From the finest scale to the coarsest.
SMOOTHNESS_WEIGHTS = (0.01, 0.02, 0.04, 0.08)
SSIM_WEIGHT = 1.0
# Structural similarity of Wang et al. 2004: Gaussian window of 11 px, constants for values in [0, 1].
SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2
# Middlebury's mark of pixels whose flow is unknown: anything above this.
UNKNOWN_FLOW = 1e9


@dataclass(frozen=True)
class FlowLoss:
    """The loss and its parts, each summed over scales and averaged over pairs of frames: tensors without axes."""

    total: Tensor
    brightness: Tensor
    structure: Tensor
    smoothness: Tensor


def measure_flow_loss(frames: Tensor, flows: Sequence[Tensor]) -> FlowLoss:
    """Return the loss of flows at several scales.

    Parameters
    ----------
    frames : Tensor, (n, 3, n_frames, height, width)
        RGB in [0, 1].
    flows : sequence of Tensor, (n, 2 (n_frames - 1), height / s, width / s)
        (u, v) per interval in pixels of its scale, from frame k to frame k + 1; finest first, s = 1, 2, 4, 8.
    """
    flat = frames.transpose(1, 2).flatten(0, 1)  # (n * n_frames, 3, height, width)
    brightness, structure, smoothness = [], [], []
    for flow, weight in zip(flows, SMOOTHNESS_WEIGHTS, strict=True):
        size = flow.shape[-2:]
        scaled = flat if flat.shape[-2:] == size else functional.interpolate(flat, size=size, mode="area")
        scaled = scaled.view(frames.shape[0], frames.shape[2], 3, *size)
        first, second = scaled[:, :-1].flatten(0, 1), scaled[:, 1:].flatten(0, 1)  # (n * n_pairs, 3, h, w)
        pairs = flow.reshape(-1, 2, *size)  # (n * n_pairs, 2, h, w)
        rebuilt = warp(second, pairs)
        brightness.append(charbonnier(first - rebuilt, BRIGHTNESS_EXPONENT, BRIGHTNESS_EPS).mean())
        structure.append((1 - measure_ssim(first, rebuilt)).mean())
        smoothness.append(weight * _measure_smoothness(pairs))
    parts = [torch.stack(part).sum() for part in (brightness, structure, smoothness)]
    return FlowLoss(parts[0] + SSIM_WEIGHT * parts[1] + parts[2], *parts)


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """Return what `image` shows at each pixel displaced by `flow`: bilinear, the border repeated outside.

    Parameters
    ----------
    image : Tensor, (n, channels, height, width)
        The later frame.
    flow : Tensor, (n, 2, height, width)
        Displacement (u to the right, v downwards) in pixels from the earlier frame to the later.

    Returns
    -------
    Tensor, (n, channels, height, width)
        The earlier frame, as far as the flow is right.
    """
    height, width = image.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, device=image.device, dtype=image.dtype),
        torch.arange(width, device=image.device, dtype=image.dtype),
        indexing="ij",
    )
    # grid_sample wants -1 and 1 at the centres of the outermost pixels.
    grid = torch.stack(
        [(x + flow[:, 0]) * (2 / max(width - 1, 1)) - 1, (y + flow[:, 1]) * (2 / max(height - 1, 1)) - 1], dim=-1
    )
    return functional.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=True)


def charbonnier(difference: Tensor, exponent: float, eps: float) -> Tensor:
    """Return the generalised Charbonnier penalty (d² + eps)^exponent, element by element."""
    return (difference.square() + eps).pow(exponent)


def measure_ssim(a: Tensor, b: Tensor) -> Tensor:
    """Return the structural similarity at every pixel; (n, channels, h, w) in [0, 1] -> the same shape.

    The window is cut off at the border and its weights made to sum to 1 there: maps smaller than it have values too.
    """
    down, across = (_blurring_matrix(n, a) for n in a.shape[-2:])

    def blur(x: Tensor) -> Tensor:
        return down @ x @ across.T

    mean_a, mean_b = blur(a), blur(b)
    squares = mean_a.square() + mean_b.square()
    product = mean_a * mean_b
    luminance = (2 * product + SSIM_C1) / (squares + SSIM_C1)
    variances = blur(a.square() + b.square()) - squares
    return luminance * (2 * (blur(a * b) - product) + SSIM_C2) / (variances + SSIM_C2)


def measure_endpoint_error(flow: Tensor, truth: Tensor) -> Tensor:
    """Return the mean distance, in px, of two flows (…, 2, h, w) over the pixels whose truth is known."""
    known = (truth.abs() < UNKNOWN_FLOW).all(dim=-3) & truth.isfinite().all(dim=-3)
    length = (flow - torch.where(known.unsqueeze(-3), truth, 0)).square().sum(dim=-3).sqrt()
    return length[known].mean()


def _measure_smoothness(flow: Tensor) -> Tensor:
    along_x = charbonnier(flow[..., :, 1:] - flow[..., :, :-1], SMOOTHNESS_EXPONENT, SMOOTHNESS_EPS)
    along_y = charbonnier(flow[..., 1:, :] - flow[..., :-1, :], SMOOTHNESS_EXPONENT, SMOOTHNESS_EPS)
    return along_x.mean() + along_y.mean()


def _blurring_matrix(n: int, like: Tensor) -> Tensor:
    """Return (n, n): what blurs a line of n pixels; a product is faster than a convolution here, on CPUs twice."""
    place = torch.arange(n, device=like.device, dtype=like.dtype)
    offset = place[:, None] - place
    weight = torch.exp(-0.5 * (offset / SSIM_SIGMA).square()) * (offset.abs() <= SSIM_WINDOW // 2)
    return weight / weight.sum(dim=1, keepdim=True)
