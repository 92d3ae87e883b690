"""Any other model by its name: where it is found, what it is called in the store, and what is said where it is not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from external_fakes import save_folder
from models_fakes import noise_frames

from brainsim.commands.extract import extract
from brainsim.commands.models import models_list, models_show
from brainsim.core.checks import check_node_name
from brainsim.core.errors import CheckpointError, InputFileError, InvalidValueError, UnknownNameError
from brainsim.models import MODELS, find_row, load_model, weights_key
from brainsim.models.external.tracing import find_trunk
from brainsim.stimuli import plan_clips, render_moving_photographs, write_video
from brainsim.stimuli.opening import open_stimulus
from brainsim.store import Store

SMALL = "timm:test_resnet"  # timm's own for tests: 160 px, 4 blocks


@pytest.fixture
def movie(tmp_path: Path) -> Path:
    write_video(
        tmp_path / "run-1.mp4", render_moving_photographs(0, 0, duration_s=3, width=64, height=48, fps_hz=12), 12
    )
    return tmp_path / "run-1.mp4"


def test_rows_of_the_list_are_found_as_before() -> None:
    assert find_row("mae-base") is MODELS["mae-base"]
    assert find_row(MODELS["mae-base"]) is MODELS["mae-base"]
    assert "timm:resnet18" not in MODELS


def test_a_small_timm_model_from_its_name_to_the_store(movie: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    options: dict[str, Any] = {"models": [SMALL], "store": store, "random_weights": True, "pool": "mean"}
    told = extract([movie], dry_run=True, **options)
    done = extract([movie], **options)
    assert {row["node"] for row in told.plan} == {info.path for info in Store(store).nodes("activations")}
    feature_set = done.feature_sets[SMALL]
    assert feature_set.startswith("timm+test_resnet@")
    assert extract([movie], **options).n_nodes_written == 0
    row = find_row(SMALL)
    box = Store(store)
    for layer in row.taps:
        info = box.info(f"activations/{feature_set}/{layer}/run-1")
        assert (info.attributes["model"], info.attributes["family"]) == (SMALL, "resnet")
        assert info.attributes["layer_index"] == list(row.modules).index(layer)
        assert info.arrays["values"][0] == (3, info.attributes["shape"][0])
    assert "timm" in info.software


def test_a_layer_glob_chooses_among_taps_and_otherwise_among_all_modules(movie: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"store": tmp_path / "s.zarr", "random_weights": True, "dry_run": True}
    layers = [row["layer"] for row in extract([movie], models=[SMALL], layers=["layer1*"], **options).plan]
    assert layers == [tap for tap in find_row(SMALL).taps if tap.startswith("layer1")]
    told = extract([movie], models=[SMALL], layers=["fc", "layer4.0"], **options)
    assert [(row["layer"], row["n_features"]) for row in told.plan][-1] == ("fc", 1000)
    mixed = extract([movie], models=[SMALL, "cnn-static-object-tiny"], layers=["conv1"], **options)
    assert {(row["model"], row["layer"]) for row in mixed.plan} == {
        (SMALL, "conv1"),
        ("cnn-static-object-tiny", "conv1"),
    }
    with pytest.raises(UnknownNameError, match=r"did you mean 'layer4\.0'"):
        extract([movie], models=[SMALL], layers=["layer4.9"], **options)
    with pytest.raises(UnknownNameError, match="there is one, but it runs 2 times in one forward pass"):
        extract([movie], models=["torchvision:resnet18"], layers=["layer1.0.relu"], **options)


def test_any_module_that_was_named_is_stored_with_what_it_gives(movie: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    done = extract([movie], models=[SMALL], layers=["fc"], random_weights=True, store=store)
    values = Store(store).read(f"activations/{done.feature_sets[SMALL]}/fc/run-1", "values")
    model = load_model(SMALL, random_weights=True)
    assert values.shape == (3, 1000)
    assert "fc" not in {tap.name for tap in model.taps}


def test_frames_of_torchvisions_video_models_are_a_known_time_apart(tmp_path: Path) -> None:
    write_video(
        tmp_path / "fast.mp4", render_moving_photographs(0, 0, duration_s=2, width=32, height=32, fps_hz=60), 60
    )
    row = find_row("torchvision:r3d_18")
    assert (row.input.n_frames, row.input.size, row.input.sampling_hz) == (16, (112, 112), 15.0)
    plan = plan_clips(
        open_stimulus(tmp_path / "fast.mp4"), n_frames=16, frame_stride=1, frame_rate_hz=row.input.sampling_hz
    )
    assert np.diff(plan.frame_index[1]).tolist() == [4] * 15  # every fourth of 60 fps


def test_show_tells_layers_input_and_how_sizes_were_known() -> None:
    shown = models_show("timm:vit_small_patch16_224")
    json.dumps([shown.model, shown.protocols, shown.layers])
    assert (shown.model["family"], shown.model["n_layers"], shown.model["weights"]) == (
        "vision_transformer",
        12,
        "timm",
    )
    first = shown.layers[0]
    assert (first["name"], first["shape"], first["bytes_per_clip"]) == ("blocks.0", [197, 384], 4 * 197 * 384)
    assert (first["n_class_tokens"], first["grid"], first["channel_axis"]) == (1, [1, 14, 14], 1)
    assert shown.protocols[0]["mean"] == [0.5, 0.5, 0.5]
    every = models_show("timm:vit_small_patch16_224", modules=True)
    assert len(every.layers) == shown.model["n_modules"] > 100


def test_list_tells_how_others_are_named() -> None:
    assert [other.partition(":")[0] for other in models_list().others] == ["timm", "torchvision", "hf", "file"]


def test_names_of_nodes_are_safe_and_differ() -> None:
    names = ["timm:resnet18", "timm:resnet18.a1_in1k", "torchvision:resnet18"]
    nodes = [find_row(name).node_name for name in names]
    assert len(set(nodes)) == 3
    assert all(check_node_name(f"{node}@00000000") and ":" not in node and "/" not in node for node in nodes)
    assert all(row.node_name == name for name, row in MODELS.items())


def test_hub_ids_and_folders_of_the_same_name_differ_in_the_store(tmp_path: Path) -> None:
    folder = save_folder(tmp_path, "vit")
    row = find_row(f"hf:{folder}")
    assert (row.name, row.node_name, row.family) == ("hf:./vit", "hf+.+vit", "vit")
    assert str(tmp_path) not in json.dumps(weights_key(row))
    other = save_folder(tmp_path / "other", "vit", seed=1)
    assert find_row(f"hf:{other}").name == row.name
    assert weights_key(f"hf:{other}") != weights_key(row)
    with pytest.raises(InvalidValueError, match=r"two models would both be called hf:\./vit"):
        extract([tmp_path / "none.mp4"], models=[f"hf:{folder}", f"hf:{other}"])


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("timm:vit_smal_patch16_224", "vit_small_patch16_224"),
        ("timm:resnet18.a1_in2k", r"resnet18\.a1_in1k"),
        ("torchvision:resnet51", "resnet50"),
        ("torchvision:resnet50.IMAGENET1K_V3", "IMAGENET1K_V1"),
        ("torchvision:fasterrcnn_resnet50_fpn", "unknown torchvision classifier"),
        ("tim:resnet18", "unknown model"),
    ],
)
def test_unknown_names_are_answered_with_near_misses(name: str, match: str) -> None:
    with pytest.raises(UnknownNameError, match=match):
        find_row(name)


def test_what_a_transformers_folder_lacks_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=r"holds no config\.json"):
        find_row(f"hf:{tmp_path}")
    folder = save_folder(tmp_path, "vit")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(InvalidValueError, match=r"no preprocessor_config\.json"):
        find_row(f"hf:{folder}")


def test_offline_the_file_to_fetch_and_the_way_to_name_it_are_told() -> None:
    with pytest.raises(CheckpointError, match="hf:nobody/nothing") as caught:
        find_row("hf:nobody/nothing")
    assert "model.safetensors of nobody/nothing" in str(caught.value)
    assert "hf:./FOLDER" in str(caught.value)
    with pytest.raises(CheckpointError, match="could not be fetched") as caught:
        load_model("timm:resnet18")
    assert "--checkpoint" in str(caught.value)


def test_a_model_that_shuffles_its_patches_is_refused(tmp_path: Path) -> None:
    from transformers import ViTMAEConfig

    ViTMAEConfig(num_hidden_layers=1).save_pretrained(tmp_path / "mae")
    with pytest.raises(InvalidValueError, match="hides and shuffles patches") as caught:
        find_row(f"hf:{tmp_path / 'mae'}")
    assert "mae-base" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "size", "mean", "std"),
    [
        ("vit", (64, 64), 0.5, 0.5),
        ("clip", (64, 64), 0.48145466, 0.26862954),
        ("convnext", (64, 64), 0.5, 0.5),
        ("videomae", (64, 64), 0.5, 0.5),
        ("vivit", (64, 64), 1.5, 0.5),  # bytes / 127.5 - 1, then (x - 0.5) / 0.5
    ],
)
def test_input_of_transformers_models_is_what_their_processor_gives(
    name: str, size: tuple[int, int], mean: float, std: float, tmp_path: Path
) -> None:
    from external_fakes import CONFIGS

    folder = save_folder(tmp_path, name)
    model = load_model(f"hf:{folder}")
    assert model.input.size == size
    scale = 255 / model.input.divisor
    unit = 2.0 if name == "vivit" else 1.0  # the processor's values of black to white, before mean and std
    assert model.input.mean[0] * unit / scale == pytest.approx(mean, abs=1e-6)
    assert model.input.std[0] * unit / scale == pytest.approx(std, abs=1e-6)
    # A picture that needs no resizing comes out of the processor as it comes out of `prepare`.
    frames = noise_frames(model.input, n_clips=1)
    processor = CONFIGS[name][1]()
    processor.do_resize = processor.do_center_crop = False
    given = frames[0, 0] if model.input.n_frames == 1 else list(frames[0])
    expected = np.asarray(processor(given, return_tensors="np")["pixel_values"])
    assert np.allclose(model.prepare(frames).numpy(), expected.reshape(model.prepare(frames).shape), atol=2e-5)


def test_identity_of_other_models_depends_on_what_changes_numbers(tmp_path: Path) -> None:
    assert find_row("timm:resnet18").identity() != find_row("timm:resnet34").identity()
    first, second = find_row("torchvision:resnet50"), find_row("torchvision:resnet50.IMAGENET1K_V1")
    assert weights_key(first)["weights"] == {"hub": "torchvision:ResNet50_Weights.IMAGENET1K_V2"}
    assert weights_key(second)["weights"] == {"hub": "torchvision:ResNet50_Weights.IMAGENET1K_V1"}
    folder = save_folder(tmp_path, "vit")
    before = find_row(f"hf:{folder}").identity()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-6}))
    assert find_row(f"hf:{folder}").identity() != before


def test_finding_a_model_leaves_torchs_generator_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    find_row("timm:test_vit")
    assert torch.equal(torch.get_rng_state(), before)


def test_naming_rows_imports_no_library() -> None:
    program = (
        "import sys; import brainsim.commands.extract_jobs; from brainsim.models import find_row, weights_key; "
        "find_row('mae-base'); weights_key('mae-base-tiny'); "
        "print([n for n in ('torch', 'timm', 'transformers', 'torchvision') if n in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_trunk_is_what_every_path_passes() -> None:
    x = torch.ones(2, requires_grad=True) * 1.0
    before = x.sin()
    inside = before.cos()
    block = before + inside  # a residual block
    end = block.exp()
    trunk = find_trunk(x, [end])
    assert trunk is not None
    assert {t.grad_fn in trunk for t in (x, before, block, end)} == {True}
    assert inside.grad_fn not in trunk
    assert find_trunk(x, [torch.ones(2)]) is None


def test_paths_are_counted_beyond_the_range_of_floats() -> None:
    x = torch.ones(1, requires_grad=True) * 1.0
    y = x
    for _ in range(1200):  # 2 ** 1200 paths
        y = y + y.sin()
    trunk = find_trunk(x, [y])
    assert trunk is not None
    assert len(trunk) == 1201
