"""Turn the systems' definitions into activations by other means: torchvision, timm, transformers, formulas.

Formulas are written in float64 with plain operations, from the tables in docs/systems.md and the papers named there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import VideoMAEConfig, VideoMAEModel, ViTMAEConfig, ViTMAEModel

State = Mapping[str, Tensor]
IMAGENET_MEAN, IMAGENET_STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def imagenet(scaled: np.ndarray) -> np.ndarray:
    """Normalise values in [0, 1] in float64, channels last."""
    return (scaled - IMAGENET_MEAN) / IMAGENET_STD


def images(scaled: np.ndarray) -> Tensor:
    """Return the one frame of each clip as float32 (B, 3, H, W)."""
    return torch.from_numpy(scaled[:, 0].transpose(0, 3, 1, 2).astype(np.float32))


def hooked(module: nn.Module, names: Mapping[str, str], *inputs: Tensor, **options: object) -> dict[str, np.ndarray]:
    """Run a module by hand with plain hooks; `names` says what each of its modules is called in the result."""
    seen: dict[str, np.ndarray] = {}
    handles = [
        module.get_submodule(own).register_forward_hook(
            lambda _, __, output, name=name: seen.__setitem__(name, output.detach().numpy().copy())
        )
        for own, name in names.items()
    ]
    with torch.no_grad():
        module.eval()(*inputs, **options)
    for handle in handles:
        handle.remove()
    return seen


def under_own_names(names: Sequence[str]) -> dict[str, str]:
    """Return names for `hooked` where both networks use the same."""
    return {name: name for name in names}


# ResNet-18 (He et al. 2016): formulas.


def batch_norm(x: Tensor, state: State, name: str) -> Tensor:
    """Normalise by the running statistics; eps 1e-5."""
    mean, variance = (state[f"{name}.{part}"].double().view(-1, 1, 1) for part in ("running_mean", "running_var"))
    weight, bias = (state[f"{name}.{part}"].double().view(-1, 1, 1) for part in ("weight", "bias"))
    return (x - mean) / torch.sqrt(variance + 1e-5) * weight + bias


def resnet18_by_formula(state: State, x: Tensor, prefix: str = "") -> dict[str, np.ndarray]:
    """Return ResNet-18's 11 taps for (B, C, H, W): the conv2 of each block raw, before batch norm and sum."""
    taps: dict[str, Tensor] = {}

    def conv(x: Tensor, name: str, *, stride: int = 1, padding: int = 1) -> Tensor:
        weight = state[f"{prefix}{name}.weight"].double()
        taps[name] = functional.conv2d(x, weight, stride=stride, padding=padding)
        return taps[name]

    def norm(x: Tensor, name: str) -> Tensor:
        return batch_norm(x, state, f"{prefix}{name}")

    x = norm(conv(x.double(), "conv1", stride=2, padding=3), "bn1").clamp(min=0)
    # A maximum over 3 x 3 places in steps of 2; what lies outside is never the maximum of rectified values.
    patches = functional.unfold(functional.pad(x, (1, 1, 1, 1)), 3, stride=2).unflatten(1, (x.shape[1], 9))
    x = taps["maxpool"] = patches.amax(dim=2).unflatten(2, (x.shape[2] // 2, x.shape[3] // 2))
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            inner = norm(conv(x, f"{name}.conv1", stride=stride), f"{name}.bn1").clamp(min=0)
            inner = norm(conv(inner, f"{name}.conv2"), f"{name}.bn2")
            if stride == 2:
                x = norm(conv(x, f"{name}.downsample.0", stride=2, padding=0), f"{name}.downsample.1")
            x = (x + inner).clamp(min=0)
    taps["avgpool"] = x.mean(dim=(2, 3), keepdim=True)
    wanted = [name for name in taps if not name.endswith((".conv1", ".downsample.0"))]
    return {f"{prefix}{name}": taps[name].numpy() for name in wanted}


# The flow network: formulas.


def stack_by_channel(frames: np.ndarray) -> Tensor:
    """Return uint8 (B, 11, H, W, 3) as (B, 33, H, W) in [0, 1]: all red frames, then green, then blue."""
    return torch.from_numpy(np.concatenate([frames[..., channel] for channel in range(3)], axis=1) / 255.0)


def transposed_conv(x: Tensor, state: State, name: str) -> Tensor:
    """Return a 4/2/1 transposed convolution: zeros between values, then a plain one, kernel turned."""
    n, channels, height, width = x.shape
    spread = torch.zeros(n, channels, 2 * height - 1, 2 * width - 1, dtype=x.dtype)
    spread[:, :, ::2, ::2] = x
    kernel = state[f"{name}.weight"].double().transpose(0, 1).flip(2, 3)
    return functional.conv2d(spread, kernel, state[f"{name}.bias"].double(), padding=2)


def doubling(n: int) -> Tensor:
    """Return the (2 n, n) matrix of bilinear enlargement by 2: half-pixel centres, edges repeated."""
    matrix = torch.zeros(2 * n, n, dtype=torch.float64)
    for i in range(n):
        for row, neighbour in ((2 * i, max(i - 1, 0)), (2 * i + 1, min(i + 1, n - 1))):
            matrix[row, i] += 0.75
            matrix[row, neighbour] += 0.25
    return matrix


def flow_by_formula(state: State, x: Tensor, prefix: str = "") -> tuple[dict[str, np.ndarray], Tensor]:
    """Return the 11 taps of the flow network for (B, 33, H, W), and its finest flow (B, 20, H, W)."""

    def leak(x: Tensor) -> Tensor:
        return torch.where(x < 0, 0.1 * x, x)

    def conv(x: Tensor, name: str, *, stride: int, padding: int) -> Tensor:
        weight, bias = (state[f"{prefix}{name}.0.{part}"].double() for part in ("weight", "bias"))
        return batch_norm(functional.conv2d(x, weight, bias, stride, padding), state, f"{prefix}{name}.1")

    def predict(x: Tensor, name: str) -> Tensor:
        return functional.conv2d(x, state[f"{prefix}{name}.weight"].double(), padding=1)

    taps: dict[str, Tensor] = {}
    taps["conv1"] = leak(conv(x.double(), "conv1", stride=1, padding=3))
    taps["conv2"] = leak(conv(taps["conv1"], "conv2", stride=2, padding=2))
    taps["conv3"] = leak(conv(taps["conv2"], "conv3", stride=2, padding=1))
    taps["conv4"] = leak(conv(taps["conv3"], "conv4", stride=2, padding=1))
    taps["predict_flow4"] = predict(taps["conv4"], "predict_flow4")
    for level, below, skip in ((3, "conv4", "conv3"), (2, "xconv3", "conv2")):
        taps[f"deconv{level}"] = leak(transposed_conv(taps[below], state, f"{prefix}deconv{level}.0"))
        flow = taps[f"predict_flow{level + 1}"]
        larger = 2 * transposed_conv(flow, state, f"{prefix}upsampled_flow{level + 1}_to_{level}")
        joined = torch.cat([taps[skip], taps[f"deconv{level}"], larger], dim=1)
        taps[f"xconv{level}"] = conv(joined, f"xconv{level}", stride=1, padding=1)  # no activation
        taps[f"predict_flow{level}"] = predict(taps[f"xconv{level}"], f"predict_flow{level}")
    coarse = taps["predict_flow2"]
    finest = 2 * doubling(coarse.shape[2]) @ coarse @ doubling(coarse.shape[3]).T
    return {f"{prefix}{name}": values.numpy() for name, values in taps.items()}, finest


# Vision transformers: timm and transformers.


def timm_vit(*, size: int, width: int, n_heads: int, n_classes: int) -> nn.Module:
    """Return timm's ViT/16 of 12 blocks; where it classifies, by the mean over patches."""
    return timm.models.vision_transformer.VisionTransformer(
        img_size=size, patch_size=16, embed_dim=width, depth=12, num_heads=n_heads, num_classes=n_classes,
        global_pool="avg" if n_classes else "token",
    )  # fmt: skip


def vitmae(state: State, *, size: int, width: int, n_heads: int) -> ViTMAEModel:
    """Return transformers' MAE encoder (75 % masked) with weights in timm's names; eps 1e-6."""
    config = ViTMAEConfig(
        image_size=size, hidden_size=width, num_hidden_layers=12, num_attention_heads=n_heads,
        intermediate_size=4 * width, layer_norm_eps=1e-6,
    )  # fmt: skip
    model = ViTMAEModel(config).eval()
    named = {
        "embeddings.cls_token": state["cls_token"],
        "embeddings.position_embeddings": state["pos_embed"],
        "embeddings.patch_embeddings.projection.weight": state["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": state["patch_embed.proj.bias"],
        "layernorm.weight": state["norm.weight"],
        "layernorm.bias": state["norm.bias"],
    }
    for i in range(12):
        ours, theirs = f"blocks.{i}", f"layers.{i}"
        for part in ("weight", "bias"):
            for letter, third in zip("qkv", state[f"{ours}.attn.qkv.{part}"].chunk(3), strict=True):
                named[f"{theirs}.attention.{letter}_proj.{part}"] = third
            for a, b in (
                ("norm1", "layernorm_before"), ("norm2", "layernorm_after"), ("attn.proj", "attention.o_proj"),
                ("mlp.fc1", "mlp.fc1"), ("mlp.fc2", "mlp.fc2"),
            ):  # fmt: skip
                named[f"{theirs}.{b}.{part}"] = state[f"{ours}.{a}.{part}"]
    model.load_state_dict(named)
    return model


def videomae(*, size: int, width: int, n_heads: int, eps: float = 1e-12, mean_pooling: bool = False) -> VideoMAEModel:
    """Return transformers' VideoMAE encoder."""
    config = VideoMAEConfig(
        image_size=size, hidden_size=width, num_attention_heads=n_heads, intermediate_size=4 * width,
        layer_norm_eps=eps, use_mean_pooling=mean_pooling,
    )  # fmt: skip
    return VideoMAEModel(config).eval()


def mvd(state: State, *, size: int, width: int, n_heads: int) -> VideoMAEModel:
    """Return MVD's encoder put together from transformers' parts: VideoMAE's, its own position table, eps 1e-6."""
    model = videomae(size=size, width=width, n_heads=n_heads, eps=1e-6)
    named = {
        "embeddings.patch_embeddings.projection.weight": state["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": state["patch_embed.proj.bias"],
        "layernorm.weight": state["norm.weight"],
        "layernorm.bias": state["norm.bias"],
    }
    for i in range(12):
        ours, theirs = f"blocks.{i}", f"encoder.layer.{i}"
        attention = f"{theirs}.attention.attention"
        query, key, value = state[f"{ours}.attn.qkv.weight"].chunk(3)
        # A key's bias changes no attention weight, and there is none in the files.
        query_bias, _, value_bias = state[f"{ours}.attn.qkv.bias"].chunk(3)
        named |= {
            f"{attention}.query.weight": query, f"{attention}.key.weight": key, f"{attention}.value.weight": value,
            f"{attention}.query.bias": query_bias, f"{attention}.value.bias": value_bias,
        }  # fmt: skip
        for a, b in (
            ("norm1", "layernorm_before"), ("norm2", "layernorm_after"), ("attn.proj", "attention.output.dense"),
            ("mlp.fc1", "intermediate.dense"), ("mlp.fc2", "output.dense"),
        ):  # fmt: skip
            named |= {f"{theirs}.{b}.{part}": state[f"{ours}.{a}.{part}"] for part in ("weight", "bias")}
    model.load_state_dict(named)
    model.embeddings.position_embeddings = state["pos_embed"].clone()
    return model
