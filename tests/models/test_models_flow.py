"""The flow systems, module by module: operations, shapes, parameters, names and files, against their definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from models_fakes import noise_frames, relative_error
from torch import Tensor, nn

from brainsim.models import load_model
from brainsim.models.networks.flow import FlowActionNetwork, FlowNetwork
from brainsim.models.taps import capture

# Module: channels in and out, kernel / stride / padding, what follows, side of the output at 224 px, features.
TABLE = {
    "conv1": (33, 64, 7, 1, 3, "norm, leak", 224, 3_211_264),
    "conv2": (64, 128, 5, 2, 2, "norm, leak", 112, 1_605_632),
    "conv3": (128, 256, 3, 2, 1, "norm, leak", 56, 802_816),
    "conv4": (256, 128, 3, 2, 1, "norm, leak", 28, 100_352),
    "predict_flow4": (128, 20, 3, 1, 1, "", 28, 15_680),
    "upsampled_flow4_to_3": (20, 20, 4, 2, 1, "", 56, 62_720),
    "deconv3": (128, 128, 4, 2, 1, "leak", 56, 401_408),
    "xconv3": (404, 128, 3, 1, 1, "norm", 56, 401_408),
    "predict_flow3": (128, 20, 3, 1, 1, "", 56, 62_720),
    "upsampled_flow3_to_2": (20, 20, 4, 2, 1, "", 112, 250_880),
    "deconv2": (128, 64, 4, 2, 1, "leak", 112, 802_816),
    "xconv2": (212, 64, 3, 1, 1, "norm", 112, 802_816),
    "predict_flow2": (64, 20, 3, 1, 1, "", 112, 250_880),
}
TRANSPOSED = ("upsampled_flow4_to_3", "upsampled_flow3_to_2", "deconv3", "deconv2")
WITHOUT_BIAS = ("predict_flow4", "predict_flow3", "predict_flow2")
NORMED = [name for name, row in TABLE.items() if "norm" in row[5]]


@pytest.mark.parametrize("name", TABLE)
def test_operation_of_each_module_is_the_tabled_one(name: str) -> None:
    n_in, n_out, kernel, stride, padding, then, _, _ = TABLE[name]
    module = FlowNetwork().get_submodule(name)
    conv, *rest = module if isinstance(module, nn.Sequential) else [module]
    assert type(conv) is (nn.ConvTranspose2d if name in TRANSPOSED else nn.Conv2d)
    assert (conv.in_channels, conv.out_channels) == (n_in, n_out)
    assert (conv.kernel_size, conv.stride, conv.padding) == ((kernel,) * 2, (stride,) * 2, (padding,) * 2)
    assert (conv.bias is None) == (name in WITHOUT_BIAS)
    kinds = {"norm": nn.BatchNorm2d, "leak": nn.LeakyReLU}
    assert [type(m) for m in rest] == [kinds[word] for word in then.split(", ") if word]
    assert all(m.negative_slope == 0.1 for m in rest if isinstance(m, nn.LeakyReLU))


@pytest.mark.parametrize(("width", "size"), [(64, 224), (8, 64)])
def test_every_module_has_the_tabled_output_shape(width: int, size: int) -> None:
    with torch.device("meta"):
        network, frames = FlowNetwork(width=width).eval(), torch.empty(1, 33, size, size)
        with capture(network, list(TABLE)) as outputs:
            flows = network(frames)
    for name, (_, n_out, _, _, _, _, side, n_features) in TABLE.items():
        channels, side = n_out if n_out == 20 else n_out * width // 64, side * size // 224
        assert tuple(outputs[name].shape) == (1, channels, side, side), name
        if width == 64:
            assert outputs[name].numel() == n_features, name
    assert [tuple(flow.shape) for flow in flows] == [(1, 20, size // s, size // s) for s in (1, 2, 4, 8)]


def test_parameters_are_1951784_and_11486324() -> None:
    with torch.device("meta"):
        network = FlowActionNetwork()
    counts = [sum(p.numel() for p in part.parameters()) for part in (network.flow_generator, network.flow_classifier)]
    assert counts == [1_951_784, 11_486_324]


def test_state_dict_names_are_those_of_shared_files() -> None:
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = {f"{m}.0.{p}" for m in NORMED for p in ("weight", "bias")} | {f"{m}.1.{p}" for m in NORMED for p in norm}
    expected |= {f"{m}.{p}" for m in ("deconv3.0", "deconv2.0") for p in ("weight", "bias")}
    expected |= {f"upsampled_flow{s}.{p}" for s in ("4_to_3", "3_to_2") for p in ("weight", "bias")}
    expected |= {f"{m}.weight" for m in WITHOUT_BIAS}
    assert set(FlowNetwork(width=8).state_dict()) == expected
    names = set(FlowActionNetwork(flow_width=8, width=8).state_dict())
    assert {n for n in names if n.startswith("flow_generator.")} == {f"flow_generator.{n}" for n in expected}
    others = {n.removeprefix("flow_classifier.") for n in names if not n.startswith("flow_generator.")}
    assert others == set(load_model("cnn-static-action-tiny").network.module.state_dict())


def test_finest_flow_is_the_next_enlarged_bilinearly_and_doubled() -> None:
    torch.manual_seed(0)
    network = FlowNetwork(width=8).eval()
    with torch.inference_mode():
        flow1, flow2, _, _ = network(torch.rand(1, 33, 32, 32))
    # Half-pixel centres: pixel 3 of the larger map lies at 1.25 of the smaller one.
    row = flow2[0, 0].numpy()
    inner = (0.75 * 0.75 * row[1, 1] + 0.75 * 0.25 * (row[1, 2] + row[2, 1]) + 0.25 * 0.25 * row[2, 2]) * 2
    assert flow1[0, 0, 3, 3].item() == pytest.approx(float(inner), rel=1e-5)


def test_network_sees_all_red_frames_then_green_then_blue() -> None:
    model = load_model("cnn-flow-selfsup-tiny")
    frames = noise_frames(model.input)
    x = model.prepare(frames)
    assert x.shape == (2, 33, 64, 64)
    for channel, frame in ((0, 0), (0, 10), (1, 3), (2, 10)):
        assert np.allclose(x[1, 11 * channel + frame].numpy(), frames[1, frame, :, :, channel] / 255, atol=1e-7)


@pytest.mark.parametrize(
    ("container", "outer", "inner"),
    [
        ("model_state_dict", "", ""),
        ("MODEL_STATE", "module.", ""),
        ("state_dict", "", "encoder."),
        ("MODEL_STATE", "module.", "module."),
        ("state_dict", "module.", "module.encoder."),
    ],
)
def test_flow_action_files_load_in_every_wrapping(tmp_path: Path, container: str, outer: str, inner: str) -> None:
    expected = load_model("cnn-flow-action-tiny", seed=11)
    state: dict[str, Tensor] = {}
    for name, tensor in expected.network.module.state_dict().items():
        part, _, rest = name.partition(".")
        wrapped = inner if part == "flow_generator" else ""
        state[f"{outer}{part}.{wrapped}{rest.replace('fc.', 'fc_action.')}"] = tensor
    torch.save({container: state, "epoch": 12}, tmp_path / "action.pth")
    loaded = load_model("cnn-flow-action-tiny", checkpoint=tmp_path / "action.pth")
    frames = noise_frames(expected.input, n_clips=1)
    got, wanted = loaded.activations(frames), expected.activations(frames)
    assert max(relative_error(got[t].numpy(), wanted[t].numpy()) for t in wanted) < 1e-5
