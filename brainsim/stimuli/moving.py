"""Turn photographs that installed packages ship into a film of moving photographs, for the demo."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from brainsim.core.checks import check_count, check_number
from brainsim.core.errors import MissingDependencyError
from brainsim.core.seeds import named_rng

DEFAULT_FPS_HZ, DEFAULT_DURATION_S, DEFAULT_WIDTH, DEFAULT_HEIGHT = 24, 60.0, 128, 96
# Photographs inside the wheels of scikit-learn and scikit-image (no download); those that are absent are passed over.
PHOTOGRAPHS = {
    "sklearn": ("china.jpg", "flower.jpg"),
    "skimage": (
        "astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "grass.png",
        "gravel.png", "hubble_deep_field.jpg", "moon.png", "motorcycle_left.png", "rocket.jpg",
    ),
}  # fmt: skip
_FOLDERS = {"sklearn": ("datasets", "images"), "skimage": ("data",)}
# The camera roams over a canvas this many times the frame's size.
CANVAS_SCALE = 3.0
SHOT_S = (2.0, 6.0)  # a cut every 2 to 6 s
MOTION_S = (1.0, 4.0)  # speed and direction change on a clock of their own
N_OBJECTS = 3
P_STILL = 0.3  # share of motion stretches in which a thing stands still
SPEED_PX = (0.25, 5.0)  # px per frame at the default size, log-uniform: slow drifts to fast pans
ZOOM = (0.8, 1.6)  # canvas px to frame px
ZOOM_PER_S = 0.35  # standard deviation of the zoom's speed, natural log per second


@dataclass(frozen=True)
class _Shot:
    canvas: Image.Image  # graded background, (CANVAS_SCALE x frame size)
    start: tuple[float, float]  # where on the canvas the camera's path begins, px
    objects: tuple[Image.Image | None, ...]  # RGBA cut-outs, one per trajectory; None = absent in this shot


@dataclass(frozen=True)
class _Motion:
    camera: np.ndarray  # (n_frames, 2) path in px
    log_zoom: np.ndarray  # (n_frames,)
    objects: np.ndarray  # (N_OBJECTS, n_frames, 2) path in px


def render_moving_photographs(
    seed: int,
    run: int | str,
    *,
    duration_s: float = DEFAULT_DURATION_S,
    fps_hz: float = DEFAULT_FPS_HZ,
    width: int = DEFAULT_WIDTH,
    height: int = DEFAULT_HEIGHT,
) -> Iterator[np.ndarray]:
    """Yield the frames of one run: a camera that pans and zooms over photographs, cut-outs that move, cuts.

    What is shown (photographs, crops, cut-outs, contrast, cuts) and how it moves (speed and direction of camera and
    cut-outs, stillness, fast pans) are drawn from two independent generators, and motion changes on its own clock, not
    at cuts: what a static system knows of a run says nothing about its motion.

    Parameters
    ----------
    seed : int
        Same seed, run and options: same frames.
    run : int or str
        Name of the run; runs are independent.
    duration_s : float
        Length in seconds.
    fps_hz : float
        Frame rate in Hz.
    width, height : int
        Frame size in px.

    Yields
    ------
    ndarray of uint8, (height, width, 3)
        RGB.
    """
    check_number("duration_s", duration_s, above=0, unit="s")
    check_number("fps_hz", fps_hz, above=0, unit="Hz")
    check_count("width", width, at_least=16)
    check_count("height", height, at_least=16)
    n_frames = round(duration_s * fps_hz)
    motion = _draw_motion(named_rng(seed, "motion", run), n_frames=n_frames, fps_hz=fps_hz, scale=width / 128)
    looks = named_rng(seed, "appearance", run)
    cuts = _draw_clock(looks, n_frames=n_frames, fps_hz=fps_hz, stretch_s=SHOT_S)
    photographs = [_fit(photo, width, height) for photo in load_photographs()]
    previous = -1
    for begin, end in pairwise(cuts):
        # Never the same photograph on both sides of a cut: a cut can be seen.
        previous = int((previous + 1 + looks.integers(len(photographs) - 1)) % len(photographs))
        shot = _draw_shot(looks, photographs, previous, width=width, height=height)
        for frame in range(begin, end):
            yield _render(shot, motion, frame, width=width, height=height)


@lru_cache(maxsize=1)
def load_photographs() -> tuple[Image.Image, ...]:
    """Return the photographs as RGB images; the packages are located, not imported."""
    photographs = []
    for package, names in PHOTOGRAPHS.items():
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            continue
        for name in names:
            path = Path(spec.origin).parent.joinpath(*_FOLDERS[package], name)
            if path.is_file():
                with Image.open(path) as image:
                    photographs.append(image.convert("RGB"))
    if len(photographs) < 4:
        raise MissingDependencyError(
            f"{len(photographs)} photographs found in scikit-learn and scikit-image; at least 4 are needed.",
            hint="pip install scikit-learn scikit-image",
        )
    return tuple(photographs)


def _fit(photo: Image.Image, width: int, height: int) -> Image.Image:
    """Crop a photograph to the frame's aspect ratio and shrink it to the canvas, so that paths do not depend on it."""
    size = (round(width * CANVAS_SCALE), round(height * CANVAS_SCALE))
    scale = min(photo.width / size[0], photo.height / size[1])
    w, h = size[0] * scale, size[1] * scale
    # Rounding must not push the box over an edge: Pillow refuses that.
    left, top = max((photo.width - w) / 2, 0.0), max((photo.height - h) / 2, 0.0)
    box = (left, top, min(left + w, float(photo.width)), min(top + h, float(photo.height)))
    return photo.resize(size, Image.Resampling.LANCZOS, box=box)


