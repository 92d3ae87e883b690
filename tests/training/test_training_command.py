"""`brainsim train`: files, repeats, interruptions, frozen parts, starts, and what is refused."""

from __future__ import annotations

import csv
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generated_movies import write_flow_clips, write_motion_classes
from PIL import Image

import brainsim
from brainsim.core.errors import CheckpointError, InputFileError, InvalidValueError, UnknownNameError
from brainsim.models.catalogue import find_row
from brainsim.models.loading import load_model
from brainsim.models.network import build_network
from brainsim.training import running
from brainsim.training.saving import start_from_imagenet

STATIC, FLOW, ACTION = "cnn-static-action-tiny", "cnn-flow-selfsup-tiny", "cnn-flow-action-tiny"


@pytest.fixture(scope="module")
def actions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_motion_classes(tmp_path_factory.mktemp("actions"), n_clips=3, n_frames=14)


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flow_clips(tmp_path_factory.mktemp("moving"), n_clips=4, n_frames=13)


@pytest.fixture(scope="module")
def flow(moving: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("flow") / "flow.pt"
    train(FLOW, moving, out)
    return out


def train(system: str, videos: Path, out: Path, **more: Any) -> Any:
    options = {"epochs": 1, "batch_size": 4, "seed": 3, "device": "cpu", "n_workers": 1, **more}
    return brainsim.train(system, videos=videos, out=out, **options)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(path, weights_only=True)["state_dict"])


def read_curve(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines(), delimiter="\t"))


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_checkpoint_curves_and_figure_are_written_and_the_state_is_cleaned_up(actions: Path, tmp_path: Path) -> None:
    summary = train(STATIC, actions, tmp_path / "a.pt", epochs=2, batch_size=8)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.pt", "a.tsv"]
    assert summary.n_clips == {"train": 8, "val": 4, "test": 0}
    assert summary.n_windows == 8 * 14
    assert summary.n_actions == 4
    saved = torch.load(tmp_path / "a.pt", weights_only=True)
    assert saved["actions"] == ["down", "left", "right", "up"]
    assert saved["state_dict"]["fc.weight"].shape == (4, 64)
    rows = read_curve(tmp_path / "a.tsv")
    assert [float(row["epoch"]) for row in rows if row["part"] == "val"] == [1.0, 2.0]
    assert {"loss", "top1", "top5", "seconds"} <= set(rows[0])
    assert summary.scores[0]["part"] == "val"
    assert summary.scores[0]["top5"] == 100.0  # of four actions, five are always right
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > 1000


def test_a_checkpoint_of_other_actions_is_extracted_like_any_other(actions: Path, tmp_path: Path) -> None:
    train(STATIC, actions, tmp_path / "a.pt")
    model = load_model(STATIC, checkpoint=tmp_path / "a.pt")
    assert torch.equal(model.network.module.conv1.weight, weights(tmp_path / "a.pt")["conv1.weight"])
    summary = brainsim.extract(
        [actions / "left" / "000.mp4"],
        models=STATIC,
        checkpoint=tmp_path / "a.pt",
        store=tmp_path / "s.zarr",
        step_s=0.2,
    )
    assert summary.n_nodes_written == 11
    with pytest.raises(CheckpointError, match=f"trained as {STATIC}"):
        load_model("cnn-static-object-tiny", checkpoint=tmp_path / "a.pt")


def test_the_same_command_again_does_nothing_and_another_seed_is_another_training(
    actions: Path, tmp_path: Path
) -> None:
    first = train(STATIC, actions, tmp_path / "a.pt")
    stamp = (tmp_path / "a.pt").stat().st_mtime_ns
    again = train(STATIC, actions, tmp_path / "a.pt")
    assert again.reused
    assert again.scores == first.scores
    assert (tmp_path / "a.pt").stat().st_mtime_ns == stamp
    with pytest.raises(InvalidValueError, match="was not made by this command"):
        train(STATIC, actions, tmp_path / "a.pt", seed=4)
    train(STATIC, actions, tmp_path / "b.pt")
    assert_same(weights(tmp_path / "a.pt"), weights(tmp_path / "b.pt"))
    train(STATIC, actions, tmp_path / "a.pt", seed=4, overwrite=True)
    assert not torch.equal(weights(tmp_path / "a.pt")["conv1.weight"], weights(tmp_path / "b.pt")["conv1.weight"])


