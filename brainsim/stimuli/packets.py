"""Turn a video file's packets into presentation times, without decoding, and refuse files that are cut off."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from brainsim.core.errors import InputFileError
from brainsim.stimuli.whole_files import find_cut, read_fragments_s

# A header's duration is rounded differently from the sum of its frames; more than this is missing film.
MISSING_FILM_S = 0.5
# Their "duration" is the last time in the file, cut off or not: it says nothing about what is missing.
WITHOUT_DURATION = ("mpegts", "mpeg")
# FFmpeg hands on a frame when the next one begins: so many come after data that lie behind them in the file.
N_HELD_FRAMES = 1


@dataclass
class Packets:
    """What the packets of a file say, all times in seconds of the file's own clock.

    Parameters
    ----------
    times_s, ends_s : list of float
        When each frame appears and disappears, in order of decoding.
    key_times_s : list of float
        When key frames appear.
    n_frames : int
        Frames found, also those that an edit list cuts away; counting ends at one that is damaged.
    first_s, last_s : float
        Begin and end of everything, sound and subtitles too.
    sound_s : float or None
        When the sound begins.
    broken_at : str or None
        What is incomplete.
    """

    times_s: list[float] = field(default_factory=list)
    ends_s: list[float] = field(default_factory=list)
    key_times_s: list[float] = field(default_factory=list)
    n_frames: int = 0
    first_s: float = float("inf")
    last_s: float = float("-inf")
    sound_s: float | None = None
    broken_at: str | None = None


def read_packets(path: Path, container: InputContainer, stream: VideoStream) -> Packets:
    """Read the packets of all tracks of a file that has just been opened, and check that none are missing.

    Raises
    ------
    InputFileError
        No frames, frames without times, frames that are damaged, or a file that is cut off.
    """
    found = Packets()
    base = stream.time_base or Fraction(1, av.time_base)
    rate = stream.average_rate or stream.guessed_rate
    usual_s = float(1 / rate) if rate else 0.0
    broken_after = None  # frames before the last damaged data of another track
    try:
        for packet in container.demux():
            if packet.size == 0:  # the flush packet at the end
                continue
            if packet.stream.index != stream.index:
                _add_other(found, packet)
                broken_after = found.n_frames if packet.is_corrupt else broken_after
            elif packet.is_corrupt:
                found.broken_at = f"frame {found.n_frames}"
                break
            else:
                _add_frame(found, packet, path, base, usual_s)
    except av.FFmpegError as error:
        raise InputFileError(f"{path} breaks off after {found.n_frames} frames ({error}).") from error
    if not found.times_s:
        raise InputFileError(f"{path} holds a video track without frames.")
    # Damage to the sound elsewhere is no matter of the film's.
    if found.broken_at is None and broken_after is not None and found.n_frames - broken_after <= N_HELD_FRAMES:
        found.broken_at = "the last of its sound or subtitles"
    _check_complete(path, container, stream, found)
    return found


def _add_frame(found: Packets, packet: Packet[Stream], path: Path, base: Fraction, usual_s: float) -> None:
    found.n_frames += 1
    if packet.is_discard:  # cut away by an edit list
        return
    if packet.pts is None:
        raise InputFileError(
            f"{path} has frames without presentation times (packet {found.n_frames}); times are never guessed.",
            hint="put the stream into a container: ffmpeg -r 25 -i IN -c copy OUT.mp4",
        )
    time_s = float(packet.pts * base)
    end_s = float((packet.pts + packet.duration) * base) if packet.duration else time_s + usual_s
    found.times_s.append(time_s)
    found.ends_s.append(end_s)
    if packet.is_keyframe:
        found.key_times_s.append(time_s)
    found.first_s, found.last_s = min(found.first_s, time_s), max(found.last_s, end_s)


def _add_other(found: Packets, packet: Packet[Stream]) -> None:
    if packet.pts is None or not packet.time_base or packet.is_discard:
        return
    time_s = float(packet.pts * packet.time_base)
    found.first_s = min(found.first_s, time_s)
    found.last_s = max(found.last_s, time_s + float((packet.duration or 0) * packet.time_base))
    if packet.stream.type == "audio":
        found.sound_s = time_s if found.sound_s is None else min(found.sound_s, time_s)


def _check_complete(path: Path, container: InputContainer, stream: VideoStream, found: Packets) -> None:
    """Raise where a count, a duration, the structure or the data themselves show that something is missing."""
    hint = "the file is cut off or damaged; copy or download it again"
    if stream.frames > found.n_frames:
        raise InputFileError(f"{path} holds {found.n_frames} frames; its header says {stream.frames}.", hint=hint)
    said_s = _said_s(path, container, stream)
    # Matroska says when the last track ends, others how long it all is.
    there_s = found.last_s - (0.0 if "matroska" in container.format.name else min(found.first_s, 0.0))
    if said_s - there_s > MISSING_FILM_S:
        raise InputFileError(
            f"{path} holds {found.n_frames} frames up to {max(found.ends_s):.2f} s, and nothing after {there_s:.2f} s; "
            f"its header says {said_s:.2f} s.",
            hint=hint,
        )
    why = find_cut(path, container.format.name)
    if why is None and found.broken_at is not None:
        why = f"{found.broken_at} is incomplete"
    if why is not None:
        raise InputFileError(
            f"{path} is cut off or damaged after {found.n_frames} frames, at {max(found.ends_s):.2f} s: {why}.",
            hint=hint,
        )


def _said_s(path: Path, container: InputContainer, stream: VideoStream) -> float:
    """Return how long a file says it is; 0 where it does not say so, or counts its frames instead."""
    kinds = container.format.name.split(",")
    said_s = (container.duration or 0) / av.time_base
    if "mp4" in kinds:
        fragments_s = read_fragments_s(path)
        return 0.0 if fragments_s is None else max(said_s, fragments_s)
    return 0.0 if stream.frames or set(kinds) & set(WITHOUT_DURATION) else said_s
