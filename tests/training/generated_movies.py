"""Turn photographs into clips that move in known ways: flow to be learned, and actions that only motion tells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from brainsim.stimuli import write_video
from brainsim.stimuli.moving import load_photographs

FPS_HZ = 25


def move_photograph(
    photograph: Image.Image, *, n_frames: int, size: int, velocity: tuple[float, float], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return frames of a photograph that moves, with a piece of another motion before it, and the true flow.

    Returns
    -------
    frames : ndarray of uint8, (n_frames, size, size, 3)
    flow : ndarray of float32, (n_frames - 1, size, size, 2)
        (u, v), px from frame k to frame k + 1.
    """
    scene = _crop_canvas(photograph, size, rng)
    piece = _crop_canvas(photograph, size, rng)
    radius = rng.uniform(0.12, 0.22) * size
    centre = rng.uniform(0.3, 0.7, 2) * size
    own = np.asarray(velocity) + rng.uniform(-1.5, 1.5, 2)  # of the piece
    y, x = np.mgrid[:size, :size]
    frames, masks = [], []
    for k in range(n_frames):
        shift = np.asarray(velocity) * (k - n_frames / 2)
        inner = own * (k - n_frames / 2)
        mask = (x - centre[0] - inner[0]) ** 2 + (y - centre[1] - inner[1]) ** 2 < radius**2
        frames.append(np.where(mask[..., None], _look(piece, inner, size), _look(scene, shift, size)))
        masks.append(mask)
    flow = np.where(np.stack(masks[:-1])[..., None], own, velocity).astype(np.float32)
    return np.stack(frames), flow


def write_flow_clips(folder: Path, *, n_clips: int, n_frames: int = 24, size: int = 64, seed: int = 0) -> Path:
    """Write clips of photographs that move at up to 3 px per frame, and their true flow beside them."""
    rng = np.random.default_rng(seed)
    photographs = load_photographs()
    for i in range(n_clips):
        speed, angle = rng.uniform(0.5, 3), rng.uniform(0, 2 * np.pi)
        frames, flow = move_photograph(
            photographs[i % len(photographs)],
            n_frames=n_frames,
            size=size,
            velocity=(speed * np.cos(angle), speed * np.sin(angle)),
            rng=rng,
        )
        write_video(folder / f"moving_{i:03d}.mp4", frames, FPS_HZ, crf=8)
        np.save(folder / f"moving_{i:03d}.flow.npy", flow.astype(np.float16))
    return folder


MOTIONS = {"right": (2.0, 0.0), "left": (-2.0, 0.0), "down": (0.0, 2.0), "up": (0.0, -2.0)}


def write_motion_classes(folder: Path, *, n_clips: int, n_frames: int = 16, size: int = 64, seed: int = 0) -> Path:
    """Write clips of four actions that only motion tells: every single frame could belong to any of them."""
    rng = np.random.default_rng(seed)
    photographs = load_photographs()
    for action, velocity in MOTIONS.items():
        for i in range(n_clips):
            frames, _ = move_photograph(
                photographs[int(rng.integers(len(photographs)))],
                n_frames=n_frames,
                size=size,
                velocity=(velocity[0] * rng.uniform(0.6, 1.4), velocity[1] * rng.uniform(0.6, 1.4)),
                rng=rng,
            )
            write_video(folder / action / f"{i:03d}.mp4", frames, FPS_HZ, crf=8)
    return folder


def _crop_canvas(photograph: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """Return a random piece of a photograph three times the frame's size, so that moving shows no edge."""
    side = min(photograph.size) * rng.uniform(0.6, 1)
    left, top = rng.uniform(0, photograph.width - side), rng.uniform(0, photograph.height - side)
    box = (left, top, left + side, top + side)
    return photograph.resize((3 * size, 3 * size), Image.Resampling.LANCZOS, box=box)


def _look(canvas: Image.Image, shift: np.ndarray, size: int) -> np.ndarray:
    """Return what is seen of a canvas that was moved by `shift` px."""
    left, top = size - shift[0], size - shift[1]
    return np.asarray(
        canvas.transform((size, size), Image.Transform.AFFINE, (1, 0, left, 0, 1, top), Image.Resampling.BICUBIC)
    )
