"""Layer tables: shapes, feature counts, parameter counts and names, against the figures of the systems' definitions."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from models_fakes import noise_frames

from brainsim.core.errors import InvalidValueError, UnknownNameError
from brainsim.models import MODELS, load_model, tap_infos
from brainsim.models.loading import batch_shape, build_network
from brainsim.models.network import Network
from brainsim.models.networks.flow import FlowNetwork
from brainsim.models.taps import capture, find_modules, trace_taps

RESNET_FEATURES = [802_816, *[200_704] * 3, *[100_352] * 2, *[50_176] * 2, *[25_088] * 2, 512]
FLOW_FEATURES = [
    3_211_264, 1_605_632, 802_816, 100_352, 15_680, 401_408, 401_408, 62_720, 802_816, 802_816, 250_880,
]  # fmt: skip
FULL = {
    "cnn-static-object": RESNET_FEATURES,
    "cnn-static-action": RESNET_FEATURES,
    "cnn-flow-selfsup": FLOW_FEATURES,
    "cnn-flow-action": RESNET_FEATURES,
    "mae-base": [197 * 768] * 12,
    "mae-base-finetuned": [197 * 768] * 12,
    "videomae-base": [1568 * 768] * 12,
    "videomae-base-finetuned": [1568 * 768] * 12,
    "mvd-base": [1568 * 768] * 12,
}
TINY = [f"{name}-tiny" for name in FULL]


@cache
def meta_network(name: str) -> Network:
    with torch.device("meta"):
        return build_network(MODELS[name])


@pytest.mark.parametrize("name", FULL)
def test_full_systems_have_the_published_feature_counts(name: str) -> None:
    infos = trace_taps(meta_network(name), MODELS[name].taps, batch_shape(MODELS[name].input))
    assert [info.n_features for info in infos] == FULL[name]
    assert [info.name for info in infos] == list(MODELS[name].taps)


def test_tap_names_of_the_cnns_are_those_of_the_study() -> None:
    blocks = [f"layer{i}.{j}.conv2" for i in (1, 2, 3, 4) for j in (0, 1)]
    assert list(MODELS["cnn-static-object"].taps) == ["conv1", "maxpool", *blocks, "avgpool"]
    assert MODELS["cnn-flow-action"].taps[1] == "flow_classifier.maxpool"


@pytest.mark.parametrize(
    ("name", "n_parameters"),
    [
        ("cnn-static-object", 11_689_512),
        ("cnn-static-action", 11_689_512 - 500 * 513),
        ("cnn-flow-selfsup", 1_951_784),
        ("cnn-flow-action", 1_951_784 + 11_486_324),
        # ViT-B/16 without head: 85,798,656 (timm, published); mean pooling moves the norm, the head adds 769,000.
        ("mae-base", 85_798_656),
        ("mae-base-finetuned", 85_798_656 + 769_000),
        # 86,227,200 = tubelet projection 1,180,416 + 12 blocks without key bias + norm.
        ("videomae-base", 86_227_200),
        ("videomae-base-finetuned", 86_227_200 - 2 * 768),
        # qkv has one bias of 2,304 in each block; the key's third is zero in every file.
        ("mvd-base", 86_227_200 + 12 * 768),
    ],
)
def test_full_systems_have_the_published_number_of_parameters(name: str, n_parameters: int) -> None:
    assert sum(p.numel() for p in meta_network(name).module.parameters()) == n_parameters


def test_flow_network_has_the_state_dict_names_of_shared_files() -> None:
    names = set(FlowNetwork(width=8).state_dict())
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = {
        f"{m}.0.{p}" for m in ("conv1", "conv2", "conv3", "conv4", "xconv3", "xconv2") for p in ("weight", "bias")
    }
    expected |= {f"{m}.1.{p}" for m in ("conv1", "conv2", "conv3", "conv4", "xconv3", "xconv2") for p in norm}
    expected |= {f"{m}.{p}" for m in ("deconv3.0", "deconv2.0") for p in ("weight", "bias")}
    expected |= {f"upsampled_flow{s}.{p}" for s in ("4_to_3", "3_to_2") for p in ("weight", "bias")}
    expected |= {f"predict_flow{i}.weight" for i in (4, 3, 2)}
    assert names == expected


# Module: output channels and size at 64 px, of the tiny network (an eighth of the width), from the table of the facts.
FLOW_TABLE = {
    "conv1": (8, 64), "conv2": (16, 32), "conv3": (32, 16), "conv4": (16, 8), "predict_flow4": (20, 8),
    "upsampled_flow4_to_3": (20, 16), "deconv3": (16, 16), "xconv3": (16, 16), "predict_flow3": (20, 16),
    "upsampled_flow3_to_2": (20, 32), "deconv2": (8, 32), "xconv2": (8, 32), "predict_flow2": (20, 32),
}  # fmt: skip


def test_every_module_of_the_flow_network_has_the_tabled_output_shape() -> None:
    model = load_model("cnn-flow-selfsup-tiny")
    outputs = model.activations(noise_frames(model.input), list(FLOW_TABLE))
    assert {n: tuple(x.shape) for n, x in outputs.items()} == {n: (2, c, s, s) for n, (c, s) in FLOW_TABLE.items()}


def test_flow_network_returns_four_scales_the_finest_enlarged_and_doubled() -> None:
    torch.manual_seed(0)
    network = FlowNetwork(width=8).eval()
    with torch.inference_mode():
        flow1, flow2, flow3, flow4 = network(torch.rand(1, 33, 32, 32))
    assert [tuple(f.shape) for f in (flow1, flow2, flow3, flow4)] == [(1, 20, s, s) for s in (32, 16, 8, 4)]
    # Bilinear by a factor of 2 (half-pixel centres): pixel 2 of a row lies 3/4 towards pixel 1 from 0, pixel 1 at 1/4.
    row = flow2[0, 0, :, :].numpy()
    inner = (0.75 * 0.75 * row[1, 1] + 0.75 * 0.25 * (row[1, 2] + row[2, 1]) + 0.25 * 0.25 * row[2, 2]) * 2
    assert flow1[0, 0, 3, 3].item() == pytest.approx(float(inner), rel=1e-5)


@pytest.mark.parametrize("name", TINY)
def test_taps_without_weights_equal_those_of_a_loaded_model_and_of_its_outputs(name: str) -> None:
    model = load_model(name)
    assert tap_infos(name) == model.taps
    outputs = model.activations(noise_frames(model.input, n_clips=1))
    assert [tuple(outputs[tap.name].shape[1:]) for tap in model.taps] == [tap.shape for tap in model.taps]


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


def test_hooks_are_gone_after_success_and_after_an_exception() -> None:
    model = load_model("cnn-static-object-tiny")
    module = model.network.module
    model.activations(noise_frames(model.input))
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
