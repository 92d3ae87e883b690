"""Turn video files into presentation times and frames, and frames into H.264 files, through PyAV."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from brainsim.core.errors import InputFileError, InvalidValueError
from brainsim.core.provenance import digest, digest_file
from brainsim.core.timing import SAME_TIME_S
from brainsim.stimuli.packets import read_packets
from brainsim.stimuli.stimulus import Stimulus

# x264's constant rate factor: 23 is its own default, visually near lossless for photographs.
DEFAULT_CRF = 23
# Containers seek by the order of decoding: a key frame this long before is surely before in the order of showing too.
SEEK_MARGIN_S = 5.0


@contextmanager
def _open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    try:
        container = av.open(str(path), mode="r")
    except (av.FFmpegError, ValueError) as error:
        raise InputFileError(
            f"{path} is no video that FFmpeg can open ({error}).",
            hint="a download that broke off, or another kind of file; play it, or convert it to H.264 in .mp4",
        ) from error
    with container:
        if not container.streams.video:
            raise InputFileError(f"{path} holds no video track; sound alone is no stimulus.")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        # FFmpeg's messages must not reach Python: a decoding thread that logs waits for Python's lock, and who closes
        # the decoder holds that lock and waits for the thread. Importing some versions of torchvision turns them on.
        av.logging.set_level(None)
        try:
            yield container, stream
        finally:
            av.logging.set_level(None)


def open_video(path: Path, *, name: str) -> Stimulus:
    """Read a video's presentation times without decoding it (only the first frame is decoded).

    Times come from the packets, sorted; edit lists, B-frames, variable rates and clocks that do not start at 0 are
    respected. Frames that precede the first key frame in presentation order cannot be decoded and do not count.

    Raises
    ------
    InputFileError
        No video, no presentation times, a file that is cut off or lacks frames, a rotation that is no quarter turn.
    """
    with _open_video(path) as (container, stream):
        aspect = float(stream.sample_aspect_ratio or 1)
        packets = read_packets(path, container, stream)
    pts = np.unique(np.asarray(packets.times_s, np.float64))
    first_key = min(packets.key_times_s) if packets.key_times_s else pts[0]
    pts = pts[pts >= first_key - SAME_TIME_S]
    frame = _decode_first(path)
    width, height = round(frame.width * aspect), frame.height
    rotation = _quarter_turns(path, frame)
    if rotation in (90, 270):
        width, height = height, width
    return Stimulus(
        name=name,
        path=path,
        kind="video",
        frame_time_s=pts - pts[0],
        duration_s=float(max(packets.ends_s) - pts[0]),
        width=width,
        height=height,
        digest=digest({"file": digest_file(path)}),
        start_s=float(pts[0]),
        sound_lead_s=max(0.0, float(pts[0]) - packets.sound_s) if packets.sound_s is not None else 0.0,
        rotation=rotation,
    )


def iter_video(stimulus: Stimulus, wanted: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Decode a video once, from its start or a key frame well before the first wanted frame, and yield those wanted.

    Parameters
    ----------
    stimulus : Stimulus
        From `open_video`.
    wanted : ndarray of bool, (n_frames,)
        Frames to convert to RGB; decoding stops after the last one.

    Yields
    ------
    index : int
        Which frame; increasing.
    frame : ndarray of uint8, (height, width, 3)
        Upright, stored pixels (a display of non-square pixels is made by the resize).

    Raises
    ------
    InputFileError
        Where the decoder fails, skips a frame or conceals damage: the message says which and when. H.264 carries no
        checksums, so about a third of single-byte flips still decode to a wrong picture unnoticed; the stimulus's
        digest tells two such files apart.
    """
    if not wanted.any():
        return
    first = int(np.flatnonzero(wanted)[0])
    if stimulus.frame_time_s[first] > 2 * SEEK_MARGIN_S:
        with _open_video(stimulus.path) as (container, stream):
            found = _seek(container, stream, stimulus, first)
            if found is not None:
                yield from _take_wanted(stimulus, wanted, *found)
                return
    with _open_video(stimulus.path) as (container, stream):
        yield from _take_wanted(stimulus, wanted, container.decode(stream), 0)


