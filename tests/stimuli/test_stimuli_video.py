"""Videos open by presentation times, decode exactly, and say what is wrong with them."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import PictureType, VideoFrame

from brainsim.core.errors import InputFileError, InvalidValueError
from brainsim.stimuli import Stimulus, iter_frames, open_stimulus, render_moving_photographs, write_video

SIZE = (48, 64)


def numbered_frames(n: int, size: tuple[int, int] = SIZE) -> list[np.ndarray]:
    """Frames that carry their own number as eight black or white stripes: it survives lossy coding."""
    frames = []
    for index in range(n):
        bits = np.array([(index >> bit) & 1 for bit in range(8)])
        row = np.repeat(bits, size[1] // 8) * 255
        row = np.pad(row, (0, size[1] - len(row)))
        frames.append(np.broadcast_to(row[None, :, None], (*size, 3)).astype(np.uint8))
    return frames


def read_number(frame: np.ndarray) -> int:
    stripes = frame.mean(axis=(0, 2)).reshape(8, -1).mean(axis=1) > 127
    return int((stripes * 2 ** np.arange(8)).sum())


def decode_numbers(stimulus: Stimulus, size: tuple[int, int] = SIZE) -> list[tuple[int, int]]:
    wanted = {size: np.ones(stimulus.n_frames, bool)}
    return [(index, read_number(frames[size])) for index, frames in iter_frames(stimulus, wanted)]


def remux(
    source: Path, target: Path, *, options: dict[str, str] | None = None, shift_s: float = 0, rotation: int = 0
) -> Path:
    with av.open(str(source)) as box, av.open(str(target), "w", options=options or {}) as out:
        track = box.streams.video[0]
        copy = out.add_stream_from_template(track)
        if rotation:
            copy.set_display_rotation(rotation)
        for packet in box.demux(track):
            if packet.dts is None or packet.pts is None:
                continue
            shift = round(shift_s / packet.time_base)
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            packet.stream = copy
            out.mux(packet)
    return target


def write_at(path: Path, times_ms: Sequence[int], *, options: dict[str, str] | None = None) -> Path:
    """Write numbered frames at the given times (a variable rate)."""
    with av.open(str(path), "w") as out:
        track = out.add_stream("libx264", rate=25)
        track.width, track.height, track.pix_fmt = SIZE[1], SIZE[0], "yuv420p"
        track.options = options or {"bf": "3", "threads": "1"}
        track.codec_context.time_base = Fraction(1, 1000)
        for image, time_ms in zip(numbered_frames(len(times_ms)), times_ms, strict=True):
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            out.mux(track.encode(frame))
        out.mux(track.encode(None))
    return path


@pytest.fixture
def movie(tmp_path: Path) -> Path:
    write_video(tmp_path / "movie.mp4", numbered_frames(120), 24)
    return tmp_path / "movie.mp4"


def test_every_frame_decodes_once_in_order_at_its_presentation_time(movie: Path) -> None:
    with av.open(str(movie)) as box:
        kinds = {PictureType(frame.pict_type) for frame in box.decode(video=0)}
    assert PictureType.B in kinds  # or the test would not see reordering
    stimulus = open_stimulus(movie)
    assert (stimulus.name, stimulus.kind, stimulus.width, stimulus.height) == ("movie", "video", 64, 48)
    np.testing.assert_allclose(stimulus.frame_time_s, np.arange(120) / 24, atol=1e-9)
    assert stimulus.duration_s == pytest.approx(5.0)
    assert stimulus.fps_hz == pytest.approx(24.0)
    assert decode_numbers(stimulus) == [(i, i) for i in range(120)]


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(24000, 1001), 25, 12.5])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_frame_rates_survive_containers_that_round_times(tmp_path: Path, rate: Fraction | float, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    write_video(path, numbered_frames(90), rate)
    stimulus = open_stimulus(path)
    assert stimulus.fps_hz == pytest.approx(float(rate), rel=2e-3)
    np.testing.assert_allclose(stimulus.frame_time_s, np.arange(90) / float(rate), atol=1.1e-3)
    assert [n for _, n in decode_numbers(stimulus)] == list(range(90))


def test_a_clock_that_does_not_start_at_zero_is_taken_off(movie: Path, tmp_path: Path) -> None:
    late = open_stimulus(remux(movie, tmp_path / "late.ts", shift_s=7.25))
    assert late.start_s > 7
    np.testing.assert_allclose(late.frame_time_s, np.arange(120) / 24, atol=1e-4)
    assert [n for _, n in decode_numbers(late)] == list(range(120))


def test_a_variable_frame_rate_keeps_its_times(tmp_path: Path) -> None:
    times_ms = np.cumsum([0, *itertools.islice(itertools.cycle([40, 20, 100, 333, 41]), 39)])
    stimulus = open_stimulus(write_at(tmp_path / "vfr.mkv", times_ms.tolist()))
    np.testing.assert_allclose(stimulus.frame_time_s, times_ms / 1000, atol=1e-3)
    assert [n for _, n in decode_numbers(stimulus)] == list(range(40))


def test_frames_before_the_first_key_frame_do_not_count(tmp_path: Path) -> None:
    """A stream cut at an arbitrary packet, as from a recording, starts at its first key frame."""
    source = write_at(tmp_path / "gop.mkv", [i * 40 for i in range(120)], options={"g": "30", "bf": "3"})
    with av.open(str(source)) as box, av.open(str(tmp_path / "cut.mkv"), "w") as out:
        track = box.streams.video[0]
        copy = out.add_stream_from_template(track)
        for n, packet in enumerate(box.demux(track)):
            if n >= 17 and packet.dts is not None:
                packet.stream = copy
                out.mux(packet)
    stimulus = open_stimulus(tmp_path / "cut.mkv")
    numbers = [n for _, n in decode_numbers(stimulus)]
    assert numbers == list(range(120 - stimulus.n_frames, 120))
    assert 80 < stimulus.n_frames < 103  # 103 packets, some before the first key frame
    assert stimulus.start_s == pytest.approx((120 - stimulus.n_frames) * 0.04, abs=2e-3)


@pytest.mark.parametrize("size", [(49, 65), (33, 41)])
def test_odd_sizes_decode(tmp_path: Path, size: tuple[int, int]) -> None:
    write_video(tmp_path / "odd.mp4", numbered_frames(20, size), 25, pixel_format="yuv444p")
    stimulus = open_stimulus(tmp_path / "odd.mp4")
    assert (stimulus.height, stimulus.width) == size
    frames = [f[size] for _, f in iter_frames(stimulus, {size: np.ones(20, bool)})]
    expected = numbered_frames(20, size)
    assert max(np.abs(a.astype(float) - b).mean() for a, b in zip(frames, expected, strict=True)) < 8


def test_only_wanted_frames_are_converted_and_decoding_stops_after_the_last(movie: Path) -> None:
    stimulus = open_stimulus(movie)
    small = np.zeros(120, bool)
    large = np.zeros(120, bool)
    small[[3, 50]], large[[50, 51]] = True, True
    got = [(i, sorted(f)) for i, f in iter_frames(stimulus, {(6, 8): small, SIZE: large})]
    assert got == [(3, [(6, 8)]), (50, [(6, 8), SIZE]), (51, [SIZE])]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize("coding", ["closed", "open", "few key frames"])
def test_frames_late_in_a_movie_are_those_of_decoding_from_its_start(tmp_path: Path, suffix: str, coding: str) -> None:
    keys = {"closed": "keyint=24", "open": "keyint=24:open-gop=1", "few key frames": "keyint=999"}[coding]
    options = {"bf": "3", "threads": "1", "x264-params": f"{keys}:scenecut=0"}
    path = write_at(tmp_path / f"m{suffix}", [3500 + i * 125 for i in range(240)], options=options)  # 30 s
    stimulus = open_stimulus(path)
    assert stimulus.n_frames == 240
    every = dict(decode_numbers(stimulus))
    for first in (81, 100, 143, 200, 239):
        wanted = np.arange(240) >= first
        wanted[first + 1 :: 2] = False
        found = {i: read_number(f[SIZE]) for i, f in iter_frames(stimulus, {SIZE: wanted})}
        assert found == {i: every[i] for i in np.flatnonzero(wanted)}


def test_late_frames_are_reached_without_decoding_what_is_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from brainsim.stimuli import video

    path = write_at(tmp_path / "m.mp4", [i * 125 for i in range(240)], options={"g": "24", "threads": "1"})
    stimulus = open_stimulus(path)
    begun = []

    def watch(stimulus: Stimulus, wanted: np.ndarray, frames: Any, expected: int) -> Any:
        begun.append(expected)
        return take(stimulus, wanted, frames, expected)

    take = video._take_wanted
    monkeypatch.setattr(video, "_take_wanted", watch)
    list(iter_frames(stimulus, {SIZE: np.arange(240) >= 200}))
    assert begun[0] > 100


def test_sound_beside_the_film_changes_nothing(movie: Path, tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(movie)) as box, av.open(str(path), "w") as out:
        copy, sound = out.add_stream_from_template(box.streams.video[0]), out.add_stream("aac", rate=48_000)
        for packet in box.demux(box.streams.video[0]):
            if packet.dts is not None:
                packet.stream = copy
                out.mux(packet)
        for block in range(300):  # 6.4 s: longer than the film
            samples = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
            samples.sample_rate, samples.pts = 48_000, block * 1024
            out.mux(sound.encode(samples))
        out.mux(sound.encode(None))
    stimulus = open_stimulus(path)
    assert stimulus.duration_s == pytest.approx(5.0)
    np.testing.assert_allclose(stimulus.frame_time_s, np.arange(120) / 24, atol=1e-6)
    assert decode_numbers(stimulus) == [(i, i) for i in range(120)]


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotated_video_is_shown_upright(movie: Path, tmp_path: Path, rotation: int) -> None:
    stimulus = open_stimulus(remux(movie, tmp_path / "turned.mp4", rotation=rotation))
    assert stimulus.rotation in (90, 180, 270)
    plain = open_stimulus(movie)
    one = np.arange(120) == 37
    upright = next(iter_frames(plain, {SIZE: one}))[1][SIZE]
    size = (stimulus.height, stimulus.width)
    turned = next(iter_frames(stimulus, {size: one}))[1][size]
    with av.open(str(tmp_path / "turned.mp4")) as box:
        turns = round(next(box.decode(video=0)).rotation / 90)
    np.testing.assert_array_equal(turned, np.rot90(upright, turns))


def test_a_rotation_that_is_no_quarter_turn_is_refused(movie: Path, tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=r"rotated by \d+ degrees"):
        open_stimulus(remux(movie, tmp_path / "tilted.mp4", rotation=30))


def cut_off(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    return path


def test_a_truncated_file_names_frames_found_and_promised(movie: Path, tmp_path: Path) -> None:
    short = cut_off(remux(movie, tmp_path / "short.mp4", options={"movflags": "faststart"}))
    with pytest.raises(InputFileError, match=r"holds \d+ frames; its header says 120") as error:
        open_stimulus(short)
    assert error.value.hint is not None


def test_a_truncated_file_without_a_frame_count_names_seconds(tmp_path: Path) -> None:
    path = cut_off(write_at(tmp_path / "short.mkv", [i * 40 for i in range(120)], options={"g": "10"}))
    with pytest.raises(InputFileError, match=r"holds \d+ frames up to .* s; its header says 4.80 s"):
        open_stimulus(path)


def test_a_file_without_its_index_cannot_be_opened(movie: Path) -> None:
    with pytest.raises(InputFileError, match="no video that FFmpeg can open"):
        open_stimulus(cut_off(movie))


def test_damage_inside_the_film_names_the_frame(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = (rng.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(40))
    path = tmp_path / "m.mp4"
    write_video(path, frames, 24)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = rng.bytes(3000)
    path.write_bytes(data)
    stimulus = open_stimulus(path)
    with pytest.raises(InputFileError, match=r"frame \d+ of 40 \(at .* s\) cannot be decoded"):
        list(iter_frames(stimulus, {(8, 8): np.ones(40, bool)}))


def write_text(path: Path) -> None:
    path.write_text("no movie")


def write_sound(path: Path) -> None:
    with av.open(str(path), "w", format="wav") as out:
        track = out.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        out.mux(track.encode(frame))
        out.mux(track.encode(None))


def write_raw(path: Path) -> None:
    with av.open(str(path), "w", format="h264") as out:
        track = out.add_stream("libx264", rate=25)
        track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
        for image in numbered_frames(10):
            out.mux(track.encode(VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        out.mux(track.encode(None))


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("text.mp4", write_text, "no video that FFmpeg can open"),
        ("sound.wav", write_sound, "holds no video track"),
        ("raw.h264", write_raw, "without presentation times"),
        ("empty.mp4", Path.touch, "no video that FFmpeg can open"),
    ],
)
def test_files_that_are_no_film_are_refused(
    tmp_path: Path, name: str, make: Callable[[Path], None], message: str
) -> None:
    make(tmp_path / name)
    with pytest.raises(InputFileError, match=message):
        open_stimulus(tmp_path / name)


def test_pixels_that_are_not_square_are_shown_in_their_display_shape(tmp_path: Path) -> None:
    path = tmp_path / "wide.mp4"
    with av.open(str(path), "w") as out:
        track = out.add_stream("libx264", rate=25)
        track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
        track.codec_context.sample_aspect_ratio = Fraction(2, 1)
        for image in numbered_frames(10):
            out.mux(track.encode(VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        out.mux(track.encode(None))
    stimulus = open_stimulus(path)
    assert (stimulus.width, stimulus.height) == (128, 48)
    # The whole picture, then, and not a crop of it, fills 48 x 128.
    frame = next(iter_frames(stimulus, {(48, 128): np.arange(10) == 5}))[1][(48, 128)]
    assert read_number(frame) == 5


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        assert write_video(tmp_path / name, render_moving_photographs(0, 1, duration_s=2), 24) == 48
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert open_stimulus(tmp_path / "a.mp4").digest == open_stimulus(tmp_path / "b.mp4").digest


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "no frames to write"),
        ([np.zeros((33, 40, 3), np.uint8)], "even width and height"),
        ([np.zeros((32, 40, 3), np.uint8), np.zeros((40, 32, 3), np.uint8)], "frame 1 is 32 x 40 px"),
    ],
)
def test_frames_that_cannot_be_written_leave_no_file(tmp_path: Path, frames: list[np.ndarray], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        write_video(tmp_path / "out.mp4", frames, 24)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "n_frames", "size"), [("bikes", 250, (640, 272)), ("bigbuckbunny", 132, (1280, 720))])
def test_real_movies_have_their_known_frames(shared_dir: Path, name: str, n_frames: int, size: tuple[int, int]) -> None:
    stimulus = open_stimulus(shared_dir / "data" / "video" / f"{name}.mp4")
    assert (stimulus.n_frames, stimulus.fps_hz, stimulus.width, stimulus.height) == (n_frames, 25.0, *size)
    indices = [i for i, _ in iter_frames(stimulus, {(18, 32): np.ones(n_frames, bool)})]
    assert indices == list(range(n_frames))


def test_messages_of_ffmpeg_cannot_lock_the_interpreter(tmp_path: Path) -> None:
    """Some versions of torchvision turn them on; a decoder that is closed early then waited for its threads forever."""
    path = tmp_path / "a.mp4"
    write_video(path, render_moving_photographs(0, 1, duration_s=6.0, fps_hz=12.0, width=320, height=240), 12.0)
    code = (
        "import av, sys\nimport numpy as np\nfrom pathlib import Path\n"
        "from brainsim.stimuli import iter_frames, open_stimulus\n"
        "for _ in range(20):\n"
        "    av.logging.set_level(av.logging.DEBUG)\n"
        "    stimulus = open_stimulus(Path(sys.argv[1]))\n"
        "    av.logging.set_level(av.logging.DEBUG)\n"
        "    frames = iter_frames(stimulus, {(24, 32): np.ones(72, bool)})\n    next(frames)\n    frames.close()\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=60)
