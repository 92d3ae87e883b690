"""Turn batches of windows into a loss to go down, and held-out clips into scores: flow without truth, and actions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from brainsim.models.inputs import scale, show
from brainsim.models.networks.flow import FlowActionNetwork, FlowNetwork
from brainsim.models.rows import InputSpec
from brainsim.training.crops import crop_at_random
from brainsim.training.flow_losses import measure_endpoint_error, measure_flow_loss
from brainsim.training.flow_truth import read_truth
from brainsim.training.recipes import Recipe
from brainsim.training.windows import Batch

Scores = dict[str, float]


class Goal(Protocol):
    """What a network learns."""

    @property
    def network(self) -> nn.Module:
        """All of the network, as it is saved."""

    def trained(self) -> nn.Module:
        """Return the part whose weights change."""

    def measure(self, batch: Batch, rng: np.random.Generator) -> dict[str, Tensor]:
        """Return the loss under "loss", and what else is worth a curve: tensors without axes."""

    def score(self, batches: Iterable[Batch]) -> Scores:
        """Return what held-out windows say, by name; the network is in eval mode."""


class FlowGoal:
    """Optic flow from its own error: see `flow_losses`.

    Parameters
    ----------
    network : FlowNetwork
        On its device.
    shown : InputSpec
        What it is shown.
    recipe : Recipe
        How.
    """

    def __init__(self, network: FlowNetwork, *, shown: InputSpec, recipe: Recipe) -> None:
        self.network = network
        self.shown = shown
        self.recipe = recipe

    def trained(self) -> nn.Module:
        """Return the whole network."""
        return self.network

    def measure(self, batch: Batch, rng: np.random.Generator) -> dict[str, Tensor]:
        """Return the loss and its parts for random crops."""
        frames = scale(batch.frames, self.shown, _device(self.network))
        frames = crop_at_random(frames, self.shown.size, rng=rng, flips=self.recipe.flips)
        return self._losses(frames)

    def score(self, batches: Iterable[Batch]) -> Scores:
        """Return the loss and its parts and, for clips with true flow, the end-point error beside that of no flow.

        Names: `loss`, `brightness`, `structure`, `smoothness`; `epe_px`, `epe_zero_px` in pixels of what is shown.
        """
        sums: dict[str, list[float]] = defaultdict(list)
        for batch in batches:
            frames = scale(batch.frames, self.shown, _device(self.network))
            with torch.inference_mode():
                flows = self.network(show(frames, self.shown))
                for name, value in self._losses(frames, flows).items():
                    sums[name] += [float(value)] * len(batch.windows)
                for window, flow in zip(batch.windows, flows[0].float().cpu(), strict=True):
                    truth = read_truth(window.source, window.start, self.shown.n_frames - 1, self.shown.size)
                    if truth is not None:
                        predicted = flow.unflatten(0, (-1, 2))  # (n_pairs, 2, height, width)
                        sums["epe_px"].append(float(measure_endpoint_error(predicted, truth)))
                        sums["epe_zero_px"].append(float(measure_endpoint_error(torch.zeros_like(truth), truth)))
        return {name: float(np.mean(values)) for name, values in sums.items()}

    def _losses(self, frames: Tensor, flows: tuple[Tensor, ...] | None = None) -> dict[str, Tensor]:
        flows = self.network(show(frames, self.shown)) if flows is None else flows
        # In half precision (d² + 1e-8) would be 0, and its gradient infinite.
        with torch.autocast(frames.device.type, enabled=False):
            loss = measure_flow_loss(frames.transpose(1, 2), [flow.float() for flow in flows])
        return {
            "loss": loss.total,
            "brightness": loss.brightness,
            "structure": loss.structure,
            "smoothness": loss.smoothness,
        }


class ActionGoal:
    """The action that a clip shows, from single frames or from the flow of a frozen network.

    Parameters
    ----------
    network : Module
        A ResNet-18, or a `FlowActionNetwork`, on its device.
    shown : InputSpec
        What it is shown.
    recipe : Recipe
        How; its dropout is put before the classifier.
    """

    def __init__(self, network: nn.Module, *, shown: InputSpec, recipe: Recipe) -> None:
        self.network = network
        self.shown = shown
        self.recipe = recipe
        classifier = self.trained().get_submodule("fc")

        def drop(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (functional.dropout(inputs[0], recipe.dropout, training=module.training),)

        # A hook and not a layer: the names in the state dict stay those of the published files.
        classifier.register_forward_pre_hook(drop)

    def trained(self) -> nn.Module:
        """Return the ResNet-18; the flow network below it, where there is one, stays as it is."""
        return self.network.flow_classifier if isinstance(self.network, FlowActionNetwork) else self.network

    def measure(self, batch: Batch, rng: np.random.Generator) -> dict[str, Tensor]:
        """Return the cross-entropy under "loss", and the share of right answers in per cent, for random crops."""
        frames = scale(batch.frames, self.shown, _device(self.network))
        frames = crop_at_random(frames, self.shown.size, rng=rng, flips=self.recipe.flips)
        answers = self._answer(frames)
        labels = torch.from_numpy(batch.labels).to(answers.device)
        right = (answers.argmax(dim=1) == labels).float().mean()
        return {"loss": functional.cross_entropy(answers.float(), labels), "top1": 100 * right}

    def score(self, batches: Iterable[Batch]) -> Scores:
        """Return `loss` (of windows), and `top1` and `top5` of clips in per cent.

        A clip's answer is the mean of its windows' probabilities.
        """
        losses: list[float] = []
        answers: Mapping[str, list[np.ndarray]] = defaultdict(list)
        labels: dict[str, int] = {}
        for batch in batches:
            with torch.inference_mode():
                logits = self._answer(scale(batch.frames, self.shown, _device(self.network))).float().cpu()
            losses += functional.cross_entropy(logits, torch.from_numpy(batch.labels), reduction="none").tolist()
            for window, probability in zip(batch.windows, logits.softmax(dim=1).numpy(), strict=True):
                answers[window.source.name].append(probability)
                labels[window.source.name] = window.source.label
        mean = np.stack([np.mean(answers[name], axis=0) for name in labels])  # (n_clips, n_actions)
        truth = np.array(list(labels.values()))
        ranked = np.argsort(-mean, axis=1, kind="stable")
        return {
            "loss": float(np.mean(losses)),
            "top1": 100 * float(np.mean(ranked[:, 0] == truth)),
            "top5": 100 * float(np.mean((ranked[:, :5] == truth[:, None]).any(axis=1))),
        }

    def _answer(self, frames: Tensor) -> Tensor:
        shown = show(frames, self.shown)
        if isinstance(self.network, FlowActionNetwork):
            with torch.no_grad():
                flow = self.network.flow_generator(shown)[0]
            shown = flow.detach()
        answers: Tensor = self.trained()(shown)
        return answers


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device
