"""Turn a system's name into a network to train: its numbers of answers, its starting weights, its frozen parts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from brainsim.core.errors import CheckpointError, InvalidValueError
from brainsim.core.seeds import named_seed

if TYPE_CHECKING:
    from torch import nn

    from brainsim.models.network import Network, State
    from brainsim.models.rows import ModelRow
    from brainsim.training.goals import Goal
    from brainsim.training.recipes import Recipe

# Words of --start that are no files.
STARTS = ("imagenet", "random")
# The row whose weights "imagenet" means, and the row whose flow network a flow-action system stands on.
OBJECT_ROW = "cnn-static-object"


def check_start(start: str, goal: str) -> None:
    """Refuse a word that is neither known nor a file.

    Raises
    ------
    InvalidValueError
        Such a word, or anything but "random" for a flow network.
    """
    if goal == "flow" and start != "random":
        raise InvalidValueError(f"--start is {start!r}; a flow network begins at random weights.")
    if start not in STARTS and not Path(start).exists():
        raise InvalidValueError(f"--start is {start!r}; it must be {', '.join(STARTS)} or a file of ResNet-18 weights.")


def build_goal(
    row: ModelRow, recipe: Recipe, *, n_actions: int, flow_checkpoint: Path | None, seed: int, device: str
) -> Goal:
    """Build a system's network with its starting weights on its device, and what it is to learn."""
    import torch

    from brainsim.models.loading import find_device
    from brainsim.models.network import build_network
    from brainsim.models.networks.flow import FlowActionNetwork, FlowNetwork
    from brainsim.training.goals import ActionGoal, FlowGoal

    if "n_classes" in row.options:
        row = replace(row, options={**row.options, "n_classes": n_actions})
    target = find_device(device)
    # Libraries draw starting weights from torch's global generator: lend it a seed of our own.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(named_seed(seed, row.name, "start"))
        module = build_network(row).module
    if isinstance(module, FlowNetwork):
        return FlowGoal(module.to(target), shown=row.input, recipe=recipe)
    if isinstance(module, FlowActionNetwork):
        if flow_checkpoint is None:
            raise InvalidValueError(
                f"{row.name} learns from the flow of a trained network, and none is given.",
                hint=f"--flow-checkpoint PATH, made with: brainsim train {_flow_row(row)} --videos DIR --out PATH",
            )
        _fill_flow(module, row, flow_checkpoint)
        module.flow_generator.requires_grad_(False)
    if recipe.start != "random":
        _start_resnet(module, recipe.start)
    return ActionGoal(module.to(target), shown=row.input, recipe=recipe)


def _flow_row(row: ModelRow) -> str:
    return row.name.replace("flow-action", "flow-selfsup")


def _fill_flow(module: nn.Module, row: ModelRow, checkpoint: Path) -> None:
    from brainsim.models.catalogue import find_row
    from brainsim.models.checkpoints import fill_network, read_checkpoint
    from brainsim.models.network import build_network

    name = _flow_row(row)
    state = build_network(find_row(name)).convert(read_checkpoint(checkpoint))
    fill_network(module.get_submodule("flow_generator"), state, name=name, source=str(checkpoint))


def _start_resnet(module: nn.Module, start: str) -> None:
    """Fill a ResNet-18, or the one on top of a flow network, with an object classifier's weights."""
    from brainsim.models.catalogue import find_row
    from brainsim.models.checkpoints import read_checkpoint
    from brainsim.models.network import build_network
    from brainsim.training.saving import start_from_imagenet

    row = find_row(OBJECT_ROW)
    network = build_network(row)
    state: State = _fetch_start(network, row) if start == "imagenet" else read_checkpoint(Path(start))
    source = row.weights.identifier if start == "imagenet" else start
    resnet = getattr(module, "flow_classifier", module)
    start_from_imagenet(resnet, network.convert(state), source=source)


def _fetch_start(network: Network, row: ModelRow) -> State:
    from brainsim.models.loading import fetch_weights

    try:
        return fetch_weights(network, row)
    except CheckpointError as error:
        hint = f"fetch {row.weights.files[0]} elsewhere and pass it with --start PATH, or --start random"
        raise CheckpointError(error.message, hint=hint) from error
