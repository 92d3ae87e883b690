"""Turn a stimulus into frames of the sizes that models want: each frame decoded once, resized once per size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from PIL import Image

from brainsim.core.checks import check_choice
from brainsim.core.errors import InvalidValueError
from brainsim.stimuli.arrays import iter_array, iter_images
from brainsim.stimuli.stimulus import Stimulus
from brainsim.stimuli.video import iter_video

Size = tuple[int, int]  # (height, width) in px
RESIZES = ("crop", "stretch", "pad")
_READERS: dict[str, Callable[[Stimulus, np.ndarray], Iterator[tuple[int, np.ndarray]]]] = {
    "video": iter_video,
    "array": iter_array,
    "images": iter_images,
}


def iter_frames(
    stimulus: Stimulus, wanted: Mapping[Size, np.ndarray], *, resize: str = "crop"
) -> Iterator[tuple[int, dict[Size, np.ndarray]]]:
    """Decode a stimulus once and yield its frames in the sizes wanted.

    Parameters
    ----------
    stimulus : Stimulus
        What to decode.
    wanted : mapping of (height, width) to ndarray of bool, (n_frames,)
        For each size, the frames wanted in it.
    resize : {"crop", "stretch", "pad"}
        "crop": the centre of the picture in the size's aspect ratio; "stretch": the whole picture, distorted; "pad":
        the whole picture on mid-grey. Resampling is bilinear with antialiasing (the filter widens with the reduction).

    Yields
    ------
    index : int
        Which frame; increasing. Frames that no size wants are not yielded.
    frames : dict of (height, width) to ndarray of uint8, (height, width, 3)
        RGB.
    """
    check_choice("resize", resize, RESIZES)
    masks = {size: np.asarray(mask, bool) for size, mask in wanted.items()}
    for size, mask in masks.items():
        if mask.shape != (stimulus.n_frames,):
            raise InvalidValueError(
                f"the frames wanted at {size} have shape {mask.shape}; ({stimulus.n_frames},) is wanted."
            )
    any_wanted = np.any(list(masks.values()), axis=0) if masks else np.zeros(stimulus.n_frames, bool)
    for index, image in _READERS[stimulus.kind](stimulus, any_wanted):
        aspect = image.shape[1] / image.shape[0] if stimulus.kind == "images" else stimulus.width / stimulus.height
        sizes = [size for size, mask in masks.items() if mask[index]]
        yield index, {size: resize_frame(image, size, resize=resize, aspect=aspect) for size in sizes}


def resize_frame(image: np.ndarray, size: Size, *, resize: str = "crop", aspect: float | None = None) -> np.ndarray:
    """Return one frame in another size.

    Parameters
    ----------
    image : ndarray of uint8, (stored_height, stored_width, 3)
        Frame as stored.
    size : (int, int)
        Height and width wanted, px.
    resize : {"crop", "stretch", "pad"}
        See `iter_frames`.
    aspect : float, optional
        Width over height as displayed; differs from the stored one where pixels are not square.

    Returns
    -------
    ndarray of uint8, (height, width, 3)
    """
    stored_height, stored_width = image.shape[:2]
    height, width = size
    aspect = stored_width / stored_height if aspect is None else aspect
    relative = (width / height) / aspect  # above 1: the size is wider than the picture
    picture = Image.fromarray(image)
    if resize == "crop":
        w, h = (stored_width, stored_height / relative) if relative >= 1 else (stored_width * relative, stored_height)
        left, top = (stored_width - w) / 2, (stored_height - h) / 2
        return _resample(picture, size, box=(left, top, left + w, top + h))
    if resize == "stretch":
        return _resample(picture, size, box=None)
    inner = (height, max(round(width / relative), 1)) if relative >= 1 else (max(round(height * relative), 1), width)
    canvas = np.full((height, width, 3), 128, np.uint8)
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    canvas[top : top + inner[0], left : left + inner[1]] = _resample(picture, inner, box=None)
    return canvas


def _resample(picture: Image.Image, size: Size, *, box: tuple[float, float, float, float] | None) -> np.ndarray:
    if (picture.height, picture.width) == size and (box is None or box == (0, 0, picture.width, picture.height)):
        return np.array(picture)
    return np.array(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=box))
