"""Turn what a movie file says about itself into one record: name, digest, frame times, size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

Kind = Literal["video", "array", "images"]
ARRAY_AXES = ("tyx", "txy")
# Two times rounded to milliseconds make an interval wrong by at most one.
ROUNDED_TIMES_S = 1.1e-3


@dataclass(frozen=True)
class Stimulus:
    """A movie, an array of frames or a folder of images, opened but not decoded.

    Frame k is on screen from `frame_time_s[k]` until `frame_time_s[k + 1]`, the last one until `duration_s`. Time 0 is
    the moment at which the first frame appears, whatever the file's own clock says.

    Parameters
    ----------
    name : str
        What nodes of the store call it; the file's stem unless the user says otherwise.
    path : Path
        File or folder.
    kind : {"video", "array", "images"}
        "images": every image is a stimulus of its own; frame k is shown for `frame_s`.
    frame_time_s : ndarray of float64, (n_frames,)
        Presentation times, strictly increasing, first 0.
    duration_s : float
        End of the last frame.
    width, height : int
        Size as displayed: after rotation, with square pixels.
    digest : str
        SHA-256 of the file's bytes and of every option that changes what the frames are.
    start_s : float
        The file's own time of the first frame.
    sound_lead_s : float
        How much earlier than the first frame the file's sound begins; 0 where it does not.
    rotation : {0, 90, 180, 270}
        Degrees, counter-clockwise, by which stored frames are turned for display.
    axes : {"tyx", "txy"}
        Order of an array's axes; a colour axis, where there is one, is last.
    value_range : (float, float), optional
        An array's values for black and white.
    """

    name: str
    path: Path
    kind: Kind
    frame_time_s: np.ndarray
    duration_s: float
    width: int
    height: int
    digest: str
    start_s: float = 0.0
    sound_lead_s: float = 0.0
    rotation: int = 0
    axes: str = "tyx"
    value_range: tuple[float, float] | None = None

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self.frame_time_s)

    @property
    def frame_interval_s(self) -> float:
        """Time between frames: the mean where the rate is constant, else the median.

        Containers round times (Matroska to milliseconds); the mean over the movie undoes that.
        """
        if self.n_frames == 1:
            return self.duration_s
        intervals_s = np.diff(self.frame_time_s)
        mean_s = float(self.frame_time_s[-1]) / (self.n_frames - 1)
        is_constant = np.abs(intervals_s - mean_s).max() <= max(ROUNDED_TIMES_S, 0.01 * mean_s)
        return mean_s if is_constant else float(np.median(intervals_s))

    @property
    def fps_hz(self) -> float:
        """Frames per second: the inverse of `frame_interval_s`."""
        return 1.0 / self.frame_interval_s
