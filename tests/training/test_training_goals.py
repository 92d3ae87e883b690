"""Scores of held-out clips: top 1, top 5 and losses against a few lines of NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from scipy.special import log_softmax
from torch import Tensor, nn

from brainsim.models.rows import InputSpec
from brainsim.stimuli import Stimulus
from brainsim.training.goals import ActionGoal
from brainsim.training.recipes import RECIPES
from brainsim.training.windows import Batch, Source, Window

N_ACTIONS, N_CLIPS, N_WINDOWS = 9, 40, 3
SHOWN = InputSpec(n_frames=1, size=(8, 8))


class Table(nn.Module):
    """Answers by a table: the brightness of a picture is its row."""

    def __init__(self, logits: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("logits", torch.from_numpy(logits))
        self.fc = nn.Linear(logits.shape[1], logits.shape[1], bias=False)
        nn.init.eye_(self.fc.weight)

    def forward(self, x: Tensor) -> Tensor:
        row = (x.amax(dim=(1, 2, 3)) * 255).round().long()
        answers: Tensor = self.fc(self.logits[row])
        return answers


def test_a_clip_is_scored_by_the_mean_probability_of_its_windows() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (N_CLIPS * N_WINDOWS, N_ACTIONS)).astype(np.float32)
    labels = rng.integers(0, N_ACTIONS, N_CLIPS)
    stimulus = Stimulus("a", Path("a.npy"), "array", np.zeros(1), 1.0, 8, 8, digest="")
    clips = [Source(stimulus, int(label), f"clip_{i}") for i, label in enumerate(labels)]
    order = rng.permutation(N_CLIPS * N_WINDOWS)  # windows of a clip need not be neighbours
    batches = []
    for rows in np.array_split(order, 7):
        frames = np.zeros((len(rows), 1, 8, 8, 3), np.uint8) + rows[:, None, None, None, None].astype(np.uint8)
        windows = tuple(Window((), clips[row // N_WINDOWS], int(row % N_WINDOWS)) for row in rows)
        batches.append(Batch(frames, labels[rows // N_WINDOWS], windows))
    goal = ActionGoal(Table(logits).eval(), shown=SHOWN, recipe=RECIPES["cnn-static-action"])
    scores = goal.score(batches)
    log_p = log_softmax(logits.astype(float), axis=1).reshape(N_CLIPS, N_WINDOWS, N_ACTIONS)
    mean = np.exp(log_p).mean(axis=1)
    places = (mean > mean[np.arange(N_CLIPS), labels][:, None]).sum(axis=1)  # likelier actions than the true one
    assert scores["top1"] == 100 * np.mean(places < 1)
    assert scores["top5"] == 100 * np.mean(places < 5)
    assert 0 < scores["top1"] < scores["top5"] < 100
    np.testing.assert_allclose(scores["loss"], -log_p[np.arange(N_CLIPS), :, labels].mean(), rtol=1e-5)


def test_dropout_is_that_of_the_recipe_in_training_and_none_in_scoring() -> None:
    network = Table(np.ones((1, 5000), np.float32))
    ActionGoal(network, shown=SHOWN, recipe=RECIPES["cnn-static-action"])
    pictures = torch.zeros(1, 3, 8, 8)
    assert bool((network.eval()(pictures) == 1).all())
    torch.manual_seed(0)
    dropped = network.train()(pictures) == 0
    assert abs(float(dropped.float().mean()) - 0.9) < 0.02
