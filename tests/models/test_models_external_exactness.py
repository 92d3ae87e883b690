"""Any other model: what its taps give is what a hook gives by hand, and what its axes stand for is what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from external_fakes import IMAGES, VIDEOS, save_folder
from models_fakes import noise_frames, relative_error
from torch import Tensor, nn
from transformers import AutoModel

from brainsim.models import InputSpec, LoadedModel, find_row, load_model
from brainsim.models.pooling import pool_mean, pool_spatial

TOLERANCE = 1e-5
slow = pytest.mark.slow
# timm's own small models for tests come with every suite, those that people use with the slow one.
SMALL = (
    "timm:test_vit",
    "timm:test_convnext",
    "timm:test_efficientnet",
    "timm:test_maxvit",
    "torchvision:squeezenet1_1",
    "torchvision:mobilenet_v3_small",
)
LARGE = (
    "timm:vit_small_patch16_224",
    "timm:vit_wee_patch16_reg1_gap_256",
    "timm:vit_small_patch14_reg4_dinov2",
    "timm:convnext_atto",
    "timm:swin_tiny_patch4_window7_224",
    "timm:efficientnet_lite0",
    "timm:mixer_s32_224",
    "torchvision:resnet50",
    "torchvision:mobilenet_v2",
    "torchvision:swin_t",
    "torchvision:vit_b_16",
    "torchvision:r3d_18",
    "torchvision:mvit_v2_s",
    "torchvision:swin3d_t",
)


def prepare_by_hand(frames: np.ndarray, shown: InputSpec) -> Tensor:
    """Scale and normalise in float64: (B, 3, H, W), torchvision's videos (B, 3, T, H, W), others (B, T, 3, H, W)."""
    scaled = (frames / shown.divisor - np.array(shown.mean)) / np.array(shown.std)
    if shown.n_frames == 1:
        return torch.from_numpy(scaled[:, 0].transpose(0, 3, 1, 2).astype(np.float32))
    axes = (0, 4, 1, 2, 3) if shown.layout == "channels-frames" else (0, 1, 4, 2, 3)
    return torch.from_numpy(scaled.transpose(axes).astype(np.float32))


def hook_by_hand(module: nn.Module, names: Sequence[str], batch: Tensor) -> dict[str, np.ndarray]:
    seen: dict[str, np.ndarray] = {}

    def keep(name: str, output: Any) -> None:
        seen[name] = (output[0] if isinstance(output, tuple) else output).detach().numpy().copy()

    handles = [
        module.get_submodule(name).register_forward_hook(lambda _, __, output, name=name: keep(name, output))
        for name in names
    ]
    with torch.no_grad():
        module.eval()(batch)
    for handle in handles:
        handle.remove()
    return seen


def check_taps(model: LoadedModel, by_hand: nn.Module, *, n_clips: int = 2) -> None:
    by_hand.load_state_dict(model.network.module.state_dict())
    frames = noise_frames(model.input, n_clips=n_clips)
    batch = model.prepare(frames)
    assert relative_error(batch.numpy(), prepare_by_hand(frames, model.input).numpy()) < TOLERANCE
    names = [tap.name for tap in model.taps]
    expected = hook_by_hand(by_hand, names, batch)
    got = model.activations(frames)
    assert list(got) == names
    errors = {name: relative_error(got[name].numpy(), expected[name]) for name in names}
    assert max(errors.values()) < TOLERANCE, errors
    assert all(tuple(got[tap.name].shape[1:]) == tap.shape for tap in model.taps)
    alone = model.activations(frames[-1:])
    errors = {name: relative_error(alone[name][0].numpy(), got[name][-1].numpy()) for name in names}
    assert max(errors.values()) < TOLERANCE, errors


def skip_unknown(name: str) -> None:
    """Skip a network that this timm has not yet: its small ones for tests came one after another."""
    if name.startswith("timm:test_") and not timm.is_model(name.removeprefix("timm:")):
        pytest.skip(f"timm {timm.__version__} has no {name}")


@pytest.mark.parametrize("name", [*SMALL, *(pytest.param(name, marks=slow) for name in LARGE)])
def test_taps_equal_hooks_by_hand_for_any_number_of_clips(name: str) -> None:
    skip_unknown(name)
    model = load_model(name, random_weights=True)
    library, _, rest = name.partition(":")
    by_hand = timm.create_model(rest) if library == "timm" else torchvision.models.get_model(rest, weights=None)
    check_taps(model, by_hand)


