"""Turn files of true optic flow into tensors: an array beside a clip, and Middlebury's .flo."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from brainsim.core.checks import check_file
from brainsim.core.errors import InputFileError
from brainsim.stimuli.frames import Size
from brainsim.training.windows import Source

# What a .flo file begins with: 202021.25 as a little-endian float, "PIEH" in ASCII (Baker et al. 2011, Middlebury).
FLO_TAG = b"PIEH"


def truth_path(clip: Path) -> Path:
    """Return where the true flow of a clip would lie: beside it, `NAME.flow.npy`."""
    return clip.with_name(f"{clip.name if clip.is_dir() else clip.stem}.flow.npy")


def read_truth(source: Source, start: int, n_pairs: int, size: Size) -> Tensor | None:
    """Return the true flow of a window in pixels of what a network is shown, or None where there is no file.

    Parameters
    ----------
    source : Source
        The clip; its truth is an array (n_frames - 1, height, width, 2) of (u, v) in pixels of the clip, from frame k
        to frame k + 1, NaN where it is not known.
    start : int
        First frame of the window.
    n_pairs : int
        Intervals.
    size : (int, int)
        Height and width to which the window's frames were brought: the centre, in this aspect ratio.

    Returns
    -------
    Tensor of float32, (n_pairs, 2, height, width), or None

    Raises
    ------
    InputFileError
        An array of another shape than the clip's.
    """
    path = truth_path(source.stimulus.path)
    if not path.exists():
        return None
    flow = _open_truth(path)
    expected = (source.stimulus.n_frames - 1, source.stimulus.height, source.stimulus.width, 2)
    if flow.shape != expected:
        raise InputFileError(
            f"{path} has the shape {flow.shape}; the flow of its clip has {expected}: intervals, height, width, (u, v)."
        )
    window = torch.from_numpy(np.array(flow[start : start + n_pairs], np.float32)).permute(0, 3, 1, 2)
    return resize_flow(window, size)


def resize_flow(flow: Tensor, size: Size) -> Tensor:
    """Return the centre of a flow in another size, its lengths in the new pixels; (n, 2, h, w) -> (n, 2, *size)."""
    height, width = flow.shape[-2:]
    if (height, width) == size:
        return flow
    ratio = max(size[0] / height, size[1] / width)  # new pixels per old one, as frames are cropped
    h, w = min(round(size[0] / ratio), height), min(round(size[1] / ratio), width)
    top, left = (height - h) // 2, (width - w) // 2
    cropped = flow[..., top : top + h, left : left + w]
    return functional.interpolate(cropped, size=size, mode="bilinear", align_corners=False) * ratio


def read_flo(path: Path | str) -> np.ndarray:
    """Read Middlebury's .flo; float32 (height, width, 2), (u, v) in pixels, above 1e9 where it is not known.

    Raises
    ------
    InputFileError
        No .flo file, or one that is cut short.
    """
    path = check_file(path, what=".flo file")
    content = path.read_bytes()
    if content[:4] != FLO_TAG or len(content) < 12:
        raise InputFileError(f"{path} is no .flo file: it does not begin with {FLO_TAG.decode()}.")
    width, height = (int(n) for n in np.frombuffer(content, "<i4", 2, offset=4))
    values = np.frombuffer(content, "<f4", offset=12)
    if width <= 0 or height <= 0 or len(values) != width * height * 2:
        raise InputFileError(f"{path} holds {len(values)} numbers for {width} x {height} px; 2 per pixel are wanted.")
    return values.reshape(height, width, 2).astype(np.float32)


@lru_cache(maxsize=64)
def _open_truth(path: Path) -> np.ndarray:
    try:
        flow: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputFileError(f"{path} is no array that NumPy can read ({error}).") from error
    return flow
