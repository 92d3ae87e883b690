"""Turn a transformers image or video processor into what the network is shown: measured on plain pictures."""

from __future__ import annotations

from typing import Any

import numpy as np

from brainsim.core.errors import InvalidValueError
from brainsim.models.pretrained import quiet
from brainsim.models.rows import InputSpec

# Larger than any model's input, in both orientations: a processor that keeps proportions gives two sizes.
_PLAIN_SIZES = ((1080, 1440), (1440, 1080))
_CONFIGURED_FRAMES = ("num_frames", "frames_per_clip")


def read_input(name: str, source: str, config: Any) -> tuple[InputSpec, tuple[str, ...]]:
    """Return what a model is shown, and notes on it.

    Size, scale, mean and std are measured: plain black, white and red pictures are processed, and what comes out is
    where a linear function of the bytes puts them.

    Parameters
    ----------
    name, source : str
        The row's name; what transformers is told.
    config : transformers configuration
        Of the vision model; tells the number of frames.

    Raises
    ------
    InvalidValueError
        No processor, or one that does more than to resize, scale and normalise.
    """
    n_frames = next((int(getattr(config, word)) for word in _CONFIGURED_FRAMES if getattr(config, word, None)), 1)
    processor = _find_processor(name, source, is_video=n_frames > 1)
    measured = [_measure(processor, size, n_frames) for size in _PLAIN_SIZES]
    size, offset, slope = measured[0]
    if size != measured[1][0]:
        size = _configured_size(name, config)
    std = 1.0 / (255.0 * slope)
    mean = -offset * std
    told_mean, told_std = (getattr(processor, word, None) for word in ("image_mean", "image_std"))
    shown = InputSpec(
        n_frames=n_frames,
        size=size,
        mean=_prefer(told_mean, mean),
        std=_prefer(told_std, std),
        layout="frames-channels" if n_frames > 1 else "image",
    )
    notes = [f"input as {type(processor).__name__} gives it; brainsim resizes the shorter side to it, bilinear"]
    if n_frames > 1:
        notes.append(
            f"{n_frames} consecutive frames of the movie: the configuration tells no stride (a model file can)"
        )
    return shown, tuple(notes)


def _find_processor(name: str, source: str, *, is_video: bool) -> Any:
    import transformers

    kinds = ("AutoVideoProcessor", "AutoImageProcessor") if is_video else ("AutoImageProcessor",)
    reasons = []
    for kind in kinds:
        loader = getattr(transformers, kind, None)  # video processors came with transformers 4.52
        if loader is None:
            continue
        try:
            with quiet():
                return loader.from_pretrained(source, trust_remote_code=False)
        except (OSError, ValueError, KeyError, ImportError) as error:
            reasons.append(str(error).strip().partition("\n")[0])
    raise InvalidValueError(
        f"{name} has no preprocessor_config.json that can be read, so that its size, mean and std are unknown "
        f"({reasons[-1]}).",
        hint="put that file beside config.json, or declare the input in a model file (docs/models.md)",
    )


def _measure(processor: Any, size: tuple[int, int], n_frames: int) -> tuple[tuple[int, int], np.ndarray, np.ndarray]:
    """Return the size that comes out, and what black gives and one step of brightness adds, per channel."""
    colours = ((0, 0, 0), (255, 255, 255), (255, 0, 0))
    pixels = [_pixels(processor, size, colour, n_frames) for colour in colours]
    height, width = pixels[0].shape[-2:]
    black, white, red = (np.moveaxis(p, -3, -1).reshape(-1, 3).mean(axis=0, dtype=np.float64) for p in pixels)
    name = type(processor).__name__
    slope = (white - black) / 255.0
    if not (slope > 0).all():
        raise InvalidValueError(f"{name} turns white into {white} and black into {black}; brightness is lost.")
    expected = np.array([white[0], black[1], black[2]])
    if not np.allclose(red, expected, atol=1e-4):
        raise InvalidValueError(
            f"{name} turns red into {red}, where {expected} is wanted: it mixes or reorders colours.",
            hint="do that in a model file (docs/models.md)",
        )
    return (int(height), int(width)), black, slope


def _pixels(processor: Any, size: tuple[int, int], colour: tuple[int, int, int], n_frames: int) -> np.ndarray:
    """Return what a processor makes of a plain picture or movie, (…, 3, height, width)."""
    picture = np.broadcast_to(np.array(colour, np.uint8), (*size, 3)).copy()
    if n_frames == 1:
        processed = processor(images=picture, return_tensors="np")
    elif "Video" in type(processor).__name__ and hasattr(processor, "do_sample_frames"):
        processed = processor(videos=[np.stack([picture] * 2)], return_tensors="pt", do_sample_frames=False)
    else:
        processed = processor([picture] * 2, return_tensors="np")
    return np.asarray(next(iter(processed.values())))


def _configured_size(name: str, config: Any) -> tuple[int, int]:
    size = getattr(config, "image_size", None)
    if isinstance(size, int):
        return (size, size)
    if isinstance(size, list | tuple) and len(size) == 2:
        return (int(size[0]), int(size[1]))
    raise InvalidValueError(
        f"the processor of {name} keeps the proportions of a picture and its configuration has no image_size.",
        hint="declare the size in a model file (docs/models.md)",
    )


def _prefer(told: Any, measured: np.ndarray) -> tuple[float, float, float]:
    """Return the told values where they are those that were measured: they have more digits."""
    values = np.asarray(told if isinstance(told, list | tuple) and len(told) == 3 else measured, dtype=np.float64)
    if not np.allclose(values, measured, atol=1e-5):
        values = measured
    red, green, blue = (round(float(v), 8) for v in values)
    return (red, green, blue)
