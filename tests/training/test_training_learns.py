"""Networks that learn on a CPU: flow without truth, and actions that only motion tells. Minutes long."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from generated_movies import MOTIONS, write_flow_clips, write_motion_classes
from PIL import Image

import brainsim
from brainsim.commands.train import TrainSummary
from brainsim.models.loading import load_model
from brainsim.training.flow_losses import measure_endpoint_error
from brainsim.training.flow_truth import read_flo

Record = Callable[[str, object], None]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def flow_training(tmp_path_factory: pytest.TempPathFactory) -> TrainSummary:
    """Train the tiny self-supervised network on photographs that move."""
    folder = tmp_path_factory.mktemp("flow")
    write_flow_clips(folder / "clips", n_clips=160)
    return brainsim.train(
        "cnn-flow-selfsup-tiny", videos=folder / "clips", out=folder / "flow.pt", epochs=8, device="cpu"
    )


def test_endpoint_error_falls_below_half_of_that_of_no_flow(
    flow_training: TrainSummary, record_property: Record
) -> None:
    (held_out,) = flow_training.scores
    record_property("scores", held_out)
    assert held_out["epe_px"] < 0.5 * held_out["epe_zero_px"]


def test_flow_tells_actions_that_single_frames_do_not(
    flow_training: TrainSummary, tmp_path: Path, record_property: Record
) -> None:
    videos = write_motion_classes(tmp_path / "clips", n_clips=40)
    options = {"videos": videos, "epochs": 3, "device": "cpu"}
    flow = brainsim.train(
        "cnn-flow-action-tiny", out=tmp_path / "a.pt", flow_checkpoint=flow_training.checkpoint, **options
    )
    static = brainsim.train("cnn-static-action-tiny", out=tmp_path / "s.pt", **options)
    n_clips, chance = flow.n_clips["val"], 100 / len(MOTIONS)
    # Three standard deviations of guessing.
    spread = 3 * 100 * np.sqrt((1 / len(MOTIONS)) * (1 - 1 / len(MOTIONS)) / n_clips)
    record_property("flow_top1, static_top1", (flow.scores[0]["top1"], static.scores[0]["top1"]))
    assert flow.scores[0]["top1"] > chance + spread
    assert static.scores[0]["top1"] < chance + spread


@pytest.mark.parametrize("system", ["cnn-flow-selfsup", "cnn-flow-action", "cnn-static-action"])
def test_full_size_systems_are_trained_at_their_own_settings(system: str, tmp_path: Path) -> None:
    """One short epoch at 224 px with the study's recipe; what it writes is a checkpoint of the system."""
    videos = write_motion_classes(tmp_path / "clips", n_clips=2, n_frames=12)
    options = {"videos": videos, "epochs": 1, "batch_size": 2, "window_step": 6, "device": "cpu"}
    if system == "cnn-flow-action":
        seed_state = load_model("cnn-flow-selfsup", random_weights=True).network.module.state_dict()
        torch.save(seed_state, tmp_path / "flow.pt")
        options["flow_checkpoint"] = tmp_path / "flow.pt"
    if system != "cnn-flow-selfsup":
        options["start"] = "random"
    made = brainsim.train(system, out=tmp_path / "w.pt", **options)
    assert np.isfinite(made.scores[0]["loss"])
    model = load_model(system, checkpoint=made.checkpoint)
    assert [tap.name for tap in model.taps] == list(model.row.taps)
    assert all(not module.training for module in model.network.module.modules())


def test_error_on_a_real_scene_is_reported(
    flow_training: TrainSummary, shared_dir: Path, record_property: Record
) -> None:
    """RubberWhale (Middlebury): a scene of other things in other motions, and two frames in place of eleven."""
    folder = shared_dir / "data" / "rubberwhale"
    if not folder.exists():
        pytest.skip("no RubberWhale in the folder of real data")
    # 384 of 388 rows: the network halves its maps three times.
    rows = slice(2, 386)
    first, second = (np.asarray(Image.open(folder / f"rubberwhale{i}.png").convert("RGB"))[rows] for i in (1, 2))
    truth = torch.from_numpy(read_flo(folder / "flow_gt.flo")[rows].copy()).permute(2, 0, 1)
    frames = np.stack([first] * 5 + [second] * 6)  # the one step lies in the middle of eleven frames
    network = load_model("cnn-flow-selfsup-tiny", checkpoint=flow_training.checkpoint).network.module
    shown = torch.from_numpy(frames).permute(3, 0, 1, 2).flatten(0, 1)[None] / 255
    with torch.inference_mode():
        flow = network(shown)[0][0].unflatten(0, (-1, 2))[4]
    error, none = (float(measure_endpoint_error(f, truth)) for f in (flow, torch.zeros_like(flow)))
    record_property("epe_px, none_px", (error, none))
    assert none == pytest.approx(1.26, abs=0.01)
    assert np.isfinite(error)
