"""Files that are cut off are refused, whatever the container and the tracks beside the film; whole ones are taken."""

from __future__ import annotations

import re
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

from brainsim.commands.extract import extract
from brainsim.core.errors import InputFileError
from brainsim.stimuli import open_stimulus

N_FRAMES, RATE_HZ, SOUND_HZ = 100, 25, 44_100
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
DELAYED = {"movflags": "frag_keyframe+delay_moov+default_base_moof"}  # fragments, with an edit list before them
INDEXED = {"movflags": f"{FRAGMENTED['movflags']}+global_sidx"}


def write_film(
    path: Path, *, sound_s: float = 4.0, options: dict[str, str] | None = None, sound: str = "aac", late_s: float = 0
) -> Path:
    """Write 4 s of noise with B-frames, and noise to hear, interleaved as in real films."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", options=options or {}) as out:
        film = out.add_stream("libx264", rate=RATE_HZ)
        film.width, film.height, film.pix_fmt = 32, 32, "yuv420p"
        film.options = {"bf": "3", "g": "12", "threads": "1"}
        track = out.add_stream(sound, rate=SOUND_HZ, layout="mono") if sound_s else None
        heard = 0
        for index in range(N_FRAMES):
            frame = VideoFrame.from_ndarray(rng.integers(0, 255, (32, 32, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = index + round(late_s * RATE_HZ), Fraction(1, RATE_HZ)
            out.mux(film.encode(frame))
            now_s = sound_s if index == N_FRAMES - 1 else min((index + 1) / RATE_HZ, sound_s)
            if track is not None and (n := int(now_s * SOUND_HZ) - heard) > 0:
                samples = AudioFrame.from_ndarray(rng.normal(0, 0.1, (1, n)).astype(np.float32), "fltp", "mono")
                samples.sample_rate, samples.pts, samples.time_base = SOUND_HZ, heard, Fraction(1, SOUND_HZ)
                out.mux(track.encode(samples))
                heard += n
        for stream in out.streams:
            out.mux(stream.encode(None))
    return path


def cut(path: Path, n_bytes: int) -> Path:
    path.write_bytes(path.read_bytes()[:n_bytes])
    return path


def insert_length(path: Path, seconds: float) -> Path:
    """Put the length of all fragments into the header of a fragmented MP4 (mvex/mehd), as packagers do."""
    data = bytearray(path.read_bytes())
    units = struct.unpack(">I", data[(at := data.index(b"mvhd")) + 16 : at + 20])[0]
    box = struct.pack(">I4sII", 16, b"mehd", 0, round(seconds * units))
    for name in (b"moov", b"mvex"):
        at = data.index(name) - 4
        data[at : at + 4] = struct.pack(">I", struct.unpack(">I", data[at : at + 4])[0] + len(box))
    data[(at := data.index(b"mvex") + 4) : at] = box
    path.write_bytes(data)
    return path


WHOLE: dict[str, tuple[str, dict[str, Any]]] = {
    "sound a second longer": ("m.mkv", {"sound_s": 5.0}),
    "sound a second shorter": ("m.mkv", {"sound_s": 3.0}),
    "no sound": ("m.mkv", {"sound_s": 0}),
    "MKV from a pipe": ("m.mkv", {"options": {"live": "1"}}),
    "MP4": ("m.mp4", {"sound_s": 5.0}),
    "fragmented MP4": ("m.mp4", {"options": FRAGMENTED, "sound_s": 5.0}),
    "fragmented MP4, sound shorter": ("m.mp4", {"options": FRAGMENTED, "sound_s": 3.0}),
    "fragmented MP4 without sound": ("m.mp4", {"options": FRAGMENTED, "sound_s": 0}),
    "fragmented MP4 with an index": ("m.mp4", {"options": INDEXED, "sound_s": 5.0}),
    "fragments after a first part": ("m.mp4", {"options": {"movflags": "frag_keyframe"}}),
    "DASH": ("m.mp4", {"options": {"movflags": "dash+frag_keyframe"}, "sound_s": 0}),
    "MPEG-TS": ("m.ts", {}),
    "FLV": ("m.flv", {}),
    "AVI": ("m.avi", {"sound": "libmp3lame"}),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_film_is_taken_while_it_is_whole_whatever_else_is_in_it(tmp_path: Path, kind: str) -> None:
    name, words = WHOLE[kind]
    path = write_film(tmp_path / name, **words)
    stimulus = open_stimulus(path)
    assert stimulus.n_frames == N_FRAMES
    assert stimulus.duration_s == pytest.approx(4.0, abs=0.01)
    whole = path.read_bytes()
    for share in (0.8, 0.5):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(InputFileError, match=r"cut off|header says|no video that FFmpeg can open") as error:
            open_stimulus(path)
        assert str(path) in str(error.value)


def test_a_fragment_that_lacks_bytes_says_how_many(tmp_path: Path) -> None:
    path = write_film(tmp_path / "m.mp4", options=FRAGMENTED)
    last = path.read_bytes().rindex(b"mdat") - 4
    cut(path, last + 60)
    with pytest.raises(InputFileError, match=r"cut off .* after \d+ frames, at \d\.\d+ s: .*'mdat', lacks \d+ bytes"):
        open_stimulus(path)


@pytest.mark.parametrize("told", ["index", "header"])
def test_a_file_that_ends_between_two_fragments_lacks_what_it_announces(tmp_path: Path, told: str) -> None:
    path = write_film(tmp_path / "m.mp4", options=INDEXED if told == "index" else FRAGMENTED)
    if told == "header":
        insert_length(path, 4.0)
    assert open_stimulus(path).n_frames == N_FRAMES
    data = path.read_bytes()
    middle = [at for at in range(len(data)) if data[at : at + 4] == b"moof"][4] - 4
    with pytest.raises(InputFileError, match=r"holds 4\d frames up to .* s; its header says 4\.\d+ s"):
        open_stimulus(cut(path, middle))


def test_what_was_appended_to_a_whole_mp4_is_no_matter(tmp_path: Path) -> None:
    path = write_film(tmp_path / "m.mp4")
    path.write_bytes(path.read_bytes() + b"\xff" * 5 + b"signed by somebody")
    assert open_stimulus(path).n_frames == N_FRAMES


def test_sound_that_is_cut_off_shows_that_the_film_may_be_too(tmp_path: Path) -> None:
    """The last packet in the file is one of the sound: of the film nothing is incomplete."""
    path = write_film(tmp_path / "m.flv", sound_s=4.2)
    with pytest.raises(InputFileError, match="cut off"):
        open_stimulus(cut(path, path.stat().st_size - 40))


def mark_lost(path: Path, track: int) -> Path:
    """Set the error indicator, as receivers do, in one packet of a track of an MPEG-TS in the middle of the file."""
    data = bytearray(path.read_bytes())
    for at in range(len(data) // 2 // 188 * 188, len(data), 188):
        if (data[at + 1] & 0x1F) << 8 | data[at + 2] == track:
            data[at + 1] |= 0x80
            break
    path.write_bytes(data)
    return path


def test_a_recording_with_lost_frames_is_no_shorter_film(tmp_path: Path) -> None:
    path = mark_lost(write_film(tmp_path / "m.ts"), track=0x100)
    with pytest.raises(InputFileError, match=r"cut off or damaged after \d+ frames.*frame \d+ is incomplete"):
        open_stimulus(path)


def test_lost_sound_in_the_middle_of_a_recording_is_no_matter_of_the_film(tmp_path: Path) -> None:
    path = mark_lost(write_film(tmp_path / "m.ts"), track=0x101)
    assert open_stimulus(path).n_frames == N_FRAMES


@pytest.mark.parametrize(("name", "options"), [("m.mkv", {}), ("m.mp4", {}), ("m.mp4", DELAYED), ("m.ts", {})])
@pytest.mark.parametrize("late_s", [0.0, 1.2])
def test_a_film_that_begins_after_its_sound_is_told(
    tmp_path: Path, name: str, options: dict[str, str], late_s: float
) -> None:
    path = write_film(tmp_path / name, options=options, late_s=late_s)
    stimulus = open_stimulus(path)
    assert (stimulus.n_frames, stimulus.frame_time_s[0]) == (N_FRAMES, 0)
    assert stimulus.sound_lead_s == pytest.approx(late_s, abs=0.1)
    told = [text for text in extract(path, models=["pixels"], store=tmp_path / "s.zarr").warnings if "sound" in text]
    if late_s:
        assert re.search(rf"{name}: the film begins 1\.[12]\d* s after the sound, and clips are timed from", *told)
    else:
        assert told == []
