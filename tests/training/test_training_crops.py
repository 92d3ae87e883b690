"""Crops, true flow in other sizes, and Middlebury's files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from brainsim.core.errors import InputFileError
from brainsim.models.inputs import scale, show
from brainsim.models.rows import InputSpec
from brainsim.stimuli import open_stimulus, write_video
from brainsim.training.crops import CROP_SHARE, crop_at_random, decoded_size
from brainsim.training.flow_truth import read_flo, read_truth, resize_flow
from brainsim.training.windows import Source


def ramps(n: int, n_frames: int, side: int) -> torch.Tensor:
    """Return frames whose red is x and whose green is y, from -1 at one edge to 1 at the other."""
    place = (torch.arange(side) + 0.5) / side * 2 - 1
    x, y = place.expand(side, side), place[:, None].expand(side, side)
    return torch.stack([x, y, torch.zeros_like(x)]).expand(n, n_frames, 3, side, side)


def test_a_crop_is_the_same_for_all_frames_and_lies_inside_the_decoded_frame() -> None:
    frames = ramps(40, 3, 64)
    crops = crop_at_random(frames, (56, 56), rng=np.random.default_rng(0), flips=True)
    assert crops.shape == (40, 3, 3, 56, 56)
    assert torch.equal(crops[:, 0], crops[:, 2])
    x, y = crops[:, 0, 0], crops[:, 0, 1]
    sides = (y[:, -1, 0] - y[:, 0, 0]) / (2 * 55 / 56)  # as a share of the frame
    assert float(sides.min()) >= CROP_SHARE[0] - 0.01
    assert float(sides.max()) <= CROP_SHARE[1] + 0.01
    is_mirrored = x[:, 0, 0] > x[:, 0, -1]
    assert 10 < int(is_mirrored.sum()) < 30
    assert float(x.abs().max()) <= 1
    unflipped = crop_at_random(frames, (56, 56), rng=np.random.default_rng(0), flips=False)
    assert bool((unflipped[:, 0, 0, 0, 0] < unflipped[:, 0, 0, 0, -1]).all())


def test_bytes_become_what_extraction_shows() -> None:
    from brainsim.models.loading import load_model

    rng = np.random.default_rng(0)
    model = load_model("cnn-static-object-tiny")
    frames = rng.integers(0, 256, (2, 1, 64, 64, 3), dtype=np.uint8)
    shown = show(scale(frames, model.input, torch.device("cpu")), model.input)
    assert torch.equal(shown, model.prepare(frames))
    stacked = InputSpec(n_frames=3, size=(8, 8), layout="stacked")
    clips = rng.integers(0, 256, (2, 3, 8, 8, 3), dtype=np.uint8)
    expected = np.moveaxis(clips, -1, 1).reshape(2, 9, 8, 8) / 255
    np.testing.assert_allclose(show(scale(clips, stacked, torch.device("cpu")), stacked), expected, rtol=1e-6)


def test_frames_are_decoded_at_256_px_for_224() -> None:
    assert decoded_size((224, 224)) == (256, 256)


def test_flow_in_another_size_is_cropped_as_frames_are_and_its_lengths_scale() -> None:
    flow = torch.zeros(1, 2, 40, 80)
    flow[:, 0] = torch.linspace(0, 79, 80)  # u grows with x
    half = resize_flow(flow, (20, 20))
    assert half.shape == (1, 2, 20, 20)
    # The centre 40 columns, 20 to 59, at half the size: lengths halve.
    np.testing.assert_allclose(half[0, 0, 0, 5].item(), (20 + 2 * 5 + 0.5) / 2, atol=1e-4)
    assert torch.equal(resize_flow(flow, (40, 80)), flow)


def test_truth_of_a_window_is_read_and_a_wrong_shape_is_named(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", [np.zeros((16, 32, 3), np.uint8)] * 6, 25)
    source = Source(open_stimulus(tmp_path / "a.mp4"), 0, "a")
    assert read_truth(source, 0, 2, (16, 32)) is None
    flow = np.random.default_rng(0).normal(size=(5, 16, 32, 2)).astype(np.float32)
    np.save(tmp_path / "a.flow.npy", flow)
    found = read_truth(source, 2, 3, (16, 32))
    assert found is not None
    np.testing.assert_array_equal(found.numpy(), flow[2:5].transpose(0, 3, 1, 2))
    write_video(tmp_path / "b.mp4", [np.zeros((16, 32, 3), np.uint8)] * 6, 25)
    np.save(tmp_path / "b.flow.npy", flow[:4])
    with pytest.raises(InputFileError, match=r"\(4, 16, 32, 2\); the flow of its clip has \(5, 16, 32, 2\)"):
        read_truth(Source(open_stimulus(tmp_path / "b.mp4"), 0, "b"), 0, 2, (16, 32))


def test_middlebury_files_are_read_and_damaged_ones_refused(tmp_path: Path) -> None:
    flow = np.random.default_rng(0).normal(size=(3, 5, 2)).astype("<f4")
    path = tmp_path / "flow.flo"
    path.write_bytes(np.float32(202021.25).tobytes() + np.array([5, 3], "<i4").tobytes() + flow.tobytes())
    np.testing.assert_array_equal(read_flo(path), flow)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputFileError, match="holds 29 numbers for 5 x 3 px"):
        read_flo(path)
    path.write_bytes(b"RIFF" + bytes(20))
    with pytest.raises(InputFileError, match=r"no \.flo file"):
        read_flo(path)


def test_zero_flow_of_rubberwhale_has_the_published_error(shared_dir: Path) -> None:
    path = shared_dir / "data" / "rubberwhale" / "flow_gt.flo"
    if not path.exists():
        pytest.skip("no RubberWhale in the folder of real data")
    flow = read_flo(path)
    known = (np.abs(flow) < 1e9).all(axis=-1)
    assert float(np.linalg.norm(flow[known], axis=-1).mean()) == pytest.approx(1.26, abs=0.005)
