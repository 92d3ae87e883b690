"""The list of models: what each row says, and how a family is added."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import brainsim
from brainsim.commands.models import models_list, models_show
from brainsim.core.errors import InvalidValueError, UnknownNameError
from brainsim.models import MODELS, InputSpec, ModelRow, ProtocolSpec, WeightsSource

# Name, family, taps: the study's nine systems.
NINE = (
    ("cnn-static-object", "static-cnn", 11),
    ("cnn-static-action", "static-cnn", 11),
    ("cnn-flow-selfsup", "dynamic-cnn", 11),
    ("cnn-flow-action", "dynamic-cnn", 11),
    ("mae-base", "image-mae", 12),
    ("mae-base-finetuned", "image-mae", 12),
    ("videomae-base", "video-mae", 12),
    ("videomae-base-finetuned", "video-mae", 12),
    ("mvd-base", "mvd", 12),
)


def test_nine_systems_come_first_in_the_studys_order_each_followed_by_its_family() -> None:
    listed = [m for m in models_list().models if m["weights"] not in ("random", "none")]
    assert [(m["name"], m["family"], m["n_layers"]) for m in listed] == list(NINE)
    assert sum(m["n_layers"] for m in listed) == 104


@pytest.mark.parametrize("name", [name for name, _, _ in NINE])
def test_tiny_twin_has_the_taps_family_and_loader_of_its_full_system(name: str) -> None:
    full, tiny = MODELS[name], MODELS[f"{name}-tiny"]
    assert (tiny.taps, tiny.family, tiny.kind, tiny.load) == (full.taps, full.family, full.kind, full.load)
    assert tiny.weights.kind == "random"
    assert tiny.input.n_frames == full.input.n_frames
    assert tiny.input.frame_stride == full.input.frame_stride
    assert tiny.input.layout == full.input.layout


@pytest.mark.parametrize("name", [name for name, _, _ in NINE])
def test_full_row_names_its_source_licence_training_set_and_weights(name: str) -> None:
    row = MODELS[name]
    assert row.citation
    assert row.licence
    assert row.training_set
    assert row.trained_to_give
    assert row.weights.identifier
    assert row.weights.files
    assert set(row.protocols) == {"default", "study"}


def test_listing_as_json_holds_the_nine_with_all_that_is_known_of_them() -> None:
    program = [sys.executable, "-m", "brainsim", "models", "list", "--json"]
    printed = subprocess.run(program, capture_output=True, text=True, check=True)
    listed = {model["name"]: model for model in json.loads(printed.stdout)["models"]}
    for name, family, n_layers in NINE:
        model, row = listed[name], MODELS[name]
        assert (model["family"], model["taps"]) == (family, list(row.taps))
        assert len(model["taps"]) == n_layers
        shown = row.input
        assert (model["n_frames"], model["frame_stride"], model["size"]) == (
            shown.n_frames, shown.frame_stride, list(shown.size)
        )  # fmt: skip
        assert (model["mean"], model["std"]) == (list(shown.mean), list(shown.std))
        told = ("kind", "trained_to_give", "training_set", "licence", "citation", "weights_identifier", "weights_files")
        assert all(model[what] for what in told), model
        assert [protocol["protocol"] for protocol in model["protocols"]] == ["default", "study"]
        assert model["untrained_control"] == f"{name}-untrained"
    assert listed["mae-base-finetuned"]["accuracy"] == {
        "percent": 83.66, "task": "ImageNet-1k, top-1, fine-tuned", "source": "facebookresearch/mae"
    }  # fmt: skip


def test_published_accuracies_name_their_source() -> None:
    published = {m["name"]: m["accuracy_percent"] for m in models_list().models if m["accuracy_percent"] is not None}
    assert published == {
        "cnn-static-object": 69.758,
        "mae-base-finetuned": 83.66,
        "videomae-base-finetuned": 81.5,
    }
    assert all(MODELS[name].accuracy.source for name in published)  # type: ignore[union-attr]  # those above have one


def test_video_systems_see_a_stride_of_4_by_default_and_consecutive_frames_in_the_study() -> None:
    for name in ("videomae-base", "videomae-base-finetuned", "mvd-base"):
        row = MODELS[name]
        assert (row.input.n_frames, row.input.frame_stride) == (16, 4)
        assert row.protocol("study").input.frame_stride == 1
    for name in ("cnn-flow-selfsup", "cnn-flow-action"):
        assert (MODELS[name].input.n_frames, MODELS[name].input.frame_stride) == (11, 1)


def test_listing_imports_no_heavy_library() -> None:
    program = (
        "import sys; from brainsim.commands.models import models_list, models_show; import brainsim.models as m; "
        "models_list(); models_show('mvd-base', layers=False); m.weights_key('mvd-base-tiny'); "
        "print([n for n in ('torch', 'timm', 'transformers', 'torchvision', 'zarr', 'himalaya') if n in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_show_is_json_and_lists_layers_with_shapes_and_bytes() -> None:
    shown = models_show("cnn-static-object-tiny")
    json.dumps([shown.model, shown.protocols, shown.layers])
    first = shown.layers[0]
    assert first["name"] == "conv1"
    assert first["shape"] == [8, 32, 32]
    assert first["bytes_per_clip"] == 4 * first["n_features"] == 4 * 8 * 32 * 32
    assert [layer["index"] for layer in shown.layers] == list(range(11))


def test_list_of_one_family_and_near_misses() -> None:
    assert {m["name"] for m in models_list("mvd").models} == {"mvd-base", "mvd-base-tiny"}
    with pytest.raises(UnknownNameError, match="'mvd'"):
        models_list("mdv")
    with pytest.raises(UnknownNameError, match="mae-base"):
        models_show("mae-bas")
    with pytest.raises(InvalidValueError, match=r"protocol is 'studi'; did you mean 'study'"):
        models_show("mae-base", protocol="studi")
    with pytest.raises(InvalidValueError, match="tap is 'mlp'"):
        models_show("mae-base", tap="mlp")


def test_row_refuses_contradictions() -> None:
    protocols = {"default": ProtocolSpec(InputSpec(n_frames=1, size=(8, 8)))}
    with pytest.raises(InvalidValueError, match="layout is 'images'"):
        InputSpec(n_frames=1, size=(8, 8), layout="images")
    with pytest.raises(InvalidValueError, match="'image' with 3 frames"):
        InputSpec(n_frames=3, size=(8, 8))
    with pytest.raises(InvalidValueError, match="taps"):
        ModelRow(name="a", family="b", kind="c", taps=("x", "x"), protocols=protocols, load="m:f")
    with pytest.raises(InvalidValueError, match="default"):
        ModelRow(name="a", family="b", kind="c", taps=("x",), protocols={}, load="m:f")
    with pytest.raises(InvalidValueError, match="weights is 'web'"):
        WeightsSource("web")


def test_identity_depends_on_what_changes_numbers_and_on_nothing_else() -> None:
    from dataclasses import replace

    row = MODELS["mae-base-tiny"]
    assert replace(row, citation="another", notes=("more",)).identity() == row.identity()
    assert replace(row, options={**row.options, "width": 96}).identity() != row.identity()
    assert row.identity("study") != row.identity("default")


TOY_FAMILY = '''
"""Turn an image into its mean colour."""
from brainsim.models.rows import InputSpec, ModelRow, ProtocolSpec

ROWS = (
    ModelRow(
        name="toy-mean", family="toy", kind="mean colour", taps=("pool",), load=f"{__name__}:load",
        protocols={"default": ProtocolSpec(InputSpec(n_frames=1, size=(8, 8)))},
    ),
)


def load(row, protocol):
    from torch import nn

    from brainsim.models.network import Network

    module = nn.Sequential()
    module.add_module("pool", nn.AdaptiveAvgPool2d(1))
    return Network(module)
'''
USE_TOY = """
import numpy as np, sys
from brainsim.models import MODELS
assert "torch" not in sys.modules
from brainsim.models import load_model
frames = np.full((2, 1, 8, 8, 3), 51, np.uint8)
print(MODELS["toy-mean"].family, load_model("toy-mean").activations(frames)["pool"].flatten().tolist())
"""


def _use_toy(path: Path) -> str:
    # The working folder comes before PYTHONPATH: it must be the one under test.
    environment = {**os.environ, "PYTHONPATH": str(path)}
    run = subprocess.run([sys.executable, "-c", USE_TOY], capture_output=True, text=True, cwd=path, env=environment)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_adding_a_family_is_adding_one_file(tmp_path: Path) -> None:
    source = Path(brainsim.__file__).parent
    shutil.copytree(source, tmp_path / "brainsim", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "brainsim" / "models" / "families" / "toy.py").write_text(TOY_FAMILY)
    family, values = _use_toy(tmp_path).split(maxsplit=1)
    assert family == "toy"
    assert json.loads(values) == pytest.approx([51 / 255] * 6)


def test_another_distribution_adds_a_family_by_entry_point(tmp_path: Path) -> None:
    (tmp_path / "toy_plugin.py").write_text(TOY_FAMILY)
    dist = tmp_path / "toy_plugin-1.0.dist-info"
    dist.mkdir()
    (dist / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-plugin\nVersion: 1.0\n")
    (dist / "entry_points.txt").write_text("[brainsim.models]\ntoy = toy_plugin\n")
    assert _use_toy(tmp_path).startswith("toy ")