@pytest.mark.parametrize("at", [3, 20])
def test_an_interrupted_run_goes_on_to_the_same_bits(
    actions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    undisturbed = train(STATIC, actions, tmp_path / "a.pt", epochs=2, batch_size=8)
    step, steps = running.Run._step, []

    def interrupted_step(self: running.Run, batch: Any) -> dict[str, float]:
        steps.append(1)
        if len(steps) == at:
            os.kill(os.getpid(), signal.SIGINT)  # as Ctrl-C, in the middle of a step
        return step(self, batch)

    monkeypatch.setattr(running.Run, "_step", interrupted_step)
    with pytest.raises(KeyboardInterrupt):
        train(STATIC, actions, tmp_path / "b.pt", epochs=2, batch_size=8)
    assert (tmp_path / "b.state").exists()
    assert len(steps) == at
    monkeypatch.setattr(running.Run, "_step", step)
    with pytest.raises(InvalidValueError, match=r"other settings|not made by this command"):
        train(STATIC, actions, tmp_path / "b.pt", epochs=2, batch_size=8, dropout=0.5)
    resumed = train(STATIC, actions, tmp_path / "b.pt", epochs=2, batch_size=8)
    assert resumed.resumed
    assert resumed.scores == undisturbed.scores
    assert_same(weights(tmp_path / "a.pt"), weights(tmp_path / "b.pt"))
    assert not (tmp_path / "b.state").exists()
    one, other = (read_curve(tmp_path / name) for name in ("a.tsv", "b.tsv"))
    for row in (*one, *other):
        del row["seconds"]
    assert one == other


def test_frozen_flow_network_keeps_its_weights_and_its_batch_norm_statistics(
    actions: Path, flow: Path, tmp_path: Path
) -> None:
    summary = train(ACTION, actions, tmp_path / "a.pt", flow_checkpoint=flow)
    trained = weights(tmp_path / "a.pt")
    frozen = {n.removeprefix("flow_generator."): t for n, t in trained.items() if n.startswith("flow_generator.")}
    assert_same(frozen, weights(flow))
    assert int(trained["flow_classifier.bn1.num_batches_tracked"]) > 0
    assert summary.n_actions == 4
    assert load_model(ACTION, checkpoint=tmp_path / "a.pt").taps[0].name == "flow_classifier.conv1"


def test_flow_is_scored_against_the_truth_beside_the_clips(moving: Path, tmp_path: Path) -> None:
    summary = train(FLOW, moving, tmp_path / "f.pt", val_share=0.25)
    (score,) = summary.scores
    saved = torch.load(tmp_path / "f.pt", weights_only=True)
    assert saved["actions"] == []
    assert score["epe_px"] > 0
    true = [np.load(path).astype(np.float32) for path in sorted(moving.glob("*.flow.npy"))]
    lengths = [float(np.linalg.norm(flow[k : k + 10], axis=-1).mean()) for flow in true for k in range(3)]
    per_clip = np.array(lengths).reshape(4, 3).mean(axis=1)
    assert np.abs(per_clip - score["epe_zero_px"]).min() < 1e-3


def test_weights_of_an_object_classifier_begin_a_network_of_other_channels(tmp_path: Path) -> None:
    source = build_network(find_row("cnn-static-object-tiny")).module
    action = build_network(find_row(ACTION)).module.flow_classifier
    untouched = action.fc.weight.clone()
    start_from_imagenet(action, source.state_dict(), source="a test")
    mean = source.conv1.weight.detach().numpy().mean(axis=1)
    for channel in range(20):
        np.testing.assert_allclose(action.conv1.weight.detach().numpy()[:, channel], mean, rtol=1e-6)
    assert torch.equal(action.layer4[1].conv2.weight, source.layer4[1].conv2.weight)
    assert torch.equal(action.fc.weight, untouched)
    with pytest.raises(CheckpointError, match="do not fit the ResNet-18"):
        start_from_imagenet(action, {"conv1.weight": torch.zeros(3, 3, 7, 7)}, source="a test")


def test_a_file_of_weights_begins_a_training(actions: Path, tmp_path: Path) -> None:
    torch.save(build_network(find_row("cnn-static-object-tiny")).module.state_dict(), tmp_path / "objects.pth")
    from_file = train(STATIC, actions, tmp_path / "a.pt", start=str(tmp_path / "objects.pth"), learning_rate=1e-9)
    assert from_file.recipe["start"].endswith("objects.pth")
    objects = torch.load(tmp_path / "objects.pth", weights_only=True)
    torch.testing.assert_close(weights(tmp_path / "a.pt")["conv1.weight"], objects["conv1.weight"], atol=1e-5, rtol=0)


def test_where_imagenets_weights_cannot_be_fetched_file_and_option_are_named(
    actions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(CheckpointError, match="could not be fetched") as caught:
        train("cnn-static-action", actions, tmp_path / "a.pt")
    assert "resnet18-f37072fd.pth" in str(caught.value.hint)
    assert "--start PATH" in str(caught.value.hint)
    assert not any(tmp_path.iterdir())


def test_half_precision_learns_in_finite_numbers(actions: Path, tmp_path: Path) -> None:
    summary = train(STATIC, actions, tmp_path / "a.pt", precision="bf16")
    assert np.isfinite(summary.scores[0]["loss"])
    assert weights(tmp_path / "a.pt")["conv1.weight"].dtype == torch.float32


def test_a_dry_run_writes_nothing(actions: Path, tmp_path: Path) -> None:
    summary = train(STATIC, actions, tmp_path / "a.pt", dry_run=True)
    assert summary.dry_run
    assert summary.n_windows == 8 * 14
    assert not any(tmp_path.iterdir())


def test_clips_that_cannot_be_used_are_left_out_and_told(actions: Path, tmp_path: Path, flow: Path) -> None:
    videos = write_motion_classes(tmp_path / "v", n_clips=3, n_frames=12)
    (videos / "up" / "damaged.mp4").write_bytes((videos / "up" / "000.mp4").read_bytes()[:500])
    folder = videos / "up" / "short"
    folder.mkdir()
    Image.new("RGB", (64, 64)).save(folder / "1.png")
    Image.new("RGB", (64, 64)).save(folder / "2.png")
    summary = train(ACTION, videos, tmp_path / "a.pt", flow_checkpoint=flow)
    assert "1 clips cannot be read and are left out: up/damaged" in summary.warnings[0]
    assert "1 clips are shorter than 11 frames and are left out: up/short (2 frames)" in summary.warnings[1]


def test_mistakes_are_one_sentence(actions: Path, moving: Path, flow: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.pt"
    with pytest.raises(UnknownNameError, match="'mae-base' cannot be trained here"):
        train("mae-base", actions, out)
    with pytest.raises(InvalidValueError, match="no --flow-checkpoint"):
        train(ACTION, actions, out)
    with pytest.raises(InvalidValueError, match="stands on no flow network"):
        train(STATIC, actions, out, flow_checkpoint=flow)
    with pytest.raises(InvalidValueError, match="--start is 'imagnet'"):
        train(STATIC, actions, out, start="imagnet")
    with pytest.raises(InvalidValueError, match="begins at random weights"):
        train(FLOW, moving, out, start="imagenet")
    with pytest.raises(InvalidValueError, match="shows 1 action"):
        train(STATIC, moving, out)
    with pytest.raises(InvalidValueError, match="--out is the folder"):
        train(STATIC, actions, tmp_path)
    with pytest.raises(InputFileError, match="no folder of videos"):
        train(STATIC, tmp_path / "nowhere", out)
    with pytest.raises(InvalidValueError, match="--batch-size is 1"):
        train(STATIC, actions, out, batch_size=1)
    torch.save(build_network(find_row(STATIC)).module.state_dict(), tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="do not fit cnn-flow-selfsup-tiny"):
        train(ACTION, actions, out, flow_checkpoint=tmp_path / "other.pth")
    (tmp_path / "x.pt").write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match=r"x\.pt is no"):
        train(STATIC, actions, tmp_path / "x.pt")
    assert not out.exists()