# Class tokens and grid of those whose tokens are in the order of the picture.
ORDERED = {
    "vit": (1, (1, 4, 4)),
    "deit": (2, (1, 4, 4)),
    "beit": (1, (1, 4, 4)),
    "dinov2": (1, (1, 4, 4)),
    "dinov2-registers": (5, (1, 4, 4)),
    "clip": (1, (1, 4, 4)),
    "siglip": (0, (1, 4, 4)),
    "videomae": (0, (2, 4, 4)),
    "vivit": (1, (2, 4, 4)),
}


@pytest.mark.parametrize("name", [*IMAGES, *VIDEOS])
def test_transformers_models_have_their_files_weights_their_layers_outputs_and_patches_in_order(
    name: str, tmp_path: Path
) -> None:
    folder = save_folder(tmp_path, name)
    model = load_model(f"hf:{folder}")
    by_hand = AutoModel.from_pretrained(folder)
    saved, own = by_hand.state_dict(), model.network.module.state_dict()
    assert own
    assert all(torch.equal(own[key], saved[key]) for key in own)
    for part in saved.keys() - own.keys():  # the pooling layer is not loaded
        assert part.startswith("pooler")
    check_taps(model, _Bare(by_hand, own.keys() >= saved.keys()), n_clips=3)
    assert len(model.taps) >= 2
    if name in ORDERED:
        assert {(tap.n_class_tokens, tap.grid) for tap in model.taps} == {ORDERED[name]}
        check_token_order(model)


class _Bare(nn.Module):
    """Passes on names and state of a model whose pooling layer is no part of the comparison."""

    def __init__(self, model: nn.Module, is_whole: bool) -> None:
        super().__init__()
        self.model = model
        self.is_whole = is_whole

    def load_state_dict(self, state: Any, **options: Any) -> Any:
        return self.model.load_state_dict(state, strict=self.is_whole)

    def get_submodule(self, target: str) -> nn.Module:
        return self.model.get_submodule(target)

    def forward(self, batch: Tensor) -> Any:
        return self.model(batch)


def embedded(model: LoadedModel, frames: np.ndarray) -> np.ndarray:
    """Return what the first block is given, (n_clips, n_tokens, width)."""
    seen: list[Tensor] = []

    def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append((args[0] if args else kwargs["hidden_states"]).detach().clone())

    block = model.network.module.get_submodule(model.taps[0].name)
    handle = block.register_forward_pre_hook(keep, with_kwargs=True)
    with torch.inference_mode():
        model.network.forward(model.prepare(frames))
    handle.remove()
    return seen[0].numpy()


def check_token_order(model: LoadedModel) -> None:
    """Change one patch: one token changes, the one that the grid says, after the class tokens."""
    grid, n_class, spec = model.taps[0].grid, model.taps[0].n_class_tokens, model.input
    assert grid is not None
    frames = noise_frames(spec, n_clips=1)
    before = embedded(model, frames)[0]
    assert len(before) == n_class + np.prod(grid)
    n_t, n_h, n_w = spec.n_frames // grid[0], spec.size[0] // grid[1], spec.size[1] // grid[2]
    for t, h, w in ((0, 0, 1), (grid[0] - 1, 2, 1), (0, grid[1] - 1, grid[2] - 1)):
        changed = frames.copy()
        changed[0, t * n_t : (t + 1) * n_t, h * n_h : (h + 1) * n_h, w * n_w : (w + 1) * n_w] ^= 255
        moved = np.flatnonzero((embedded(model, changed)[0] != before).any(axis=-1))
        assert moved.tolist() == [n_class + (t * grid[1] + h) * grid[2] + w]


@pytest.mark.parametrize(
    ("name", "n_class"),
    [
        ("timm:test_vit", 1),
        ("timm:test_vit_relpos", 0),
        pytest.param("timm:vit_small_patch16_224", 1, marks=slow),
        pytest.param("timm:vit_wee_patch16_reg1_gap_256", 1, marks=slow),
        pytest.param("timm:vit_small_patch14_reg4_dinov2", 5, marks=slow),
        pytest.param("timm:vit_small_patch16_dinov3", 5, marks=slow),
        pytest.param("timm:deit_tiny_distilled_patch16_224", 2, marks=slow),
        pytest.param("timm:beit_base_patch16_224", 1, marks=slow),
        pytest.param("timm:mixer_s32_224", 0, marks=slow),
        pytest.param("torchvision:vit_b_16", 1, marks=slow),
    ],
)
def test_token_i_is_patch_i_after_the_class_tokens(name: str, n_class: int) -> None:
    skip_unknown(name)
    model = load_model(name, random_weights=True)
    assert model.taps[0].n_class_tokens == n_class
    check_token_order(model)


