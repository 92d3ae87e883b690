"""Each step of the study's protocol by itself is the default with that step, and nothing else."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from brainsim.models import MODELS, load_model
from brainsim.models.rows import PROTOCOLS, STEPS, ModelRow

TINY = [name for name in MODELS if name.endswith("-tiny")]


def settings(row: ModelRow, protocol: str) -> dict[str, Any]:
    told = asdict(row.protocol(protocol))
    told.pop("notes")
    return {**told.pop("input"), **told}


def changes(row: ModelRow, protocol: str) -> dict[str, Any]:
    default = settings(row, "default")
    return {name: value for name, value in settings(row, protocol).items() if value != default[name]}


@pytest.mark.parametrize("name", list(MODELS))
def test_the_steps_together_are_the_studys_protocol(name: str) -> None:
    row = MODELS[name]
    steps = [changes(row, step) for step in STEPS]
    assert sum(map(len, steps)) == len({field for step in steps for field in step})  # no field in two steps
    assert {field: value for step in steps for field, value in step.items()} == changes(row, "study")
    for protocol in PROTOCOLS:
        assert row.is_changed_by(protocol) == bool(changes(row, protocol))


def test_which_systems_a_step_changes() -> None:
    changed = {step: {name for name in TINY if MODELS[name].is_changed_by(step)} for step in STEPS}
    assert changed == {
        "study-mask": {"mae-base-tiny", "videomae-base-tiny", "videomae-base-finetuned-tiny"},
        "study-scaling": {
            "cnn-static-object-tiny",
            "cnn-static-action-tiny",
            "mae-base-tiny",
            "mae-base-finetuned-tiny",
        },
        "study-window": {"videomae-base-tiny", "videomae-base-finetuned-tiny", "mvd-base-tiny"},
    }


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("mae-base-finetuned-tiny", "study-scaling"),
        ("mvd-base-tiny", "study-window"),
        ("cnn-static-object-tiny", "study-scaling"),
    ],
)
def test_the_only_step_of_a_system_gives_what_the_study_computes(name: str, step: str) -> None:
    models = {protocol: load_model(name, protocol=protocol) for protocol in ("default", "study", step)}
    spec = models["study"].input
    clips = np.random.default_rng(0).integers(0, 256, (2, spec.n_frames, *spec.size, 3), dtype=np.uint8)
    found = {protocol: model.activations(clips) for protocol, model in models.items()}
    for layer, values in found[step].items():
        np.testing.assert_array_equal(values.numpy(), found["study"][layer].numpy())
        if step == "study-scaling":  # a window shows the network other frames of the movie, not other numbers
            assert not np.array_equal(values.numpy(), found["default"][layer].numpy())


def test_a_mask_alone_scales_pixels_as_in_training() -> None:
    clips = np.random.default_rng(0).integers(0, 256, (3, 1, 64, 64, 3), dtype=np.uint8)
    default, masked, study = (load_model("mae-base-tiny", protocol=name) for name in ("default", "study-mask", "study"))
    np.testing.assert_array_equal(default.prepare(clips).numpy(), masked.prepare(clips).numpy())
    assert not np.array_equal(study.prepare(clips).numpy(), masked.prepare(clips).numpy())
    shapes = [[tap.shape for tap in model.taps] for model in (masked, study, default)]
    assert shapes[0] == shapes[1] != shapes[2]
