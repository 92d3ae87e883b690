"""Loading: seeds, digests, devices, what frames are refused, and what untrained networks make of real images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from models_fakes import noise_frames

from brainsim.core.errors import CheckpointError, DeviceError, InputFileError, InvalidValueError, UnknownNameError
from brainsim.models import MODELS, load_model, weights_key
from brainsim.stimuli.moving import render_moving_photographs

TINY = [name for name in MODELS if name.endswith("-tiny")]


@pytest.mark.parametrize("name", TINY)
def test_untrained_layers_change_over_a_natural_movie_and_neither_vanish_nor_explode(name: str) -> None:
    model = load_model(name)
    shown = model.input
    movie = np.stack(list(render_moving_photographs(0, 1, duration_s=6, width=64, height=64)))
    ends = np.linspace(shown.n_frames * shown.frame_stride, len(movie) - 1, 6).astype(int)
    clips = np.stack([movie[e - shown.frame_stride * np.arange(shown.n_frames)[::-1]] for e in ends])
    for layer, values in model.activations(clips).items():
        flat = values.flatten(1)
        assert torch.isfinite(flat).all(), layer
        scale = float(flat.square().mean().sqrt())
        assert 0.05 < scale < 500, layer
        # At least a twentieth of a layer's size is change over time, in at least half of its features.
        deviation = flat.std(dim=0)
        assert float(deviation.square().mean().sqrt()) > 0.05 * scale, layer
        assert float((deviation > 1e-3 * scale).float().mean()) > 0.5, layer


def test_same_seed_gives_the_same_bits_and_leaves_torchs_generator_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = load_model("videomae-base-tiny", seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second = load_model("videomae-base-tiny", seed=5)
    frames = noise_frames(first.input)
    a, b = first.activations(frames), second.activations(frames)
    assert all(torch.equal(a[t], b[t]) for t in a)
    assert first.weights_digest == second.weights_digest


def test_another_seed_and_another_system_give_other_weights() -> None:
    one, other = load_model("mae-base-tiny", seed=0), load_model("mae-base-tiny", seed=1)
    assert one.weights_digest != other.weights_digest
    frames = noise_frames(one.input)
    layer = "blocks.0.mlp.fc2"
    a, b = (m.activations(frames, [layer])[layer].flatten().numpy() for m in (one, other))
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.1
    pair = [
        load_model(n).network.module.state_dict()["conv1.weight"]
        for n in ("cnn-static-object-tiny", "cnn-static-action-tiny")
    ]
    assert not torch.equal(*pair)


def test_loaded_network_is_in_eval_mode_without_gradients() -> None:
    model = load_model("cnn-flow-action-tiny")
    assert not any(m.training for m in model.network.module.modules())
    assert not any(p.requires_grad for p in model.network.module.parameters())
    assert not model.activations(noise_frames(model.input))["flow_classifier.conv1"].requires_grad


def test_activations_of_a_read_only_array_leave_it_unchanged() -> None:
    model = load_model("cnn-static-object-tiny")
    frames = noise_frames(model.input)
    before = frames.copy()
    frames.setflags(write=False)
    model.activations(frames)
    assert np.array_equal(frames, before)


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((1, 15, 64, 64, 3), np.uint8),
        np.zeros((1, 16, 64, 64, 3), np.float32),
        np.zeros((1, 16, 32, 64, 3), np.uint8),
        np.zeros((16, 64, 64, 3), np.uint8),
        np.zeros((0, 16, 64, 64, 3), np.uint8),
    ],
)
def test_frames_of_another_count_dtype_or_size_are_refused(frames: np.ndarray) -> None:
    with pytest.raises(InvalidValueError, match=r"videomae-base-tiny was given frames of .* it takes uint8"):
        load_model("videomae-base-tiny").activations(frames)


def test_unknown_model_layer_and_device_are_named() -> None:
    with pytest.raises(UnknownNameError, match="videomae-base"):
        load_model("videomae-bse")
    with pytest.raises(UnknownNameError, match=r"blocks\.0\.mlp\.fc2"):
        load_model("mvd-base-tiny").activations(noise_frames(MODELS["mvd-base-tiny"].input), ["blocks.0.mlp.fc3"])
    with pytest.raises(DeviceError, match="'gpu'"):
        load_model("mvd-base-tiny", device="gpu")


def test_rows_without_public_weights_ask_for_a_file_at_once() -> None:
    for name in ("mvd-base", "cnn-static-action", "cnn-flow-selfsup", "cnn-flow-action", "mae-base-finetuned"):
        with pytest.raises(CheckpointError, match="a file is needed") as caught:
            weights_key(name)
        assert "--checkpoint" in str(caught.value.hint)


def test_weights_key_tells_weights_networks_and_masks_apart(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(b"some weights")
    keys = [
        weights_key("mae-base"),
        weights_key("mae-base", random_weights=True),
        weights_key("mae-base", random_weights=True, seed=1),
        weights_key("mae-base", checkpoint=file),
        weights_key("mae-base", protocol="study"),
        weights_key("mae-base", protocol="study", seed=1),
        weights_key("mae-base-tiny"),
        weights_key("pixels"),
    ]
    assert all(a != b for i, a in enumerate(keys) for b in keys[:i])
    # A seed that draws nothing is no part of the key; a moved file is the same file.
    assert weights_key("mae-base", seed=1) == weights_key("mae-base")
    assert weights_key("mae-base", checkpoint=file.rename(tmp_path / "other.pth")) == keys[3]


def test_contradictory_and_absent_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="both given"):
        weights_key("mae-base", checkpoint=tmp_path / "x.pth", random_weights=True)
    with pytest.raises(InputFileError, match="no checkpoint at"):
        weights_key("mae-base", checkpoint=tmp_path / "x.pth")
    with pytest.raises(InputFileError, match=r"neither model\.safetensors"):
        weights_key("mae-base", checkpoint=tmp_path)
    with pytest.raises(InvalidValueError, match="pixels has no weights"):
        weights_key("pixels", checkpoint=tmp_path)
