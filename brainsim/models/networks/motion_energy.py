"""Turn RGB clips into motion energy: how strongly local gratings of each size, direction and speed are present.

The spatiotemporal energy model (Adelson & Bergen 1985, J Opt Soc Am A 2:284) as a pyramid that tiles the picture
(Nishimoto et al. 2011, Curr Biol 21:1641; parameters as in their code and in pymoten, Nunez-Elizalde et al.). A filter
is a 3-D Gabor in two phases a quarter cycle apart; its energy is the root of the sum of both squared responses, its
activation log(energy + 1e-5).

A Gabor is a sum of products of one-dimensional functions, sin(a + b) = sin a cos b + cos a sin b, so a clip costs three
small matrix products per scale and no 3-D filter is ever built. Nothing is cut off where a filter is small (pymoten
cuts its spatial part at 0.001). Directions are named by what a filter answers to: pymoten 0.1 convolves with filters
that are named as if they were correlated with the movie, so that its filter of 0 degrees answers to motion to the left.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn

SPATIAL_CYCLES = (2, 4, 8, 16, 32)  # per picture height
TEMPORAL_HZ = (0.0, 2.0, 4.0)
DIRECTIONS_DEG = (0, 45, 90, 135, 180, 225, 270, 315)  # of motion: 0 to the right, 90 upwards
FRAME_RATE_HZ = 24.0
N_FRAMES = 16  # 2/3 s
# Standard deviations of the Gaussian envelopes: in picture heights, and as a share of the clip.
SPATIAL_ENV_PER_CYCLE, MAX_SPATIAL_ENV = 0.6, 0.3
TEMPORAL_ENV_PER_HZ, MAX_TEMPORAL_ENV = 10.0, 0.3
# From one filter of a scale to the next, in standard deviations of the envelope.
SPACING = 3.5
# Keeps the logarithm of no energy at all finite.
LOG_OFFSET = 1e-5


@dataclass(frozen=True)
class Channel:
    """What one channel of a scale responds to.

    Parameters
    ----------
    cycles : int
        Spatial frequency, cycles per picture height; 0: the local mean of luminance.
    direction_deg : int
        Direction of motion; of a filter of 0 Hz, the direction across its bars.
    temporal_hz : float
        Temporal frequency.
    """

    cycles: int
    direction_deg: int
    temporal_hz: float


def list_channels(cycles: int) -> tuple[Channel, ...]:
    """Return the channels of a scale in order: gratings by direction and frequency, then local luminance.

    At 0 Hz a grating and its opposite are the same, and the second is left out.
    """
    moving = tuple(Channel(cycles, d, hz) for d, hz in product(DIRECTIONS_DEG, TEMPORAL_HZ) if hz or d < 180)
    return moving + tuple(Channel(0, 0, hz) for hz in TEMPORAL_HZ)


def measure_lightness(rgb: Tensor) -> Tensor:
    """Return CIE L* (0 to 100) of sRGB in [0, 1]; (B, 3, T, H, W) -> (B, T, H, W)."""
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb.clamp(min=0) + 0.055) / 1.055).pow(2.4))
    weights = torch.tensor((0.2126, 0.7152, 0.0722), device=rgb.device, dtype=rgb.dtype).view(1, 3, 1, 1, 1)
    y = (linear * weights).sum(dim=1)
    # CIE 15: a straight line near black, where the cube root is too steep.
    return torch.where(y > (6 / 29) ** 3, 116 * y.clamp(min=1e-6).pow(1 / 3) - 16, (29 / 3) ** 3 * y)


class _Scale(nn.Module):
    """The filters of one spatial frequency at every place of their grid."""

    across: Tensor  # (2, n_gratings, n_x, width)  sine and cosine of the horizontal part, under the envelope
    down: Tensor  # (2, n_gratings, n_y, height)
    sine: Tensor  # (n_channels, n_frames)  of the temporal part
    cosine: Tensor
    grating: Tensor  # (n_channels,) which grating a channel sees
    sign: Tensor  # (n_channels, 1, 1)  -1 where it moves against the grating's own direction

    def __init__(self, cycles: int, *, size: tuple[int, int]) -> None:
        super().__init__()
        height, width = size
        aspect = width / height
        env = min(SPATIAL_ENV_PER_CYCLE / cycles, MAX_SPATIAL_ENV)
        half = [d for d in DIRECTIONS_DEG if d < 180]
        frequencies = [(cycles * np.cos(np.deg2rad(d)), -cycles * np.sin(np.deg2rad(d))) for d in half] + [(0.0, 0.0)]
        x, y = np.linspace(0, aspect, width), np.linspace(0, 1, height)
        horizontal = [_gabors(x, _centres(aspect, env), 2 * np.pi * fx, env) for fx, _ in frequencies]
        vertical = [_gabors(y, _centres(1.0, env), 2 * np.pi * fy, env) for _, fy in frequencies]
        channels = list_channels(cycles)
        temporal = [_temporal_gabor(channel.temporal_hz) for channel in channels]
        tables = {
            "across": np.stack(horizontal, axis=1),
            "down": np.stack(vertical, axis=1),
            "sine": np.stack([sine for sine, _ in temporal]),
            "cosine": np.stack([cosine for _, cosine in temporal]),
            "sign": np.array([-1.0 if c.direction_deg >= 180 else 1.0 for c in channels])[:, None, None],
        }
        for name, table in tables.items():
            self.register_buffer(name, torch.from_numpy(table).float(), persistent=False)
        index = [half.index(c.direction_deg % 180) if c.cycles else len(half) for c in channels]
        self.register_buffer("grating", torch.tensor(index), persistent=False)

    def forward(self, lightness: Tensor) -> Tensor:
        """Return (B, n_channels, n_y, n_x) from (B, T, height, width)."""
        # k, l: sine and cosine; g: gratings; the places of the grid are y and x.
        rows = torch.einsum("bthw,kgxw->btkghx", lightness, self.across)
        places = torch.einsum("lgyh,btkghx->btlkgyx", self.down, rows)
        sine = places[:, :, 1, 0] + places[:, :, 0, 1]  # sin(a + b); (B, T, n_gratings, n_y, n_x)
        cosine = places[:, :, 1, 1] - places[:, :, 0, 0]
        s, c = sine[:, :, self.grating] * self.sign, cosine[:, :, self.grating]
        first = torch.einsum("btnyx,nt->bnyx", s, self.cosine) + torch.einsum("btnyx,nt->bnyx", c, self.sine)
        second = torch.einsum("btnyx,nt->bnyx", c, self.cosine) - torch.einsum("btnyx,nt->bnyx", s, self.sine)
        return torch.log(torch.sqrt(first.square() + second.square()) + LOG_OFFSET)


class MotionEnergy(nn.Module):
    """The pyramid; its layers are its scales, `cycles_2` to `cycles_32`, from coarse to fine.

    Parameters
    ----------
    size : (int, int)
        Height and width of the frames, px.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        for cycles in SPATIAL_CYCLES:
            self.add_module(f"cycles_{cycles}", _Scale(cycles, size=size))

    def forward(self, clips: Tensor) -> Tensor:
        """Return all activations, (B, n_filters), of clips (B, 3, 16, H, W) in [0, 1]."""
        lightness = measure_lightness(clips)
        return torch.cat([scale(lightness).flatten(1) for scale in self.children()], dim=1)


