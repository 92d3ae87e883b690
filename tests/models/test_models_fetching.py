"""Public weights: from the libraries' caches where they lie there, and one sentence where nothing can be fetched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from external_fakes import save_folder
from safetensors.torch import save_file
from torch import nn
from transformers import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEForVideoClassification

from brainsim.core.errors import CheckpointError
from brainsim.models import MODELS, ModelRow, WeightsSource, load_model
from brainsim.models.loading import fetch_weights
from brainsim.models.network import build_network, digest_state
from brainsim.models.torch_cache import find_cached

COMMIT = "0123456789abcdef0123456789abcdef01234567"
# A process of its own: the libraries read where their caches are, and whether they are offline, when imported.
PROGRAM = """
import json, sys
from brainsim.core.errors import CheckpointError
from brainsim.models import load_model
for name in sys.argv[1:]:
    try:
        print(json.dumps({"name": name, "digest": load_model(name).weights_digest}))
    except CheckpointError as error:
        print(json.dumps({"name": name, "error": str(error), "hint": str(error.hint)}))
"""


def seeded(build: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        made: nn.Module = build().eval()
        for name, parameter in made.named_parameters():
            if name.endswith("bias"):  # some libraries start them at zero
                nn.init.normal_(parameter, std=0.2)
    return made


def hub_folder(cache: Path, repository: str) -> Path:
    """Return the folder of a repository's files in a cache of the hub."""
    repo = cache / "hub" / f"models--{repository.replace('/', '--')}"
    snapshot = repo / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    return snapshot


def load_offline(names: Sequence[str], cache: Path) -> dict[str, dict[str, str]]:
    """Load models by name in a process that may not fetch, with the caches of the hub and of torch below `cache`."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(cache), "TORCH_HOME": str(cache / "torch")}
    run = subprocess.run([sys.executable, "-c", PROGRAM, *names], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "Downloading" not in run.stderr
    return {told["name"]: told for told in map(json.loads, run.stdout.splitlines())}


def test_offline_what_lies_in_the_caches_is_loaded_and_of_the_rest_file_and_option_are_named(tmp_path: Path) -> None:
    by_hand = seeded(lambda: timm.create_model("test_resnet"))
    save_file(by_hand.state_dict(), hub_folder(tmp_path, "timm/test_resnet.r160_in1k") / "model.safetensors")
    folder = save_folder(tmp_path / "made", "vit", seed=3)
    hub = hub_folder(tmp_path, "someone/small-vit")
    for file in folder.iterdir():
        file.rename(hub / file.name)
    small = seeded(torchvision.models.mobilenet_v3_small)
    kept = tmp_path / "torch" / "hub" / "checkpoints" / "mobilenet_v3_small-047dcff4.pth"
    kept.parent.mkdir(parents=True)
    torch.save(small.state_dict(), kept)
    there = ["timm:test_resnet", "hf:someone/small-vit", "torchvision:mobilenet_v3_small"]
    absent = {
        "cnn-static-object": "resnet18-f37072fd.pth",
        "mae-base": "mae_pretrain_vit_base.pth",
        "videomae-base": "MCG-NJU/videomae-base",
        "torchvision:mobilenet_v2": "mobilenet_v2-7ebf99e0.pth",
    }
    told = load_offline([*there, *absent], tmp_path)
    assert told["timm:test_resnet"]["digest"] == digest_state(by_hand)
    assert told["torchvision:mobilenet_v3_small"]["digest"] == digest_state(small)
    assert len(told["hf:someone/small-vit"]["digest"]) == 64
    for name, file in absent.items():
        assert f"the public weights of {name} " in told[name]["error"]
        assert file in told[name]["hint"]
        assert "--checkpoint PATH" in told[name]["hint"]
    assert "HF_HUB_OFFLINE is set" in told["cnn-static-object"]["error"]


@pytest.fixture
def torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path


@pytest.mark.usefixtures("torch_home")
@pytest.mark.parametrize("name", ["mnasnet0_5", "googlenet", "resnet18"])
def test_torchvisions_files_fill_its_networks(name: str) -> None:
    """One that asks for its version, one whose file has classifiers beside its own, and the row that has a row."""
    more = {"init_weights": False} if name == "googlenet" else {}  # its own take seconds
    by_hand = seeded(lambda: torchvision.models.get_model(name, **more))
    torch.save(by_hand.state_dict(), find_cached(torchvision.models.get_model_weights(name).DEFAULT.url))
    models = [f"torchvision:{name}", *(["cnn-static-object"] if name == "resnet18" else [])]
    assert {load_model(model).weights_digest for model in models} == {digest_state(by_hand)}


class Hostile:
    """Writes a file when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.target,))


