"""The same input and weights give the same activations as torchvision, timm and transformers called by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import timm
import torch
import torchvision
from models_fakes import noise_frames, relative_error
from torch import Tensor, nn
from transformers import VideoMAEConfig, VideoMAEModel, ViTMAEConfig, ViTMAEModel

from brainsim.models import MODELS, LoadedModel, load_model

TOLERANCE = 1e-5
TINY = [name for name in MODELS if name.endswith("-tiny")]
IMAGENET_MEAN, IMAGENET_STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def imagenet(frames: np.ndarray) -> np.ndarray:
    """Normalise in float64, channels last."""
    return (frames / 255 - IMAGENET_MEAN) / IMAGENET_STD


def images_by_hand(frames: np.ndarray) -> Tensor:
    return torch.from_numpy(imagenet(frames[:, 0]).transpose(0, 3, 1, 2).astype(np.float32))


def hooked(module: nn.Module, names: Sequence[str], *inputs: Tensor) -> dict[str, np.ndarray]:
    """Run a module by hand with plain hooks."""
    seen: dict[str, np.ndarray] = {}
    for name in names:
        module.get_submodule(name).register_forward_hook(
            lambda _, __, output, name=name: seen.__setitem__(name, output.detach().numpy().copy())
        )
    with torch.no_grad():
        module.eval()(*inputs)
    return seen


def check_equal(model: LoadedModel, frames: np.ndarray, expected: dict[str, np.ndarray]) -> None:
    got = model.activations(frames, list(expected))
    errors = {name: relative_error(got[name].numpy(), expected[name]) for name in expected}
    assert max(errors.values()) < TOLERANCE, errors


@pytest.mark.parametrize("name", TINY)
def test_batch_of_one_equals_batch_of_eight(name: str) -> None:
    model = load_model(name)
    frames = noise_frames(model.input, n_clips=8)
    together = model.activations(frames)
    alone = model.activations(frames[5:6])
    errors = {t: relative_error(alone[t][0].numpy(), together[t][5].numpy()) for t in together}
    assert max(errors.values()) < TOLERANCE, errors


def test_resnet_at_full_size_equals_torchvisions() -> None:
    model = load_model("cnn-static-object", random_weights=True)
    by_hand = torchvision.models.resnet18()
    by_hand.load_state_dict(model.network.module.state_dict())
    frames = noise_frames(model.input)
    check_equal(model, frames, hooked(by_hand, model.row.taps, images_by_hand(frames)))


def test_tiny_resnet_is_torchvisions_class_with_an_eighth_of_the_channels() -> None:
    full, tiny = (
        load_model(n, random_weights=True).network.module for n in ("cnn-static-object", "cnn-static-object-tiny")
    )
    assert type(full) is type(tiny) is torchvision.models.ResNet
    for name, weight in full.state_dict().items():
        if name.endswith("conv2.weight"):
            assert tiny.state_dict()[name].shape == (weight.shape[0] // 8, weight.shape[1] // 8, 3, 3)


@pytest.mark.parametrize("name", ["mae-base-tiny", "mae-base-finetuned-tiny"])
def test_image_mae_equals_timms_vision_transformer(name: str) -> None:
    model = load_model(name)
    finetuned = "finetuned" in name
    by_hand = timm.models.vision_transformer.VisionTransformer(
        img_size=64, patch_size=16, embed_dim=48, depth=12, num_heads=3, num_classes=1000 if finetuned else 0,
        global_pool="avg" if finetuned else "token",
    )  # fmt: skip
    by_hand.load_state_dict(model.network.module.state_dict())
    frames = noise_frames(model.input)
    names = [*model.row.taps, *model.row.layers("residual")]
    check_equal(model, frames, hooked(by_hand, names, images_by_hand(frames)))


def test_image_mae_at_full_size_equals_timms_named_model() -> None:
    model = load_model("mae-base", random_weights=True)
    by_hand = timm.create_model("vit_base_patch16_224.mae", pretrained=False)
    by_hand.load_state_dict(model.network.module.state_dict())
    frames = noise_frames(model.input, n_clips=1)
    check_equal(model, frames, hooked(by_hand, ["blocks.0.mlp.fc2", "blocks.11.mlp.fc2"], images_by_hand(frames)))


def videomae_by_hand(
    model: LoadedModel, *, eps: float = 1e-12, size: int = 64, width: int = 48, heads: int = 3
) -> VideoMAEModel:
    config = VideoMAEConfig(
        image_size=size, hidden_size=width, num_attention_heads=heads, intermediate_size=4 * width, layer_norm_eps=eps,
        use_mean_pooling=model.row.options.get("mean_pooling", False),
    )  # fmt: skip
    return VideoMAEModel(config).eval()


@pytest.mark.parametrize("name", ["videomae-base-tiny", "videomae-base-finetuned-tiny"])
def test_videomae_equals_the_hidden_states_of_transformers(name: str) -> None:
    model = load_model(name)
    by_hand = videomae_by_hand(model)
    by_hand.load_state_dict(model.network.module.state_dict())
    frames = noise_frames(model.input)
    pixels = torch.from_numpy(imagenet(frames).transpose(0, 1, 4, 2, 3).astype(np.float32))
    with torch.no_grad():
        hidden = by_hand(pixel_values=pixels, output_hidden_states=True).hidden_states
    # Hidden state 0 is the embedding; i + 1 comes after block i.
    expected = {"embeddings": hidden[0].numpy()}
    expected |= {f"encoder.layer.{i}": hidden[i + 1].numpy() for i in range(12)}
    check_equal(model, frames, expected)


def mvd_by_transformers(model: LoadedModel, **size: int) -> VideoMAEModel:
    """Assemble MVD's encoder from its definition: VideoMAE's, with its own position table and eps 1e-6."""
    by_hand = videomae_by_hand(model, eps=1e-6, **size)
    state = model.network.module.state_dict()
    own = by_hand.state_dict()
    own["embeddings.patch_embeddings.projection.weight"] = state["patch_embed.proj.weight"]
    own["embeddings.patch_embeddings.projection.bias"] = state["patch_embed.proj.bias"]
    own["layernorm.weight"], own["layernorm.bias"] = state["norm.weight"], state["norm.bias"]
    for i in range(12):
        ours, theirs = f"blocks.{i}", f"encoder.layer.{i}"
        query, key, value = state[f"{ours}.attn.qkv.weight"].chunk(3)
        query_bias, key_bias, value_bias = state[f"{ours}.attn.qkv.bias"].chunk(3)
        key_bias.zero_()  # there is none in the files; a key bias would change no attention weight anyway
        attention = f"{theirs}.attention.attention"
        own |= {f"{attention}.query.weight": query, f"{attention}.key.weight": key, f"{attention}.value.weight": value}
        own |= {f"{attention}.query.bias": query_bias, f"{attention}.value.bias": value_bias}
        for a, b in (
            ("norm1", "layernorm_before"), ("norm2", "layernorm_after"), ("attn.proj", "attention.output.dense"),
            ("mlp.fc1", "intermediate.dense"), ("mlp.fc2", "output.dense"),
        ):  # fmt: skip
            own[f"{theirs}.{b}.weight"], own[f"{theirs}.{b}.bias"] = (
                state[f"{ours}.{a}.weight"],
                state[f"{ours}.{a}.bias"],
            )
    by_hand.load_state_dict(own)
    by_hand.embeddings.position_embeddings = state["pos_embed"].clone()
    return by_hand


def check_mvd(model: LoadedModel, blocks: Sequence[int], **size: int) -> None:
    by_hand = mvd_by_transformers(model, **size)
    frames = noise_frames(model.input, n_clips=1)
    pixels = torch.from_numpy(imagenet(frames).transpose(0, 1, 4, 2, 3).astype(np.float32))
    expected = hooked(by_hand, [f"encoder.layer.{i}.output.dense" for i in blocks], pixels)
    check_equal(model, frames, {f"blocks.{i}.mlp.fc2": expected[f"encoder.layer.{i}.output.dense"] for i in blocks})


def test_mvd_equals_an_independent_assembly_from_transformers_parts() -> None:
    check_mvd(load_model("mvd-base-tiny"), range(12))


@pytest.mark.slow
def test_mvd_at_full_size_equals_an_independent_assembly() -> None:
    check_mvd(load_model("mvd-base", random_weights=True), (0, 11), size=224, width=768, heads=12)


@pytest.mark.slow
def test_videomae_at_full_size_equals_transformers() -> None:
    model = load_model("videomae-base", random_weights=True)
    by_hand = videomae_by_hand(model, size=224, width=768, heads=12)
    by_hand.load_state_dict(model.network.module.state_dict())
    frames = noise_frames(model.input, n_clips=1)
    pixels = torch.from_numpy(imagenet(frames).transpose(0, 1, 4, 2, 3).astype(np.float32))
    check_equal(model, frames, hooked(by_hand, ["encoder.layer.0", "encoder.layer.11"], pixels))


@pytest.mark.parametrize(
    ("name", "layer", "n_class_tokens", "tubelet"),
    [
        ("mae-base-tiny", "patch_drop", 1, 1),
        ("videomae-base-tiny", "embeddings", 0, 2),
        ("mvd-base-tiny", "patch_embed", 0, 2),
    ],
)
def test_token_i_is_patch_i(name: str, layer: str, n_class_tokens: int, tubelet: int) -> None:
    model = load_model(name)
    grid = model.taps[0].grid
    assert grid is not None
    frames = noise_frames(model.input, n_clips=1)
    before = model.activations(frames, [layer])[layer][0]
    for t, h, w in ((0, 0, 0), (grid[0] - 1, 2, 1)):
        changed = frames.copy()
        changed[0, t * tubelet : (t + 1) * tubelet, 16 * h : 16 * h + 16, 16 * w : 16 * w + 16] ^= 255
        after = model.activations(changed, [layer])[layer][0]
        token = n_class_tokens + (t * grid[1] + h) * grid[2] + w
        assert torch.nonzero((before != after).any(dim=1)).flatten().tolist() == [token]


def test_flow_network_sees_all_red_then_green_then_blue() -> None:
    model = load_model("cnn-flow-selfsup-tiny")
    frames = noise_frames(model.input)
    x = model.prepare(frames)
    assert x.shape == (2, 33, 64, 64)
    for channel, frame in ((0, 0), (0, 10), (1, 3), (2, 10)):
        assert np.allclose(x[1, 11 * channel + frame].numpy(), frames[1, frame, :, :, channel] / 255, atol=1e-7)


def test_flow_action_classifies_the_finest_flow_of_its_generator() -> None:
    model = load_model("cnn-flow-action-tiny")
    frames = noise_frames(model.input)
    module = model.network.module
    with torch.inference_mode():
        flow = module.flow_generator(model.prepare(frames))[0]
        by_hand = module.flow_classifier.conv1(flow)
    assert flow.shape == (2, 20, 64, 64)
    assert torch.equal(model.activations(frames, ["flow_classifier.conv1"])["flow_classifier.conv1"], by_hand)


def test_study_protocol_gives_cnns_unnormalised_images_and_maes_doubly_scaled_ones() -> None:
    frames = noise_frames(MODELS["mae-base-tiny"].input)
    cnn = load_model("cnn-static-object-tiny", protocol="study").prepare(frames).numpy()
    mae = load_model("mae-base-tiny", protocol="study").prepare(frames).numpy()
    scaled = frames[:, 0].transpose(0, 3, 1, 2) / 255
    assert np.allclose(cnn, scaled, atol=1e-7)
    expected = (scaled / 255 - IMAGENET_MEAN[:, None, None]) / IMAGENET_STD[:, None, None]
    assert np.allclose(mae, expected, atol=1e-6)


def test_study_mask_of_the_image_mae_is_that_of_transformers_given_the_same_noise() -> None:
    model = load_model("mae-base-tiny", protocol="study", seed=3)
    frames = noise_frames(model.input)
    mask = model.network.module.get_submodule("patch_drop")
    noise = torch.rand(2, 16, generator=torch.Generator().manual_seed(mask.generator.initial_seed()))
    config = ViTMAEConfig(
        image_size=64,
        hidden_size=48,
        num_hidden_layers=12,
        num_attention_heads=3,
        intermediate_size=192,
        layer_norm_eps=1e-6,
    )
    by_hand = ViTMAEModel(config).eval()
    state = model.network.module.state_dict()
    embeddings = by_hand.embeddings
    with torch.no_grad():
        embeddings.cls_token.copy_(state["cls_token"])
        embeddings.position_embeddings.copy_(state["pos_embed"])
        embeddings.patch_embeddings.projection.weight.copy_(state["patch_embed.proj.weight"])
        embeddings.patch_embeddings.projection.bias.copy_(state["patch_embed.proj.bias"])
        expected = embeddings(model.prepare(frames), noise=noise)[0].numpy()
    assert expected.shape == (2, 5, 48)
    check_equal(model, frames, {"patch_drop": expected})


def test_random_mask_draws_anew_for_every_clip_in_order_and_afresh_after_loading() -> None:
    frames = np.repeat(noise_frames(MODELS["mae-base-tiny"].input, n_clips=1), 3, axis=0)
    layer = "blocks.0.mlp.fc2"
    model = load_model("mae-base-tiny", protocol="study")
    together = model.activations(frames, [layer])[layer]
    assert not torch.allclose(together[0], together[1])
    again = load_model("mae-base-tiny", protocol="study")
    one_by_one = torch.cat([again.activations(frames[i : i + 1], [layer])[layer] for i in range(3)])
    assert relative_error(one_by_one.numpy(), together.numpy()) < TOLERANCE


def test_study_videomae_drops_the_first_token() -> None:
    default = load_model("videomae-base-tiny")
    study = load_model("videomae-base-tiny", protocol="study")
    frames = noise_frames(default.input)
    expected = default.activations(frames, ["embeddings"])["embeddings"].numpy()[:, 1:]
    check_equal(study, frames, {"embeddings": expected})
