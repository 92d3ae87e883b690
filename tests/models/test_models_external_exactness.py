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

from brainsim.models import InputSpec, LoadedModel, load_model
from brainsim.models.pooling import pool_mean, pool_spatial

TOLERANCE = 1e-5
TIMM = (
    "vit_small_patch16_224",
    "vit_wee_patch16_reg1_gap_256",
    "convnext_atto",
    "swin_tiny_patch4_window7_224",
    "efficientnet_lite0",
    "mixer_s32_224",
)
TORCHVISION = ("resnet50", "mobilenet_v2", "swin_t", "squeezenet1_1")
TORCHVISION_VIDEO = ("r3d_18",)
LARGE = ("torchvision:mvit_v2_s", "torchvision:swin3d_t", "torchvision:vit_b_16", "timm:vit_small_patch14_reg4_dinov2")


def prepare_by_hand(frames: np.ndarray, shown: InputSpec) -> Tensor:
    """Scale and normalise in float64: (B, 3, H, W), torchvision's videos (B, 3, T, H, W), others (B, T, 3, H, W)."""
    scaled = (frames / shown.divisor - np.array(shown.mean)) / np.array(shown.std)
    if shown.n_frames == 1:
        return torch.from_numpy(scaled[:, 0].transpose(0, 3, 1, 2).astype(np.float32))
    axes = (0, 4, 1, 2, 3) if shown.layout == "channels-frames" else (0, 1, 4, 2, 3)
    return torch.from_numpy(scaled.transpose(axes).astype(np.float32))


def hook_by_hand(module: nn.Module, names: Sequence[str], batch: Tensor, **inputs: Any) -> dict[str, np.ndarray]:
    seen: dict[str, np.ndarray] = {}

    def keep(name: str, output: Any) -> None:
        seen[name] = (output[0] if isinstance(output, tuple) else output).detach().numpy().copy()

    handles = [
        module.get_submodule(name).register_forward_hook(lambda _, __, output, name=name: keep(name, output))
        for name in names
    ]
    with torch.no_grad():
        module.eval()(batch, **inputs)
    for handle in handles:
        handle.remove()
    return seen


def check_taps(model: LoadedModel, by_hand: nn.Module, *, n_clips: int = 2) -> None:
    by_hand.load_state_dict(model.network.module.state_dict())
    frames = noise_frames(model.input, n_clips=n_clips)
    names = [tap.name for tap in model.taps]
    expected = hook_by_hand(by_hand, names, prepare_by_hand(frames, model.input))
    got = model.activations(frames)
    assert list(got) == names
    errors = {name: relative_error(got[name].numpy(), expected[name]) for name in names}
    assert max(errors.values()) < TOLERANCE, errors
    assert all(tuple(got[tap.name].shape[1:]) == tap.shape for tap in model.taps)
    alone = model.activations(frames[-1:])
    errors = {name: relative_error(alone[name][0].numpy(), got[name][-1].numpy()) for name in names}
    assert max(errors.values()) < TOLERANCE, errors


@pytest.mark.parametrize("name", TIMM)
def test_taps_of_timm_models_equal_hooks_by_hand(name: str) -> None:
    model = load_model(f"timm:{name}", random_weights=True)
    check_taps(model, timm.create_model(name, pretrained=False))


@pytest.mark.parametrize("name", [*TORCHVISION, *TORCHVISION_VIDEO])
def test_taps_of_torchvision_models_equal_hooks_by_hand(name: str) -> None:
    model = load_model(f"torchvision:{name}", random_weights=True)
    check_taps(model, torchvision.models.get_model(name, weights=None))


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_taps_of_large_models_equal_hooks_by_hand(name: str) -> None:
    model = load_model(name, random_weights=True)
    library, _, rest = name.partition(":")
    by_hand = timm.create_model(rest) if library == "timm" else torchvision.models.get_model(rest, weights=None)
    check_taps(model, by_hand)


@pytest.mark.parametrize("name", [*IMAGES, *VIDEOS])
def test_taps_of_transformers_models_equal_hooks_by_hand(name: str, tmp_path: Path) -> None:
    folder = save_folder(tmp_path, name)
    model = load_model(f"hf:{folder}")
    check_taps(model, AutoModel.from_pretrained(folder, **_without_pooler(model)), n_clips=3)


def _without_pooler(model: LoadedModel) -> dict[str, Any]:
    has = any(name.startswith("pooler") for name, _ in model.network.module.named_parameters())
    takes = "add_pooling_layer" in type(model.network.module).__init__.__code__.co_varnames
    return {"add_pooling_layer": False} if takes and not has else {}


