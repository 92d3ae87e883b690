"""Turn a path into a stimulus: a video, an array of frames or a folder of images."""

from __future__ import annotations

import re
from pathlib import Path

from brainsim.core.checks import check_node_name
from brainsim.core.errors import InputFileError, InvalidValueError
from brainsim.stimuli.arrays import ARRAY_SUFFIXES, IMAGE_SUFFIXES, open_array, open_images
from brainsim.stimuli.stimulus import Stimulus
from brainsim.stimuli.video import open_video


def open_stimulus(
    path: Path | str,
    *,
    name: str | None = None,
    frame_s: float | None = None,
    axes: str = "tyx",
    value_range: tuple[float, float] | None = None,
) -> Stimulus:
    """Open a movie file, an array of frames or a folder of images, without decoding it.

    Parameters
    ----------
    path : path
        Anything FFmpeg opens; .npy or .npz; a folder of images.
    name : str, optional
        Name in the store; default: the file's stem (signs that a store path cannot hold become "-").
    frame_s : float, optional
        Seconds per frame of an array (wanted there) or per image (default 1).
    axes : {"tyx", "txy"}
        Axes of an array.
    value_range : (float, float), optional
        An array's values for black and white.

    Raises
    ------
    InputFileError
        Nothing there, or a file that is damaged or of no known kind.
    """
    path = Path(path)
    if not path.exists():
        raise InputFileError(
            f"no stimulus at {path}.", hint="give a video, an array (.npy, .npz) or a folder of images"
        )
    name = default_name(path) if name is None else check_node_name(name, what="stimulus name")
    suffix = path.suffix.lower()
    if path.is_dir():
        return open_images(path, name=name, frame_s=frame_s)
    if suffix in ARRAY_SUFFIXES:
        return open_array(path, name=name, frame_s=frame_s, axes=axes, value_range=value_range)
    if frame_s is not None:
        raise InvalidValueError(f"frame_s is {frame_s:g} s, but {path} is a file that carries its own times.")
    if suffix in IMAGE_SUFFIXES and suffix != ".gif":
        raise InputFileError(f"{path} is a single image; a video, an array or a folder of images is wanted.")
    return open_video(path, name=name)


def default_name(path: Path) -> str:
    """Return the name that a file or folder gets where the user gives none."""
    stem = path.resolve().name if path.is_dir() else path.stem
    return check_node_name(re.sub(r"[^\w.@+:-]+", "-", stem).lstrip(".") or "stimulus", what="stimulus name")
