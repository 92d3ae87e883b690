"""Taps: what their axes stand for, which can be chosen, what is refused; shapes are in the conformance suite."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from models_fakes import noise_frames

from brainsim.core.errors import InvalidValueError, UnknownNameError
from brainsim.models import MODELS, load_model, tap_infos
from brainsim.models.taps import capture, find_modules


def test_token_layout_comes_with_the_taps() -> None:
    image, video, masked = (
        tap_infos("mae-base")[0],
        tap_infos("mvd-base")[0],
        tap_infos("mae-base", protocol="study")[0],
    )
    assert (image.shape, image.channel_axis, image.n_class_tokens, image.grid) == ((197, 768), 1, 1, (1, 14, 14))
    assert (video.shape, video.channel_axis, video.n_class_tokens, video.grid) == ((1568, 768), 1, 0, (8, 14, 14))
    # 49 of 196 patches are left, shuffled: a place in the sequence is no place in the image.
    assert (masked.shape, masked.n_class_tokens, masked.grid) == ((50, 768), 1, None)
    assert tap_infos("videomae-base-tiny", protocol="study")[0].shape == (127, 48)
    assert tap_infos("cnn-static-object-tiny")[0].channel_axis == 0


def test_residual_and_mlp_out_are_offered_for_the_masked_models() -> None:
    assert tap_infos("mae-base-tiny", tap="residual")[3].name == "blocks.3"
    assert tap_infos("videomae-base-tiny", tap="mlp-out")[3].name == "encoder.layer.3.output.dense"
    assert MODELS["videomae-base"].layers("residual") == MODELS["videomae-base"].taps
    assert MODELS["mvd-base"].layers("mlp-out") == MODELS["mvd-base"].taps


def test_in_place_modules_do_not_overwrite_what_was_captured() -> None:
    model = load_model("cnn-static-object-tiny")
    captured = model.activations(noise_frames(model.input), ["bn1"])["bn1"]
    assert 0.3 < float((captured < 0).float().mean()) < 0.7  # the ReLU after bn1 works in place


def test_hooks_are_gone_after_an_exception_between_passes_and_after_an_unknown_name() -> None:
    model = load_model("cnn-static-object-tiny")
    module = model.network.module
    with pytest.raises(RuntimeError, match="mid-pass"), capture(module, ["conv1", "layer1.0.conv2"]):
        raise RuntimeError("mid-pass")
    with pytest.raises(UnknownNameError, match=r"layer1\.0\.conv2"):
        model.activations(noise_frames(model.input), ["conv1", "layer1.0.conv3"])
    assert not any(m._forward_hooks for m in module.modules())


def test_module_that_runs_twice_is_refused_by_name() -> None:
    model = load_model("cnn-static-object-tiny")
    with pytest.raises(InvalidValueError, match=r"layer1\.0\.relu.*twice"):
        model.activations(noise_frames(model.input), ["layer1.0.relu"])


def test_any_module_can_be_named_and_the_forward_pass_is_unchanged_by_extraction() -> None:
    model = load_model("cnn-static-object-tiny")
    frames = noise_frames(model.input)
    with torch.inference_mode():
        plain = model.network.module(model.prepare(frames)).numpy()
    assert np.array_equal(model.activations(frames, ["conv1", "layer4", "fc"])["fc"].numpy(), plain)
    assert list(find_modules(model.network.module, ["fc"])) == ["fc"]


@pytest.mark.parametrize(
    "name", ["cnn-static-object-tiny", "cnn-flow-selfsup-tiny", "mae-base-tiny", "videomae-base-tiny", "mvd-base-tiny"]
)
def test_the_forward_pass_ends_after_the_last_layer_wanted_and_gives_the_same_numbers(name: str) -> None:
    model = load_model(name, random_weights=True)
    frames = noise_frames(model.input)
    names = [tap.name for tap in model.taps]
    ran: list[str] = []
    modules = find_modules(model.network.module, names)
    handles = [m.register_forward_hook(lambda *_, name=n: ran.append(name)) for n, m in modules.items()]
    try:
        every = model.activations(frames)
        assert set(ran) == set(names)
        ran.clear()
        early = model.activations(frames, names[2:4])
        after = set(ran)
        again = model.activations(frames)  # what was left in the middle has left nothing behind
    finally:
        for handle in handles:
            handle.remove()
    assert set(early) == set(names[2:4])
    assert set(names[4:]) - after
    for layer in names:
        assert torch.equal(every[layer], again[layer])
        if layer in early:
            assert torch.equal(every[layer], early[layer])


def test_masks_of_clips_that_are_skipped_are_drawn_and_dropped() -> None:
    from brainsim.models.networks import masking

    tokens = torch.arange(60.0).reshape(1, 20, 3).expand(7, -1, -1)
    mask = masking.RandomMask(0.5, n_class_tokens=1)
    mask.reseed(3)
    every = mask(tokens)
    mask.reseed(3, n_skipped=5)
    assert torch.equal(torch.cat([mask(tokens[:1]), mask(tokens[:1])]), every[5:])


def test_several_threads_may_run_one_network() -> None:
    """Each hears its own forward pass alone."""
    model = load_model("mae-base-tiny", random_weights=True)
    batches = [noise_frames(model.input, seed=seed) for seed in range(8)]
    alone = [model.activations(frames) for frames in batches]
    with ThreadPoolExecutor(4) as threads:
        beside = list(threads.map(model.activations, batches * 4))
    for expected, found in zip(alone * 4, beside, strict=True):
        for layer, values in expected.items():
            assert torch.equal(found[layer], values)


def test_who_may_be_run_by_several_threads() -> None:
    assert load_model("mae-base-tiny", random_weights=True).is_reentrant
    assert not load_model("mae-base-tiny", random_weights=True, protocol="study").is_reentrant  # draws its masks
