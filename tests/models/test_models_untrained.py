"""Untrained controls: the same network under a name and a family of its own, beside the trained one in a store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from models_fakes import noise_frames

from brainsim.commands.extract import extract
from brainsim.commands.models import models_list, models_show
from brainsim.core.errors import InvalidValueError, UnknownNameError
from brainsim.core.provenance import digest
from brainsim.models import MODELS, ModelRow, WeightsSource, find_row, load_model, register_rows, weights_key
from brainsim.models.networks.masking import RandomMask
from brainsim.store import Store

NINE = (
    "cnn-static-object", "cnn-static-action", "cnn-flow-selfsup", "cnn-flow-action", "mae-base", "mae-base-finetuned",
    "videomae-base", "videomae-base-finetuned", "mvd-base",
)  # fmt: skip


@pytest.mark.parametrize("name", NINE)
def test_control_is_the_same_network_and_input_in_a_family_of_its_own(name: str) -> None:
    row, control = MODELS[name], find_row(f"{name}-untrained")
    same = ("taps", "tap_sets", "protocols", "load", "options", "order", "citation")
    assert all(getattr(control, part) == getattr(row, part) for part in same)
    assert (control.name, control.family) == (f"{name}-untrained", f"{row.family}-untrained")
    assert control.training_set == "none: seeded random weights"
    assert control.accuracy is None
    assert control.weights.kind == "random"
    assert models_show(name, layers=False).model["untrained_control"] == control.name
    assert models_show(control.name, layers=False).model["untrained_control"] is None


def test_control_has_the_weights_of_the_flag_and_the_flag_keeps_its_key() -> None:
    before = {  # computed by the version without controls
        ("mae-base", "default"): "a8fa3e6a94ded8e3",
        ("mae-base", "study"): "f743f3f2b9c222a8",
        ("cnn-flow-action", "default"): "dd4c56ec278d6e29",
        ("mvd-base", "study"): "513aa010f3ca306e",
    }
    for (name, protocol), expected in before.items():
        key = weights_key(name, protocol=protocol, random_weights=True)
        assert digest(key)[:16] == expected
        assert weights_key(f"{name}-untrained", protocol=protocol) == key
        assert weights_key(f"{name}-untrained", protocol=protocol, seed=1) != key


@pytest.fixture
def probe() -> Iterator[ModelRow]:
    """A row of tiny size with weights of its own, so that it can be had trained and untrained."""
    row = replace(MODELS["mae-base-tiny"], name="probe", weights=WeightsSource("file", "probe.pth", ("probe.pth",)))
    register_rows([row])
    yield row
    MODELS.remove(row.name)


@pytest.fixture
def checkpoint(probe: ModelRow, tmp_path: Path) -> Path:
    path = tmp_path / "probe.pth"
    torch.save(load_model(probe, random_weights=True, seed=99).network.module.state_dict(), path)
    return path


@pytest.fixture
def movie(tmp_path: Path) -> Path:
    path = tmp_path / "noise.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8))
    return path


def test_both_spellings_of_a_control_give_the_same_bits(probe: ModelRow) -> None:
    frames = noise_frames(probe.input)
    named = load_model("probe-untrained", seed=3)
    flagged = load_model("probe", random_weights=True, seed=3)
    assert named.weights_digest == flagged.weights_digest
    a, b = named.activations(frames), flagged.activations(frames)
    assert all(torch.equal(a[layer], b[layer]) for layer in a)
    other = load_model("probe-untrained", seed=4).activations(frames)
    assert not torch.equal(a["blocks.0.mlp.fc2"], other["blocks.0.mlp.fc2"])


def test_a_control_sees_the_patches_that_its_model_sees(probe: ModelRow, checkpoint: Path) -> None:
    tokens = torch.arange(17.0)[None, :, None]  # each patch is its own place
    seen = []
    models = [
        load_model("probe", protocol="study", checkpoint=checkpoint, seed=5),
        load_model("probe-untrained", protocol="study", seed=5),
        load_model("probe-untrained", protocol="study", seed=6),
    ]
    for model in models:
        (mask,) = (m for m in model.network.module.modules() if isinstance(m, RandomMask))
        seen.append([mask(tokens).flatten().tolist() for _ in range(3)])
    assert seen[0] == seen[1] != seen[2]


@pytest.mark.parametrize("protocol", ["default", "study"])
def test_one_store_holds_the_trained_model_and_its_control(
    probe: ModelRow, checkpoint: Path, movie: Path, tmp_path: Path, protocol: str
) -> None:
    path = tmp_path / "s.zarr"
    ask = {"store": path, "frame_s": 1.0, "device": "cpu", "layers": ["blocks.3.mlp.fc2"], "protocol": protocol}
    done = extract([movie], models=["probe-untrained", "probe"], checkpoint=checkpoint, **ask)  # type: ignore[arg-type]  # options of many types
    assert list(done.feature_sets) == ["probe", "probe-untrained"]
    box = Store(path)
    nodes = {name: f"activations/{folder}/blocks.3.mlp.fc2/noise" for name, folder in done.feature_sets.items()}
    assert {name: box.info(node).attributes["family"] for name, node in nodes.items()} == {
        "probe": "image-mae",
        "probe-untrained": "image-mae-untrained",
    }
    assert "file" in box.info(nodes["probe"]).key["weights"]
    assert box.info(nodes["probe-untrained"]).key["weights"]["random"] == 0
    trained, untrained = (box.read(node, "values") for node in nodes.values())
    assert not np.allclose(trained, untrained)
    # The flag on the model alone gives the control's numbers, under the model's name and family.
    flagged = extract([movie], models=["probe"], random_weights=True, **ask)  # type: ignore[arg-type]  # as above
    assert flagged.n_nodes_written == 1
    again = box.read(f"activations/{flagged.feature_sets['probe']}/blocks.3.mlp.fc2/noise", "values")
    np.testing.assert_array_equal(again, untrained)


def test_controls_take_no_checkpoint(probe: ModelRow, checkpoint: Path, movie: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="probe-untrained is an untrained control; --checkpoint") as caught:
        load_model("probe-untrained", checkpoint=checkpoint)
    assert str(caught.value.hint).startswith("--models probe --checkpoint")
    with pytest.raises(InvalidValueError, match="probe-untrained take none: untrained") as caught:
        extract([movie], models=["probe-untrained"], checkpoint=checkpoint, store=tmp_path / "s.zarr")
    assert caught.value.hint == "--models probe,probe-untrained"


def test_globs_stand_for_controls_only_where_they_match_no_model() -> None:
    assert MODELS.match("mae-*") == ["mae-base", "mae-base-finetuned", "mae-base-tiny", "mae-base-finetuned-tiny"]
    assert MODELS.match("*-untrained") == [f"{name}-untrained" for name in NINE]
    assert MODELS.match("mae-*-untrained") == ["mae-base-untrained", "mae-base-finetuned-untrained"]
    assert MODELS.match("mvd-base-untrained") == ["mvd-base-untrained"]
    assert MODELS.match("mvd-base") == ["mvd-base"]
    with pytest.raises(UnknownNameError, match=r"unknown model 'x\*'"):
        MODELS.match("x*")


def test_controls_are_listed_where_asked_for_and_hidden_else() -> None:
    assert not [name for name in MODELS if name.endswith("-untrained")]
    assert [m["name"] for m in models_list().models][:9] == list(NINE)
    assert not [m for m in models_list().models if m["name"].endswith("-untrained")]
    assert models_list().controls.startswith("mae-base-untrained: ")
    every = [m["name"] for m in models_list(untrained=True).models]
    assert every[:9] == list(NINE)
    assert every[-9:] == [f"{name}-untrained" for name in NINE]
    assert [m["name"] for m in models_list("mvd-untrained").models] == ["mvd-base-untrained"]
    assert [m["name"] for m in models_list("mvd").models] == ["mvd-base", "mvd-base-tiny"]


def test_what_has_no_control_says_why() -> None:
    with pytest.raises(UnknownNameError, match="no mae-base-tiny-untrained: mae-base-tiny has random weights already"):
        find_row("mae-base-tiny-untrained")
    with pytest.raises(UnknownNameError, match="no pixels-untrained: pixels has no weights"):
        find_row("pixels-untrained")
    with pytest.raises(UnknownNameError, match=r"did you mean .*'mae-base-untrained'"):
        find_row("mae-base-untraind")
    assert "mae-base-tiny-untrained" not in MODELS
    assert MODELS.get("pixels-untrained") is None
    assert MODELS.get("mvd-base-untrained") == find_row("mvd-base-untrained")
    with pytest.raises(UnknownNameError, match="timm") as caught:
        find_row("timm:resnet18-untrained")
    assert any("--random-weights" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("name", ["foo:bar", "mae:base", "tim:resnet18"])
def test_unknown_name_with_a_colon_names_the_sources_of_other_models(name: str) -> None:
    expected = f"unknown model '{name}'; before the colon stands timm, torchvision, hf or file"
    with pytest.raises(UnknownNameError, match=expected) as caught:
        find_row(name)
    for example in ("timm:", "torchvision:", "hf:", "file:"):
        assert example in str(caught.value.hint)
    with pytest.raises(UnknownNameError, match=expected):
        extract(["x.mp4"], models=[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", NINE)
def test_full_size_controls_neither_vanish_nor_explode_over_depth(name: str) -> None:
    model = load_model(f"{name}-untrained")
    for layer, values in model.activations(noise_frames(model.input, n_clips=1)).items():
        assert 0.1 < float(values.std()) < 200, layer
        assert float(values.abs().max()) < 65504 / 8, layer
