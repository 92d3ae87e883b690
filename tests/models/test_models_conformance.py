"""Every row equals its reference implementation, at every layer, in both protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import timm
import torch
import torchvision
from conformance import MASK_SEED, Case, ModelConformance, TokenConformance, check_close, load_case
from models_fakes import noise_frames
from models_references import (
    flow_by_formula,
    hooked,
    imagenet,
    images,
    mvd,
    resnet18_by_formula,
    stack_by_channel,
    timm_vit,
    under_own_names,
    videomae,
    vitmae,
)
from torch import Tensor, nn

from brainsim.models import MODELS, InputSpec, ModelRow, Network, ProtocolSpec, WeightsSource, load_model

Shapes = dict[str, tuple[int, ...]]
BLOCKS = range(12)


def is_tiny(row: ModelRow) -> bool:
    return row.name.endswith("-tiny")


def both_sizes(*names: str) -> tuple[str, ...]:
    return (*names, *(f"{name}-tiny" for name in names))


def resnet_shapes(*, width: int, size: int, prefix: str = "") -> Shapes:
    """Return the 11 taps of a ResNet-18: conv1 at half the size, each stage after the first at half the last."""
    shapes: Shapes = {"conv1": (width, size // 2, size // 2), "maxpool": (width, size // 4, size // 4)}
    for stage in range(4):
        side = size // 4 // 2**stage
        shapes |= {f"layer{stage + 1}.{block}.conv2": (width * 2**stage, side, side) for block in (0, 1)}
    return {f"{prefix}{name}": shape for name, shape in (shapes | {"avgpool": (8 * width, 1, 1)}).items()}


def transformer_size(row: ModelRow) -> dict[str, int]:
    return {"size": 64, "width": 48, "n_heads": 3} if is_tiny(row) else {"size": 224, "width": 768, "n_heads": 12}


def weights(case: Case) -> dict[str, Tensor]:
    return case.model.network.module.state_dict()


class TestStaticCNN(ModelConformance):
    def rows(self) -> Sequence[str]:
        return both_sizes("cnn-static-object", "cnn-static-action")

    def is_slow(self, row: ModelRow) -> bool:
        return not is_tiny(row)

    def n_parameters(self, row: ModelRow) -> int | None:
        # ResNet-18 (torchvision, published); 500 classes instead of 1,000, each with 512 weights and a bias.
        return {"cnn-static-object": 11_689_512, "cnn-static-action": 11_689_512 - 500 * 513}.get(row.name)

    def layer_shapes(self, row: ModelRow, protocol: str) -> Shapes:
        return resnet_shapes(width=8, size=64) if is_tiny(row) else resnet_shapes(width=64, size=224)

    def study_changes(self, row: ModelRow) -> dict[str, object]:
        return {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}

    def reference(self, case: Case, frames: np.ndarray) -> Mapping[str, np.ndarray]:
        scaled = frames / 255
        shown = images(scaled if case.protocol == "study" else imagenet(scaled))
        if is_tiny(case.row):
            return resnet18_by_formula(weights(case), shown)
        by_hand = torchvision.models.resnet18(num_classes=500 if "action" in case.row.name else 1000)
        by_hand.load_state_dict(weights(case))
        return hooked(by_hand, under_own_names(case.row.taps), shown)


def test_the_formula_of_resnet18_is_torchvisions_network() -> None:
    torch.manual_seed(0)
    by_hand = torchvision.models.resnet18()
    shown = torch.randn(1, 3, 224, 224)
    expected = resnet18_by_formula(by_hand.state_dict(), shown)
    check_close(hooked(by_hand, under_own_names(list(expected)), shown), expected)


def test_resnet18_at_full_size_is_torchvisions() -> None:
    family, case = TestStaticCNN(), load_case(MODELS["cnn-static-object"], "default")
    frames = noise_frames(case.model.input, n_clips=1)
    check_close(case.run(frames), family.reference(case, frames))


class TestDynamicCNN(ModelConformance):
    def rows(self) -> Sequence[str]:
        return both_sizes("cnn-flow-selfsup", "cnn-flow-action")

    def is_slow(self, row: ModelRow) -> bool:
        return not is_tiny(row)

    def n_parameters(self, row: ModelRow) -> int | None:
        return {"cnn-flow-selfsup": 1_951_784, "cnn-flow-action": 1_951_784 + 11_486_324}.get(row.name)

    def layer_shapes(self, row: ModelRow, protocol: str) -> Shapes:
        width, size = (8, 64) if is_tiny(row) else (64, 224)
        if "action" in row.name:
            return resnet_shapes(width=width, size=size, prefix="flow_classifier.")
        half, quarter, eighth = ((size // s, size // s) for s in (2, 4, 8))
        return {
            "conv1": (width, size, size),
            "conv2": (2 * width, *half),
            "conv3": (4 * width, *quarter),
            "conv4": (2 * width, *eighth),
            "predict_flow4": (20, *eighth),
            "deconv3": (2 * width, *quarter),
            "xconv3": (2 * width, *quarter),
            "predict_flow3": (20, *quarter),
            "deconv2": (width, *half),
            "xconv2": (width, *half),
            "predict_flow2": (20, *half),
        }

    def reference(self, case: Case, frames: np.ndarray) -> Mapping[str, np.ndarray]:
        state, shown = weights(case), stack_by_channel(frames)
        if "action" not in case.row.name:
            return flow_by_formula(state, shown)[0]
        layers, flow = flow_by_formula(state, shown, "flow_generator.")
        return layers | resnet18_by_formula(state, flow, "flow_classifier.")


class TestImageMAE(TokenConformance):
    patch = (1, 16, 16)
    n_class_tokens = 1

    def rows(self) -> Sequence[str]:
        return both_sizes("mae-base", "mae-base-finetuned")

    def is_slow(self, row: ModelRow) -> bool:
        return not is_tiny(row)

    def n_parameters(self, row: ModelRow) -> int | None:
        # ViT-B/16 without head (timm, published); mean pooling moves the norm, the head adds 1,000 x 769.
        return {"mae-base": 85_798_656, "mae-base-finetuned": 85_798_656 + 769_000}.get(row.name)

    def layer_shapes(self, row: ModelRow, protocol: str) -> Shapes:
        n_patches, width = (16, 48) if is_tiny(row) else (196, 768)
        if protocol == "study" and "finetuned" not in row.name:
            n_patches //= 4
        return {f"blocks.{i}.mlp.fc2": (1 + n_patches, width) for i in BLOCKS}

    def study_changes(self, row: ModelRow) -> dict[str, object]:
        return {"divisor": 255.0**2} | ({} if "finetuned" in row.name else {"random_mask": 0.75})

    def embedding(self, row: ModelRow) -> str:
        return "patch_drop"

    def noise(self, case: Case, n_clips: int) -> Tensor:
        n_patches = (case.model.input.size[0] // 16) ** 2
        return torch.rand(n_clips, n_patches, generator=torch.Generator().manual_seed(MASK_SEED))

    def token_of_patch(self, case: Case, index: int) -> int | None:
        noise = self.noise(case, 1)[0]
        if not self.is_masked(case):
            return 1 + index
        rank = int((noise < noise[index]).sum())  # the quarter of least noise is kept, in order of noise
        return 1 + rank if rank < len(noise) // 4 else None

    def is_masked(self, case: Case) -> bool:
        return case.protocol == "study" and "finetuned" not in case.row.name

    def reference(self, case: Case, frames: np.ndarray) -> Mapping[str, np.ndarray]:
        scaled = frames / 255
        shown = images(imagenet(scaled / 255 if case.protocol == "study" else scaled))
        size = transformer_size(case.row)
        if self.is_masked(case):
            names = {"embeddings": "patch_drop"}
            names |= {f"layers.{i}": f"blocks.{i}" for i in BLOCKS}
            names |= {f"layers.{i}.mlp.fc2": f"blocks.{i}.mlp.fc2" for i in BLOCKS}
            by_transformers = vitmae(weights(case), **size)
            embedded: list[np.ndarray] = []
            by_transformers.embeddings.register_forward_hook(lambda _, __, output: embedded.append(output[0].numpy()))
            del names["embeddings"]
            found = hooked(by_transformers, names, shown, noise=self.noise(case, len(frames)))
            return {"patch_drop": embedded[0]} | found
        if case.row.name == "mae-base":
            by_hand = timm.create_model("vit_base_patch16_224.mae", pretrained=False)
        else:
            by_hand = timm_vit(n_classes=1000 if "finetuned" in case.row.name else 0, **size)
        by_hand.load_state_dict(weights(case))
        return hooked(by_hand, under_own_names([*case.row.taps, *case.row.layers("residual")]), shown)


def test_random_mask_draws_anew_for_every_clip_and_afresh_after_loading() -> None:
    frames = np.repeat(noise_frames(MODELS["mae-base-tiny"].input, n_clips=1), 2, axis=0)
    models = [load_model("mae-base-tiny", protocol="study", seed=seed) for seed in (0, 0, 1)]
    first, again, other = (model.activations(frames)["blocks.0.mlp.fc2"] for model in models)
    assert not torch.allclose(first[0], first[1])
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


# Tubelet projection 1,180,416, 12 blocks without key bias, and the last norm (absent where tokens are averaged).
VIDEO_VIT = 86_227_200


class TestVideoMAE(TokenConformance):
    patch = (2, 16, 16)

    def rows(self) -> Sequence[str]:
        return both_sizes("videomae-base", "videomae-base-finetuned")

    def is_slow(self, row: ModelRow) -> bool:
        return not is_tiny(row)

    def n_parameters(self, row: ModelRow) -> int | None:
        return {"videomae-base": VIDEO_VIT, "videomae-base-finetuned": VIDEO_VIT - 2 * 768}.get(row.name)

    def layer_shapes(self, row: ModelRow, protocol: str) -> Shapes:
        n_tokens, width = (128, 48) if is_tiny(row) else (1568, 768)
        return {f"encoder.layer.{i}": (n_tokens - (protocol == "study"), width) for i in BLOCKS}

    def study_changes(self, row: ModelRow) -> dict[str, object]:
        return {"frame_stride": 1, "masked_tokens": 1}

    def embedding(self, row: ModelRow) -> str:
        return "embeddings"

    def token_of_patch(self, case: Case, index: int) -> int | None:
        if case.protocol == "default":
            return index
        return index - 1 if index else None  # the first is masked

    def reference(self, case: Case, frames: np.ndarray) -> Mapping[str, np.ndarray]:
        by_hand = videomae(mean_pooling="finetuned" in case.row.name, **transformer_size(case.row))
        by_hand.load_state_dict(weights(case))
        pixels = torch.from_numpy(imagenet(frames / 255).transpose(0, 1, 4, 2, 3).astype(np.float32))
        mask = None
        if case.protocol == "study":
            n_tokens = self.layer_shapes(case.row, "default")["encoder.layer.0"][0]
            mask = torch.zeros(len(frames), n_tokens, dtype=torch.bool)
            mask[:, 0] = True
        seen = hooked(by_hand, under_own_names(case.row.layers("mlp-out")), pixels, bool_masked_pos=mask)
        with torch.no_grad():
            hidden = by_hand(pixels, bool_masked_pos=mask, output_hidden_states=True).hidden_states
        # Hidden state 0 is the embedding; i + 1 comes after block i.
        return seen | {"embeddings": hidden[0].numpy()} | {f"encoder.layer.{i}": hidden[i + 1].numpy() for i in BLOCKS}


class TestMVD(TokenConformance):
    patch = (2, 16, 16)

    def rows(self) -> Sequence[str]:
        return both_sizes("mvd-base")

    def is_slow(self, row: ModelRow) -> bool:
        return not is_tiny(row)

    def n_parameters(self, row: ModelRow) -> int | None:
        # qkv has one bias of 2,304 in each block; the key's third is zero in every file.
        return {"mvd-base": VIDEO_VIT + 12 * 768}.get(row.name)

    def layer_shapes(self, row: ModelRow, protocol: str) -> Shapes:
        return {f"blocks.{i}.mlp.fc2": (128, 48) if is_tiny(row) else (1568, 768) for i in BLOCKS}

    def study_changes(self, row: ModelRow) -> dict[str, object]:
        return {"frame_stride": 1}

    def embedding(self, row: ModelRow) -> str:
        return "patch_embed"

    def reference(self, case: Case, frames: np.ndarray) -> Mapping[str, np.ndarray]:
        names = {f"encoder.layer.{i}.output.dense": f"blocks.{i}.mlp.fc2" for i in BLOCKS}
        names |= {f"encoder.layer.{i}": f"blocks.{i}" for i in BLOCKS}
        pixels = torch.from_numpy(imagenet(frames / 255).transpose(0, 1, 4, 2, 3).astype(np.float32))
        return hooked(mvd(weights(case), **transformer_size(case.row)), names, pixels)


class TestCoarseMaps(ModelConformance):
    def rows(self) -> Sequence[str]:
        return ("pixels", "contrast-energy", "frame-difference")

    def layer_shapes(self, row: ModelRow, protocol: str) -> Shapes:
        return {"grid": (1, 9, 16)}

    def reference(self, case: Case, frames: np.ndarray) -> Mapping[str, np.ndarray]:
        luma = frames / 255 @ np.array([0.299, 0.587, 0.114])  # (B, T, 72, 128)
        if case.row.name == "frame-difference":
            luma = np.abs(np.diff(luma, axis=1))
        cells = luma[:, -1].reshape(-1, 9, 8, 16, 8)
        grid = cells.std(axis=(2, 4)) if case.row.name == "contrast-energy" else cells.mean(axis=(2, 4))
        return {"grid": grid[:, None]}


class TestFamilyOfAPlugIn(ModelConformance):
    """A family that is in no list, with no more than a new one must say."""

    def rows(self) -> Sequence[ModelRow]:
        shown = InputSpec(n_frames=2, size=(16, 24), layout="stacked", mean=(0.5, 0.4, 0.3))
        return (
            ModelRow(
                name="toy-plug-in",
                family="toy",
                kind="one convolution",
                taps=("conv",),
                protocols={"default": ProtocolSpec(shown)},
                load=f"{__name__}:load_plug_in",
                weights=WeightsSource("file", "toy.pth", ("toy.pth",)),
            ),
        )

    def layer_shapes(self, row: ModelRow, protocol: str) -> Shapes:
        return {"conv": (4, 8, 12)}

    def reference(self, case: Case, frames: np.ndarray) -> Mapping[str, np.ndarray]:
        x = (frames / 255 - [0.5, 0.4, 0.3]).transpose(0, 4, 1, 2, 3).reshape(-1, 6, 8, 2, 12, 2)
        state = {name: tensor.double().numpy() for name, tensor in weights(case).items()}
        summed = np.einsum("bchiwj,ocij->bohw", x, state["conv.weight"])
        return {"conv": summed + state["conv.bias"][:, None, None]}


def load_plug_in(row: ModelRow, protocol: str) -> Network:
    module = nn.Sequential()
    module.add_module("conv", nn.Conv2d(6, 4, kernel_size=2, stride=2))
    return Network(module)


@pytest.mark.parametrize(
    ("name", "eps"),
    [
        ("mae-base-tiny", 1e-6),
        ("mae-base-finetuned-tiny", 1e-6),
        ("mvd-base-tiny", 1e-6),
        ("videomae-base-tiny", 1e-12),
    ],
)
def test_layer_norms_have_the_eps_of_the_definition(name: str, eps: float) -> None:
    # Too small a difference for activations of random weights to show.
    norms = [m for m in load_model(name).network.module.modules() if isinstance(m, nn.LayerNorm)]
    assert len(norms) == 25
    assert {norm.eps for norm in norms} == {eps}


def test_every_row_of_the_nine_systems_and_their_twins_is_in_the_suite() -> None:
    suite = [
        name
        for family in (TestStaticCNN, TestDynamicCNN, TestImageMAE, TestVideoMAE, TestMVD)
        for name in family().rows()
    ]
    families = {MODELS[name].family for name in suite}
    assert sorted(suite) == sorted(
        name for name, row in MODELS.items() if row.family in families and not name.endswith("-untrained")
    )


def test_tiny_resnet_is_torchvisions_class_with_an_eighth_of_the_channels() -> None:
    names = ("cnn-static-object", "cnn-static-object-tiny")
    full, tiny = (load_model(name, random_weights=True).network.module for name in names)
    assert type(full) is type(tiny) is torchvision.models.ResNet
    shapes = {layer: tuple(weight.shape) for layer, weight in tiny.state_dict().items()}
    for layer, weight in full.state_dict().items():
        if layer.endswith("conv2.weight"):
            assert shapes[layer] == (weight.shape[0] // 8, weight.shape[1] // 8, 3, 3)
