"""Turn .npy and .npz arrays, and folders of images, into stimuli and their RGB frames."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from brainsim.core.checks import check_choice, check_number
from brainsim.core.errors import InputFileError, InvalidValueError
from brainsim.core.provenance import digest, digest_file
from brainsim.stimuli.stimulus import ARRAY_AXES, Stimulus

ARRAY_SUFFIXES = (".npy", ".npz")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm")
# Values may exceed the stated range by rounding: far below one of 255 grey levels.
RANGE_SLACK = 1e-3


def open_array(
    path: Path, *, name: str, frame_s: float | None, axes: str = "tyx", value_range: tuple[float, float] | None = None
) -> Stimulus:
    """Open an array of frames, (n_frames, height, width) or (n_frames, height, width, 1 or 3).

    Parameters
    ----------
    path : Path
        .npy, or .npz with one array of 3 or 4 axes.
    name : str
        The stimulus's name.
    frame_s : float
        Seconds that each frame is shown; an array does not say it itself.
    axes : {"tyx", "txy"}
        Order of the first three axes.
    value_range : (float, float), optional
        Values of black and white. Default: 0 to 255 for uint8, 0 to 1 for floats and booleans.
    """
    check_choice("axes", axes, ARRAY_AXES, hint="--axes tyx (time, rows, columns) or --axes txy (time, columns, rows)")
    if frame_s is None:
        raise InvalidValueError(
            f"{path} is an array and does not say how long each frame is shown.",
            hint="--frame-s SECONDS, as in --frame-s 0.04",
        )
    check_number("frame_s", frame_s, above=0, unit="s", hint="--frame-s is in seconds")
    values = _load_array(path)
    if values.ndim not in (3, 4) or (values.ndim == 4 and values.shape[3] not in (1, 3)) or 0 in values.shape:
        raise InputFileError(
            f"{path} has shape {values.shape}; (n_frames, height, width) or (n_frames, height, width, 3) is wanted."
        )
    _check_values(path, values, value_range)
    n_frames, height, width = values.shape[:3] if axes == "tyx" else (values.shape[0], values.shape[2], values.shape[1])
    options = {"frame_s": frame_s, "axes": axes, "value_range": list(value_range) if value_range else None}
    return Stimulus(
        name=name,
        path=path,
        kind="array",
        frame_time_s=np.arange(n_frames) * float(frame_s),
        duration_s=n_frames * float(frame_s),
        width=width,
        height=height,
        digest=digest({"file": digest_file(path), **options}),
        axes=axes,
        value_range=value_range,
    )


def open_images(path: Path, *, name: str, frame_s: float | None) -> Stimulus:
    """Open a folder of images, in the order of their names: each is one row of the features.

    `frame_s` (default 1 s) only sets the rows' times; the size reported is that of the first image.
    """
    frame_s = 1.0 if frame_s is None else check_number("frame_s", frame_s, above=0, unit="s")
    files = list_images(path)
    if not files:
        raise InputFileError(f"{path} is a folder without images ({', '.join(IMAGE_SUFFIXES)}).")
    first = _read_image(files[0])
    return Stimulus(
        name=name,
        path=path,
        kind="images",
        frame_time_s=np.arange(len(files)) * frame_s,
        duration_s=len(files) * frame_s,
        width=first.shape[1],
        height=first.shape[0],
        digest=digest({"files": [[f.name, digest_file(f)] for f in files], "frame_s": frame_s}),
    )


def list_images(path: Path) -> list[Path]:
    """Return a folder's image files in the order of their names; hidden files do not count."""
    return sorted(f for f in path.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith("."))


def iter_array(stimulus: Stimulus, wanted: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (index, RGB uint8 (height, width, 3)) for the wanted frames of an array; grey is repeated three times."""
    values = _load_array(stimulus.path)
    for index in np.flatnonzero(wanted):
        frame = _to_uint8(np.asarray(values[index]), stimulus.value_range)
        if stimulus.axes == "txy":
            frame = np.swapaxes(frame, 0, 1)
        frame = frame[..., None] if frame.ndim == 2 else frame
        yield int(index), np.ascontiguousarray(np.broadcast_to(frame, (*frame.shape[:2], 3)))


def iter_images(stimulus: Stimulus, wanted: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (index, RGB uint8 (height, width, 3)) for the wanted images of a folder."""
    files = list_images(stimulus.path)
    if len(files) != stimulus.n_frames:
        raise InputFileError(f"{stimulus.path} held {stimulus.n_frames} images when opened and holds {len(files)} now.")
    for index in np.flatnonzero(wanted):
        yield int(index), _read_image(files[index])


def _read_image(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode in ("RGBA", "LA", "PA", "P"):  # transparent parts show black, on every machine
                flat = Image.new("RGBA", upright.size, (0, 0, 0, 255))
                flat.alpha_composite(upright.convert("RGBA"))
                upright = flat
            return np.array(upright.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise InputFileError(f"{path} cannot be read as an image ({error}).") from error


def _load_array(path: Path) -> np.ndarray:
    try:
        if path.suffix.lower() == ".npy":
            movie: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
            return movie
        with path.open("rb") as file, np.load(file, allow_pickle=False) as loaded:
            shapes = {key: loaded[key].shape for key in loaded.files}
            movies = [key for key, shape in shapes.items() if len(shape) in (3, 4)]
            if len(movies) != 1:
                raise InputFileError(f"{path} holds arrays {shapes}; exactly one of 3 or 4 axes is wanted.")
            values: np.ndarray = loaded[movies[0]]
            return values
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, InputFileError):
            raise
        raise InputFileError(f"{path} cannot be read as an array ({error}).") from error


def _check_values(path: Path, values: np.ndarray, value_range: tuple[float, float] | None) -> None:
    if values.dtype.kind not in "buif":
        raise InputFileError(f"{path} holds values of type {values.dtype}; numbers are wanted.")
    if value_range is not None and not value_range[0] < value_range[1]:
        raise InvalidValueError(
            f"value_range is {value_range[0]:g} to {value_range[1]:g}; black (first) must be below white (second)."
        )
    if value_range is None and values.dtype in (np.bool_, np.uint8):
        return
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise InputFileError(f"{path} holds values that are not finite; frames need numbers everywhere.")
    black, white = value_range or (0.0, 1.0)
    slack = RANGE_SLACK * (white - black)
    is_float = values.dtype.kind == "f"
    if (value_range is None and not is_float) or low < black - slack or high > white + slack:
        allowed = f"{black:g} to {white:g}" if value_range or is_float else "uint8, or a stated range"
        raise InvalidValueError(
            f"{path} holds {values.dtype} values from {low:g} to {high:g}; {allowed} is allowed.",
            hint=f"say which values are black and white: --value-range {low:g},{high:g}",
        )


def _to_uint8(frame: np.ndarray, value_range: tuple[float, float] | None) -> np.ndarray:
    if frame.dtype == np.uint8 and value_range is None:
        return frame
    black, white = value_range or (0.0, 1.0)
    scaled = (frame.astype(np.float64) - black) * (255.0 / (white - black))
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)