def test_tokens_in_another_order_claim_no_grid(tmp_path: Path) -> None:
    # TimeSformer's tokens run through the frames of a patch first.
    row = find_row(f"hf:{save_folder(tmp_path, 'timesformer')}")
    layouts = {
        (row.modules[tap].channel_axis, row.modules[tap].n_class_tokens, row.modules[tap].grid) for tap in row.taps
    }
    assert layouts == {(1, 1, None)}


@pytest.mark.parametrize(
    ("name", "axis"),
    [
        ("timm:swin_tiny_patch4_window7_224", 2),
        ("torchvision:swin_t", 2),
        ("timm:convnext_atto", 0),
        ("timm:efficientnet_lite0", 0),
        ("timm:coatnet_0_rw_224", 0),
        ("timm:volo_d1_224", 2),
        ("torchvision:mobilenet_v2", 0),
    ],
)
def test_channel_axis_of_maps_is_known(name: str, axis: int) -> None:
    row = find_row(name)
    maps = {row.modules[tap].channel_axis for tap in row.taps if "post_network" not in tap}
    assert maps == {axis}


@pytest.mark.parametrize(("name", "axis"), [("timm:test_convnext", 0), ("timm:test_mambaout", 2)])
def test_mean_pooling_averages_over_the_places_of_a_map(name: str, axis: int) -> None:
    model = load_model(name, random_weights=True)
    tap = model.taps[-1]
    values = model.activations(noise_frames(model.input, n_clips=1))[tap.name]
    assert tap.channel_axis == axis
    assert torch.allclose(pool_mean(values, tap), values.mean(dim=(2, 3) if axis == 0 else (1, 2)), atol=1e-5)


def test_a_videos_maps_have_their_places_in_time_rows_and_columns() -> None:
    from brainsim.models import TapInfo

    row = find_row("torchvision:r3d_18")
    last = row.modules["layer4.1"]
    assert (last.channel_axis, last.grid) == (0, (2, 7, 7))
    tap = TapInfo("layer4.1", (5, 2, 7, 7), 0, 0, last.grid)
    values = torch.randn(3, 5, 2, 7, 7, generator=torch.Generator().manual_seed(0))
    by_hand = torch.nn.functional.adaptive_avg_pool2d(values.mean(dim=2), 2).flatten(1)
    assert torch.allclose(pool_spatial(values, tap), by_hand, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "first", "last", "n"),
    [
        ("timm:vit_small_patch16_224", "blocks.0", "blocks.11", 12),
        ("timm:convnext_atto", "stages.0.blocks.0", "stages.3.blocks.1", 12),
        ("timm:swin_tiny_patch4_window7_224", "layers.0.blocks.0", "layers.3.blocks.1", 12),
        ("timm:efficientnet_lite0", "blocks.0.0", "blocks.6.0", 16),
        ("torchvision:resnet50", "layer1.0", "layer4.2", 16),
        ("torchvision:mobilenet_v2", "features.1", "features.17", 17),
        ("torchvision:swin_t", "features.1.0", "features.7.1", 12),
        ("torchvision:vgg11", "features.1", "classifier.6", 17),
        ("torchvision:alexnet", "features.1", "classifier.6", 12),
        ("torchvision:r3d_18", "layer1.0", "layer4.1", 8),
        pytest.param("torchvision:densenet121", "features.denseblock1", "features.denseblock4", 4, marks=slow),
        pytest.param("torchvision:inception_v3", "Mixed_5b", "Mixed_7c", 11, marks=slow),
        pytest.param("torchvision:googlenet", "inception3a", "inception5b", 9, marks=slow),
        pytest.param("torchvision:mvit_v2_s", "blocks.0", "blocks.15", 16, marks=slow),
        pytest.param("torchvision:swin3d_t", "features.0.0", "features.6.1", 12, marks=slow),
        pytest.param("timm:xcit_nano_12_p16_224", "blocks.0", "cls_attn_blocks.1", 14, marks=slow),
    ],
)
def test_taps_are_blocks_and_stages_in_order_of_depth(name: str, first: str, last: str, n: int) -> None:
    row = find_row(name)
    assert (row.taps[0], row.taps[-1], len(row.taps)) == (first, last, n)
    depth = list(row.modules)
    assert [depth.index(tap) for tap in row.taps] == sorted(depth.index(tap) for tap in row.taps)
