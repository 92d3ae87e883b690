"""Arrays and folders of images become RGB frames, or a sentence that says why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from brainsim.core.errors import InputFileError, InvalidValueError
from brainsim.stimuli import Stimulus, iter_frames, open_stimulus, resize_frame


def read_all(stimulus: Stimulus, size: tuple[int, int], *, resize: str = "crop") -> np.ndarray:
    wanted = {size: np.ones(stimulus.n_frames, bool)}
    return np.stack([frames[size] for _, frames in iter_frames(stimulus, wanted, resize=resize)])


@pytest.mark.parametrize("shape", [(4, 6, 8), (4, 6, 8, 1), (4, 6, 8, 3)])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_uint8_arrays_are_kept_as_they_are(tmp_path: Path, shape: tuple[int, ...], suffix: str) -> None:
    values = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    path = tmp_path / f"a{suffix}"
    np.save(path, values) if suffix == ".npy" else np.savez(path, movie=values)
    stimulus = open_stimulus(path, frame_s=0.1)
    assert (stimulus.kind, stimulus.n_frames, stimulus.height, stimulus.width) == ("array", 4, 6, 8)
    assert stimulus.duration_s == pytest.approx(0.4)
    expected = np.broadcast_to(values if values.ndim == 4 else values[..., None], (4, 6, 8, 3))
    np.testing.assert_array_equal(read_all(stimulus, (6, 8)), expected)


def test_floats_between_0_and_1_are_scaled_and_a_stated_range_is_obeyed(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 48, dtype=np.float32).reshape(1, 6, 8)
    np.save(tmp_path / "unit.npy", values)
    np.save(tmp_path / "nine.npy", values * 9)
    expected = np.repeat(np.rint(values * 255).astype(np.uint8)[..., None], 3, axis=3)
    unit = read_all(open_stimulus(tmp_path / "unit.npy", frame_s=1), (6, 8))
    nine = read_all(open_stimulus(tmp_path / "nine.npy", frame_s=1, value_range=(0, 9)), (6, 8))
    np.testing.assert_array_equal(unit, expected)
    np.testing.assert_array_equal(nine, expected)


def test_axes_in_the_other_order_are_turned(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (3, 8, 6), np.uint8)
    np.save(tmp_path / "a.npy", values)
    stimulus = open_stimulus(tmp_path / "a.npy", frame_s=1, axes="txy")
    assert (stimulus.height, stimulus.width) == (6, 8)
    np.testing.assert_array_equal(read_all(stimulus, (6, 8))[..., 0], np.swapaxes(values, 1, 2))


def test_every_option_that_changes_the_frames_changes_the_digest(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 8, 6)))
    options: list[dict[str, object]] = [
        {"frame_s": 1},
        {"frame_s": 2},
        {"frame_s": 1, "axes": "txy"},
        {"frame_s": 1, "value_range": (0, 2)},
    ]
    digests = {open_stimulus(tmp_path / "a.npy", **o).digest for o in options}  # type: ignore[arg-type]  # by keyword
    assert len(digests) == 4


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.zeros((3, 4, 4)), {}, "does not say how long each frame is shown"),
        (np.zeros((3, 4, 4)), {"frame_s": 0.0}, "frame_s is 0 s"),
        (np.full((3, 4, 4), 9.0), {"frame_s": 1.0}, "values from 9 to 9; 0 to 1 is allowed"),
        (np.full((3, 4, 4), -1.0), {"frame_s": 1.0}, "values from -1 to -1"),
        (np.full((3, 4, 4), 9.0), {"frame_s": 1.0, "value_range": (0, 5)}, "0 to 5 is allowed"),
        (np.zeros((3, 4, 4)), {"frame_s": 1.0, "value_range": (1, 1)}, "black"),
        (np.zeros((3, 4, 4), np.int64), {"frame_s": 1.0}, "uint8, or a stated range"),
        (np.zeros((3, 4, 4)), {"frame_s": 1.0, "axes": "xyt"}, "axes is 'xyt'"),
    ],
)
def test_values_and_options_that_mean_nothing_are_refused(
    tmp_path: Path, values: np.ndarray, options: dict[str, object], message: str
) -> None:
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(InvalidValueError, match=message):
        open_stimulus(tmp_path / "a.npy", **options)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((4, 4)), r"shape \(4, 4\)"),
        (np.zeros((2, 4, 4, 4)), r"shape \(2, 4, 4, 4\)"),
        (np.zeros((0, 4, 4)), r"shape \(0, 4, 4\)"),
        (np.full((2, 4, 4), np.nan), "not finite"),
        (np.zeros((2, 4, 4), complex), "complex"),
    ],
)
def test_arrays_that_are_no_movie_are_refused(tmp_path: Path, values: np.ndarray, message: str) -> None:
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(InputFileError, match=message):
        open_stimulus(tmp_path / "a.npy", frame_s=1)


def test_an_archive_needs_exactly_one_movie(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", movie=np.zeros((2, 4, 4)), times=np.zeros(2))
    assert open_stimulus(tmp_path / "one.npz", frame_s=1).n_frames == 2
    np.savez(tmp_path / "two.npz", a=np.zeros((2, 4, 4)), b=np.zeros((2, 4, 4)))
    with pytest.raises(InputFileError, match="exactly one"):
        open_stimulus(tmp_path / "two.npz", frame_s=1)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_a_damaged_array_is_a_named_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    np.save(path, np.zeros((20, 30, 30))) if suffix == ".npy" else np.savez(path, np.zeros((20, 30, 30)))
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(InputFileError, match="cannot be read as an array"):
        open_stimulus(path, frame_s=1)


def test_a_folder_of_images_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for grey in (30, 10, 20):
        Image.new("RGB", (8, 6), (grey,) * 3).save(folder / f"im{grey}.png")
    Image.new("RGBA", (12, 12), (200, 100, 50, 0)).save(folder / "z.png")
    (folder / "notes.txt").write_text("not an image")
    stimulus = open_stimulus(folder)
    assert (stimulus.name, stimulus.kind, stimulus.n_frames) == ("set", "images", 4)
    np.testing.assert_array_equal(read_all(stimulus, (6, 8))[:, 0, 0, 0], [10, 20, 30, 0])


def test_folders_and_files_that_hold_no_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="no stimulus at"):
        open_stimulus(tmp_path / "absent.mp4")
    with pytest.raises(InputFileError, match="folder without images"):
        open_stimulus(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(InputFileError, match=r"broken\.png cannot be read"):
        open_stimulus(tmp_path)
    with pytest.raises(InputFileError, match="single image"):
        open_stimulus(tmp_path / "broken.png")


def test_names_come_from_the_file_and_fit_the_store(tmp_path: Path) -> None:
    np.save(tmp_path / "my movie (1).npy", np.zeros((2, 4, 4)))
    assert open_stimulus(tmp_path / "my movie (1).npy", frame_s=1).name == "my-movie-1-"
    assert open_stimulus(tmp_path / "my movie (1).npy", frame_s=1, name="run-1").name == "run-1"
    with pytest.raises(InvalidValueError, match="stimulus name is 'a/b'"):
        open_stimulus(tmp_path / "my movie (1).npy", frame_s=1, name="a/b")


def test_cropping_keeps_the_centre_stretching_and_padding_the_whole() -> None:
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, 20:60] = 255
    np.testing.assert_array_equal(resize_frame(image, (20, 20))[:, 1:-1], 255)  # the edge blends with its neighbours
    stretched = resize_frame(image, (20, 20), resize="stretch")[:, :, 0]
    assert (stretched[:, 0] == 0).all()
    assert (stretched[:, 10] == 255).all()
    padded = resize_frame(image, (20, 20), resize="pad")[:, :, 0]
    assert (padded[:5] == 128).all()
    assert (padded[10, :3] == 0).all()
    assert padded[10, 10] == 255


def test_reducing_averages_instead_of_picking_pixels() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(resize_frame(stripes, (8, 8)).astype(float) - 127.5).max() < 6


def test_sizes_and_masks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 8, 6)))
    stimulus = open_stimulus(tmp_path / "a.npy", frame_s=1)
    with pytest.raises(InvalidValueError, match="resize is 'zoom'"):
        list(iter_frames(stimulus, {(4, 4): np.ones(3, bool)}, resize="zoom"))
    with pytest.raises(InvalidValueError, match=r"shape \(2,\)"):
        list(iter_frames(stimulus, {(4, 4): np.ones(2, bool)}))


def test_the_real_stimulus_of_szinte_opens_with_its_axes_and_range(shared_dir: Path) -> None:
    path = shared_dir / "data" / "szinte2024_v1" / "dm_gazecenter.npz"
    stimulus = open_stimulus(path, frame_s=1.317025, axes="txy", value_range=(0, 9))
    assert (stimulus.n_frames, stimulus.width, stimulus.height) == (150, 80, 45)
    with pytest.raises(InvalidValueError, match="--value-range 0,9"):
        open_stimulus(path, frame_s=1.317025)