def test_hostile_file_in_torchs_cache_does_not_run(torch_home: Path) -> None:
    path = find_cached(torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url)
    torch.save({"conv1.weight": Hostile(torch_home / "ran")}, path)
    with pytest.raises(CheckpointError, match="more than tensors and plain values"):
        load_model("cnn-static-object")
    assert not (torch_home / "ran").exists()


def hub_row(name: str, repository: str) -> ModelRow:
    """Return a tiny twin whose weights are said to be on the hub."""
    return replace(MODELS[name], weights=WeightsSource("transformers", repository, (repository,)))


@pytest.mark.parametrize("finetuned", [False, True])
def test_videomae_by_its_id_has_the_biases_of_the_published_names(tmp_path: Path, finetuned: bool) -> None:
    """The hub's file calls them q_bias and v_bias: loaders that look for others leave them at zero."""
    from safetensors.torch import load_file

    config = VideoMAEConfig(
        image_size=64, hidden_size=48, num_attention_heads=3, intermediate_size=192, use_mean_pooling=finetuned,
        decoder_hidden_size=32, decoder_num_hidden_layers=1, decoder_num_attention_heads=2,
        decoder_intermediate_size=32,
    )  # fmt: skip
    kind = VideoMAEForVideoClassification if finetuned else VideoMAEForPreTraining
    seeded(lambda: kind(config)).save_pretrained(tmp_path)
    file = load_file(tmp_path / "model.safetensors")
    stem = "videomae.encoder.layer.3.attention.attention"
    assert f"{stem}.q_bias" in file
    row = hub_row(f"videomae-base{'-finetuned' if finetuned else ''}-tiny", str(tmp_path))
    model = load_model(row)
    state = model.network.module.state_dict()
    # Layer 3 by the installed library's names.
    found = [t for n, t in state.items() if "layer.3." in n and n.endswith((".query.bias", ".q_bias"))]
    assert len(found) == 1
    assert torch.equal(found[0], file[f"{stem}.q_bias"])
    assert model.weights_digest == load_model(row, checkpoint=tmp_path).weights_digest


def test_videomae_by_its_id_is_never_loaded_in_part(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from safetensors.torch import load_file
    from transformers import VideoMAEModel

    config = VideoMAEConfig(
        image_size=64, hidden_size=48, num_attention_heads=3, intermediate_size=192, use_mean_pooling=False
    )
    seeded(lambda: VideoMAEModel(config)).save_pretrained(tmp_path)
    path, row = tmp_path / "model.safetensors", hub_row("videomae-base-tiny", str(tmp_path))
    capfd.readouterr()
    load_model(row)
    assert capfd.readouterr() == ("", "")
    state = load_file(path)
    del state["encoder.layer.2.attention.attention.q_bias"]
    save_file({**state, "surplus": torch.zeros(2)}, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 missing: encoder\.layer\.2\.\S+; 1 unexpected: surplus"):
        load_model(row)


def test_damaged_files_of_a_cache_are_one_sentence(tmp_path: Path) -> None:
    VideoMAEConfig(image_size=64, hidden_size=48).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"x" * 100)
    row = hub_row("videomae-base-tiny", str(tmp_path))
    with pytest.raises(CheckpointError, match="could not be fetched") as caught:
        fetch_weights(build_network(row), row)
    assert "--checkpoint" in str(caught.value.hint)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_full_size_systems_are_loaded_by_name_from_the_hubs_cache(tmp_path: Path) -> None:
    """As after a download: the published files' names and sizes, read without a network."""
    mae = seeded(lambda: timm.create_model("vit_base_patch16_224.mae", num_classes=0))
    save_file(mae.state_dict(), hub_folder(tmp_path, "timm/vit_base_patch16_224.mae") / "model.safetensors")
    digests = {"mae-base": digest_state(mae)}
    for name, kind in (
        ("videomae-base", VideoMAEForPreTraining),
        ("videomae-base-finetuned", VideoMAEForVideoClassification),
    ):
        is_finetuned = kind is VideoMAEForVideoClassification
        by_hand: Any = seeded(lambda kind=kind, own=is_finetuned: kind(VideoMAEConfig(use_mean_pooling=own)))
        by_hand.save_pretrained(hub_folder(tmp_path, MODELS[name].weights.identifier))
        digests[name] = digest_state(by_hand.videomae)
        del by_hand
    told = load_offline(list(digests), tmp_path)
    assert {name: told[name].get("digest", told[name]) for name in digests} == digests
    frames = np.zeros((1, 1, 224, 224, 3), np.uint8)
    save_file(mae.state_dict(), tmp_path / "mae.safetensors")
    model = load_model("mae-base", checkpoint=tmp_path / "mae.safetensors")
    assert model.weights_digest == digests["mae-base"]
    assert model.activations(frames)["blocks.11.mlp.fc2"].shape == (1, 197, 768)