@pytest.mark.parametrize("name", [*IMAGES, *VIDEOS])
def test_weights_of_a_transformers_folder_are_those_in_its_file(name: str, tmp_path: Path) -> None:
    folder = save_folder(tmp_path, name)
    model = load_model(f"hf:{folder}")
    saved = AutoModel.from_pretrained(folder).state_dict()
    own = model.network.module.state_dict()
    assert own.keys() <= saved.keys()
    assert all(torch.equal(own[key], saved[key]) for key in own)


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
        ("timm:vit_small_patch16_224", 1),
        ("timm:vit_wee_patch16_reg1_gap_256", 1),
        ("timm:deit_tiny_distilled_patch16_224", 2),
        ("timm:vit_small_patch16_dinov3", 5),
        ("timm:beit_base_patch16_224", 1),
        ("timm:mixer_s32_224", 0),
        ("torchvision:vit_b_16", 1),
    ],
)
def test_token_i_is_patch_i_after_the_class_tokens(name: str, n_class: int) -> None:
    model = load_model(name, random_weights=True)
    assert model.taps[0].n_class_tokens == n_class
    check_token_order(model)


@pytest.mark.parametrize(
    ("name", "n_class", "grid"),
    [
        ("vit", 1, (1, 4, 4)),
        ("deit", 2, (1, 4, 4)),
        ("beit", 1, (1, 4, 4)),
        ("dinov2", 1, (1, 4, 4)),
        ("dinov2-registers", 5, (1, 4, 4)),
        ("clip", 1, (1, 4, 4)),
        ("siglip", 0, (1, 4, 4)),
        ("videomae", 0, (2, 4, 4)),
        ("vivit", 1, (2, 4, 4)),
    ],
)
def test_token_i_is_patch_i_in_transformers_models(
    name: str, n_class: int, grid: tuple[int, int, int], tmp_path: Path
) -> None:
    model = load_model(f"hf:{save_folder(tmp_path, name)}")
    assert {(tap.n_class_tokens, tap.grid) for tap in model.taps} == {(n_class, grid)}
    check_token_order(model)


def test_tokens_in_another_order_claim_no_grid(tmp_path: Path) -> None:
    # TimeSformer's tokens run through the frames of a patch first.
    model = load_model(f"hf:{save_folder(tmp_path, 'timesformer')}")
    assert {(tap.channel_axis, tap.n_class_tokens, tap.grid) for tap in model.taps} == {(1, 1, None)}


@pytest.mark.parametrize(
    ("name", "axis"),
    [
        ("timm:swin_tiny_patch4_window7_224", 2),
        ("torchvision:swin_t", 2),
        ("timm:convnext_atto", 0),
        ("timm:efficientnet_lite0", 0),
        ("torchvision:mobilenet_v2", 0),
    ],
)
def test_channel_axis_of_maps_is_the_one_that_does_not_grow_with_the_picture(name: str, axis: int) -> None:
    model = load_model(name, random_weights=True)
    assert {tap.channel_axis for tap in model.taps} == {axis}
    tap = model.taps[-1]
    values = model.activations(noise_frames(model.input, n_clips=1))[tap.name]
    by_hand = values.mean(dim=(2, 3) if axis == 0 else (1, 2))
    assert torch.allclose(pool_mean(values, tap), by_hand, atol=1e-5)


def test_a_videos_maps_have_their_places_in_time_rows_and_columns() -> None:
    model = load_model("torchvision:r3d_18", random_weights=True)
    last = model.taps[-1]
    assert (last.shape, last.channel_axis, last.grid) == ((512, 2, 7, 7), 0, (2, 7, 7))
    values = model.activations(noise_frames(model.input, n_clips=1))[last.name]
    by_hand = torch.nn.functional.adaptive_avg_pool2d(values.mean(dim=2), 2).flatten(1)
    assert torch.allclose(pool_spatial(values, last), by_hand, atol=1e-5)


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
        ("torchvision:densenet121", "features.denseblock1", "features.denseblock4", 4),
        ("torchvision:inception_v3", "Mixed_5b", "Mixed_7c", 11),
        ("torchvision:googlenet", "inception3a", "inception5b", 9),
        ("torchvision:r3d_18", "layer1.0", "layer4.1", 8),
        ("torchvision:mvit_v2_s", "blocks.0", "blocks.15", 16),
        ("torchvision:swin3d_t", "features.0.0", "features.6.1", 12),
    ],
)
def test_taps_are_blocks_and_stages_in_order_of_depth(name: str, first: str, last: str, n: int) -> None:
    from brainsim.models import find_row

    row = find_row(name)
    assert (row.taps[0], row.taps[-1], len(row.taps)) == (first, last, n)
    depth = list(row.modules)
    assert [depth.index(tap) for tap in row.taps] == sorted(depth.index(tap) for tap in row.taps)
