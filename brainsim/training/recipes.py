"""Turn a system's name into how it is trained: the study's settings, and small ones for the tiny twins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from brainsim.core.errors import UnknownNameError
from brainsim.core.registry import suggest

GOALS = ("flow", "static-action", "flow-action")
OPTIMISERS = ("sgd", "adam")


@dataclass(frozen=True)
class Recipe:
    """How one system is trained.

    Parameters
    ----------
    goal : {"flow", "static-action", "flow-action"}
        What is learned: flow without truth; actions from frames; actions from the flow of a frozen network.
    epochs : int
        Times every window is shown.
    batch_size : int
        Windows per step.
    optimiser : {"sgd", "adam"}
        SGD has momentum.
    learning_rate, momentum, weight_decay : float
        Of the optimiser; weight decay d adds d / 2 times the squared weights to the loss.
    dropout : float
        Share of the features before the classifier that are dropped.
    flips : bool
        Mirror half of the clips left to right. Never where the direction of motion tells the action.
    start : {"imagenet", "random"}
        Weights of the ResNet-18 to begin with.
    source : str
        Who says so.
    """

    goal: str
    epochs: int
    batch_size: int
    learning_rate: float
    optimiser: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 0.0
    dropout: float = 0.0
    flips: bool = False
    start: str = "random"
    source: str = "the study's scripts"


_STATIC = Recipe(
    goal="static-action",
    epochs=12,  # inferred: the scripts' number for the other two
    batch_size=256,
    learning_rate=1e-3,
    weight_decay=1e-4,
    dropout=0.9,
    flips=True,
    start="imagenet",
)
# Weight decay is the loss's own last term: 1e-5 times half the squared weights.
_FLOW = Recipe(goal="flow", epochs=12, batch_size=32, learning_rate=0.01, weight_decay=1e-5)
_FLOW_ACTION = Recipe(goal="flow-action", epochs=12, batch_size=32, learning_rate=0.01, dropout=0.7, start="imagenet")
_TINY = "brainsim, for minutes on a CPU"

RECIPES: Mapping[str, Recipe] = {
    "cnn-static-action": _STATIC,
    "cnn-flow-selfsup": _FLOW,
    "cnn-flow-action": _FLOW_ACTION,
    # An eighth of the width has too few features to lose nine of ten, and nothing of ImageNet fits it.
    "cnn-static-action-tiny": replace(
        _STATIC, batch_size=32, learning_rate=0.01, dropout=0.2, start="random", source=_TINY
    ),
    "cnn-flow-selfsup-tiny": replace(_FLOW, batch_size=8, optimiser="adam", learning_rate=2e-3, source=_TINY),
    "cnn-flow-action-tiny": replace(_FLOW_ACTION, dropout=0.2, start="random", source=_TINY),
}


def find_recipe(system: str) -> Recipe:
    """Return how a system is trained.

    Raises
    ------
    UnknownNameError
        A system that brainsim cannot train.
    """
    if system not in RECIPES:
        raise UnknownNameError(
            f"{system!r} cannot be trained here; {suggest(system, list(RECIPES))}",
            hint="brainsim models show NAME tells where the weights of a system come from",
        )
    return RECIPES[system]