def _draw_clock(rng: np.random.Generator, *, n_frames: int, fps_hz: float, stretch_s: tuple[float, float]) -> list[int]:
    edges = [0]
    while edges[-1] < n_frames:
        edges.append(min(edges[-1] + max(round(rng.uniform(*stretch_s) * fps_hz), 1), n_frames))
    return edges


def _draw_velocity(rng: np.random.Generator, *, n_frames: int, fps_hz: float, scale: float) -> np.ndarray:
    velocity = np.zeros((n_frames, 2))  # px per frame
    edges = _draw_clock(rng, n_frames=n_frames, fps_hz=fps_hz, stretch_s=MOTION_S)
    for begin, end in pairwise(edges):
        speed = np.exp(rng.uniform(*np.log(SPEED_PX))) * scale * DEFAULT_FPS_HZ / fps_hz
        angle = rng.uniform(0, 2 * np.pi)
        if rng.uniform() >= P_STILL:
            velocity[begin:end] = speed * np.cos(angle), speed * np.sin(angle)
    return velocity


def _draw_motion(rng: np.random.Generator, *, n_frames: int, fps_hz: float, scale: float) -> _Motion:
    camera = np.cumsum(_draw_velocity(rng, n_frames=n_frames, fps_hz=fps_hz, scale=scale), axis=0)
    zoom_speed = np.zeros(n_frames)
    edges = _draw_clock(rng, n_frames=n_frames, fps_hz=fps_hz, stretch_s=MOTION_S)
    for begin, end in pairwise(edges):
        rate = rng.normal(0, ZOOM_PER_S) / fps_hz
        if rng.uniform() >= P_STILL:
            zoom_speed[begin:end] = rate
    begin_zoom = rng.uniform(*np.log(ZOOM))
    low, high = np.log(ZOOM)
    log_zoom = low + _fold(begin_zoom - low + np.cumsum(zoom_speed), high - low)
    objects = [
        rng.uniform(0, 256, 2) + np.cumsum(_draw_velocity(rng, n_frames=n_frames, fps_hz=fps_hz, scale=scale), axis=0)
        for _ in range(N_OBJECTS)
    ]
    return _Motion(camera, log_zoom, np.stack(objects))


def _draw_shot(
    rng: np.random.Generator, photographs: list[Image.Image], which: int, *, width: int, height: int
) -> _Shot:
    contrast, brightness = rng.uniform(0.5, 1.1), rng.uniform(80, 160)
    grade = [int(np.clip((v - 128) * contrast + brightness, 0, 255)) for v in range(256)]
    start = (rng.uniform(0, 2 * CANVAS_SCALE * width), rng.uniform(0, 2 * CANVAS_SCALE * height))
    n_shown = int(rng.integers(0, N_OBJECTS + 1))
    objects = [_cut_out(rng, photographs, width=width) if k < n_shown else None for k in range(N_OBJECTS)]
    return _Shot(photographs[which].point(grade * 3), start, tuple(objects))


def _cut_out(rng: np.random.Generator, photographs: list[Image.Image], *, width: int) -> Image.Image:
    """Cut a piece with a random smooth outline out of a photograph."""
    photo = photographs[int(rng.integers(len(photographs)))]
    size = round(rng.uniform(0.18, 0.4) * width)
    left, top = rng.uniform(0, photo.width - 2 * size), rng.uniform(0, photo.height - 2 * size)
    piece = photo.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + 2 * size, top + 2 * size))
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    waves = sum(rng.normal(0, 0.12) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4))
    radius = np.clip(0.38 * (1 + waves), 0.15, 0.48) * size
    outline = [(size / 2 + r * np.cos(a), size / 2 + r * np.sin(a)) for r, a in zip(radius, angle, strict=True)]
    mask = Image.new("L", (size, size), 0)
    ImageDraw.Draw(mask).polygon(outline, fill=255)
    piece.putalpha(mask.filter(ImageFilter.GaussianBlur(0.8)))
    return piece


def _render(shot: _Shot, motion: _Motion, frame: int, *, width: int, height: int) -> np.ndarray:
    step = float(np.exp(-motion.log_zoom[frame]))  # canvas px per frame px
    x, y = motion.camera[frame]
    left = _fold_one(shot.start[0] + x, shot.canvas.width - width * step)
    top = _fold_one(shot.start[1] + y, shot.canvas.height - height * step)
    view = shot.canvas.transform(
        (width, height), Image.Transform.AFFINE, (step, 0, left, 0, step, top), Image.Resampling.BILINEAR
    )
    for piece, path in zip(shot.objects, motion.objects, strict=True):
        if piece is None:
            continue
        # A piece's centre stays inside the frame; whole px by paste, the rest by a shift of less than one px.
        cx, cy = _fold_one(path[frame, 0], width), _fold_one(path[frame, 1], height)
        px, py = cx - piece.width / 2, cy - piece.height / 2
        whole = (int(np.floor(px)), int(np.floor(py)))
        shifted = piece.transform(
            piece.size,
            Image.Transform.AFFINE,
            (1, 0, whole[0] - px, 0, 1, whole[1] - py),
            Image.Resampling.BILINEAR,
        )
        view.paste(shifted, whole, shifted)
    return np.asarray(view)


def _fold(path: np.ndarray, length: float) -> np.ndarray:
    """Reflect a path at 0 and `length`, so that it stays between them at its own speed."""
    folded: np.ndarray = length - np.abs(np.mod(path, 2 * length) - length)
    return folded


def _fold_one(position: float, length: float) -> float:
    return float(length - abs(position % (2 * length) - length))