def _centres(length: float, env: float) -> np.ndarray:
    """Return where filters stand along one side: in its middle, and every `SPACING` envelopes that fit around it."""
    n = max(int(np.floor((length / (SPACING * env) - 1) / 2)), 0)
    return length / 2 + SPACING * env * np.arange(-n, n + 1)


def _gabors(x: np.ndarray, centres: np.ndarray, frequency: float, env: float) -> np.ndarray:
    """Return sine and cosine under a Gaussian at each centre, (2, n_centres, n)."""
    away = x - centres[:, None]
    envelope = np.exp(-np.square(away) / (2 * env**2))
    return np.stack([envelope * np.sin(frequency * away), envelope * np.cos(frequency * away)])


def _temporal_gabor(hz: float) -> tuple[np.ndarray, np.ndarray]:
    """Return sine and cosine under a Gaussian over the clip, (n_frames,) each; a filter looks back in time."""
    t = np.arange(N_FRAMES) / N_FRAMES - 0.5
    env = min(TEMPORAL_ENV_PER_HZ / hz, MAX_TEMPORAL_ENV) if hz else MAX_TEMPORAL_ENV
    envelope = np.exp(-np.square(t) / (2 * env**2))
    phase = 2 * np.pi * hz * N_FRAMES / FRAME_RATE_HZ * t
    return (envelope * np.sin(phase))[::-1].copy(), (envelope * np.cos(phase))[::-1].copy()