def _take_wanted(
    stimulus: Stimulus, wanted: np.ndarray, frames: Iterator[VideoFrame], expected: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the wanted frames as RGB; every frame from `expected` on must come, in order."""
    last = int(np.flatnonzero(wanted)[-1])
    begins_at_s = stimulus.frame_time_s[expected] - SAME_TIME_S
    reformatter = VideoReformatter()  # kept: a fresh one per frame costs more than the decoding
    try:
        for frame in frames:
            if frame.pts is None or frame.time is None:
                continue
            time_s = frame.time - stimulus.start_s
            if time_s < begins_at_s:
                continue
            index = int(np.searchsorted(stimulus.frame_time_s, time_s - SAME_TIME_S))
            if index != expected or abs(stimulus.frame_time_s[index] - time_s) > SAME_TIME_S:
                break
            if frame.is_corrupt:
                raise _decoding_error(stimulus, index, "its data are damaged and the decoder guessed the picture")
            if wanted[index]:
                yield index, _to_rgb(reformatter.reformat(frame, format="rgb24"), stimulus.rotation)
            expected += 1
            if index == last:
                return
    except av.FFmpegError as error:
        raise _decoding_error(stimulus, expected, str(error)) from error
    raise _decoding_error(stimulus, expected, "the decoder skipped it")


def _seek(
    container: InputContainer, stream: VideoStream, stimulus: Stimulus, first: int
) -> tuple[Iterator[VideoFrame], int] | None:
    """Return the frames from a key frame well before the first wanted one, and that key frame's index.

    None where that cannot be had: then everything is decoded. Frames that are stored after a key frame and shown before
    it may lean on what was not decoded; they are left out, because counting begins with the key frame.
    """
    if not stream.time_base:
        return None
    target_s = stimulus.frame_time_s[first] - SEEK_MARGIN_S + stimulus.start_s
    try:
        container.seek(int(target_s / stream.time_base), stream=stream)
        frames = container.decode(stream)
        for frame in frames:
            if not frame.key_frame or frame.time is None:
                continue
            time_s = frame.time - stimulus.start_s
            index = int(np.searchsorted(stimulus.frame_time_s, time_s - SAME_TIME_S))
            if index > first or abs(stimulus.frame_time_s[index] - time_s) > SAME_TIME_S:
                return None
            return chain([frame], frames), index
    except av.FFmpegError:
        return None
    return None


def write_video(
    path: Path | str,
    frames: Iterable[np.ndarray],
    fps_hz: float | Fraction,
    *,
    crf: int = DEFAULT_CRF,
    preset: str = "veryfast",
    pixel_format: Literal["yuv420p", "yuv444p"] = "yuv420p",
) -> int:
    """Write frames as H.264 with B-frames; the same frames give the same bytes (one encoder thread).

    Parameters
    ----------
    path : path
        Where to write; the suffix picks the container. Replaced only when the whole file is written.
    frames : iterable of uint8, (height, width, 3)
        RGB frames of one size.
    fps_hz : float or Fraction
        Frame rate in Hz; 29.97 is best given as Fraction(30000, 1001).
    crf : int
        x264's constant rate factor, 0 (lossless) to 51.
    preset : str
        x264's speed preset.
    pixel_format : {"yuv420p", "yuv444p"}
        4:2:0 needs an even width and height.

    Returns
    -------
    int
        Number of frames written.
    """
    path = Path(path)
    rate = Fraction(fps_hz).limit_denominator(1_001_000)
    if rate <= 0:
        raise InvalidValueError(f"fps_hz is {float(fps_hz):g}; it must be above 0 Hz.")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    n_frames = 0
    try:
        with av.open(str(partial), mode="w") as container:
            stream = container.add_stream("libx264", rate=rate)
            stream.codec_context.thread_count = 1
            stream.pix_fmt = pixel_format
            stream.options = {"crf": str(crf), "preset": preset, "bf": "3"}
            for image in frames:
                height, width = image.shape[:2]
                if n_frames == 0:
                    _check_size(width, height, pixel_format)
                    stream.width, stream.height = width, height
                elif (width, height) != (stream.width, stream.height):
                    raise InvalidValueError(
                        f"frame {n_frames} is {width} x {height} px, the first {stream.width} x {stream.height} px; "
                        "all frames must have one size."
                    )
                frame = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
                frame.pts, frame.time_base = n_frames, 1 / rate
                container.mux(stream.encode(frame))
                n_frames += 1
            if n_frames == 0:
                raise InvalidValueError(f"no frames to write to {path}; at least 1 is needed.")
            container.mux(stream.encode(None))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return n_frames


def _check_size(width: int, height: int, pixel_format: str) -> None:
    if pixel_format == "yuv420p" and (width % 2 or height % 2):
        raise InvalidValueError(f"frames of {width} x {height} px; H.264 in 4:2:0 needs an even width and height.")


def _decode_first(path: Path) -> VideoFrame:
    with _open_video(path) as (container, stream):
        try:
            for frame in container.decode(stream):
                return frame
        except av.FFmpegError as error:
            raise InputFileError(f"{path}: the first frame cannot be decoded ({error}).") from error
    raise InputFileError(f"{path} holds a video track of which no frame can be decoded.")


def _quarter_turns(path: Path, frame: VideoFrame) -> int:
    rotation = round(frame.rotation) % 360
    if rotation % 90:
        raise InputFileError(
            f"{path} asks to be shown rotated by {rotation} degrees; 0, 90, 180 and 270 are handled.",
            hint="re-encode it upright with ffmpeg",
        )
    return rotation


def _to_rgb(frame: VideoFrame, rotation: int) -> np.ndarray:
    image: np.ndarray = frame.to_ndarray()
    return np.ascontiguousarray(np.rot90(image, rotation // 90)) if rotation else image


def _decoding_error(stimulus: Stimulus, index: int, why: str) -> InputFileError:
    index = min(index, stimulus.n_frames - 1)
    return InputFileError(
        f"{stimulus.path}: frame {index} of {stimulus.n_frames} (at {stimulus.frame_time_s[index]:.3f} s) cannot be "
        f"decoded ({why}).",
        hint="the file is damaged or cut off; copy it again, or re-encode it",
    )
