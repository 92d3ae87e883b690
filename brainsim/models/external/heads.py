"""Turn a checkpoint with a classifier of another size into one that fits: the network takes the file's classifier."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from brainsim.models.network import State


def fit_heads(module: nn.Module, state: State, heads: Sequence[str]) -> dict[str, Tensor]:
    """Give a network the number of classes that a file has, and drop a classifier that the network has not.

    A file fine-tuned on 10 classes then loads whole into a model built for 1,000; every other difference stays and is
    an error when the network is filled.

    Parameters
    ----------
    module : torch.nn.Module
        Changed in place where the sizes differ.
    state : dict of str to Tensor
        The file's, under the network's names.
    heads : sequence of str
        Names of the network's classifiers.
    """
    kept = dict(state)
    for name in heads:
        weight = kept.get(f"{name}.weight")
        layer = dict(module.named_modules()).get(name)
        if isinstance(layer, nn.Linear | nn.Conv2d):
            if weight is not None and weight.shape[1:] == layer.weight.shape[1:]:
                _resize(module, name, layer, n_classes=len(weight))
        else:
            kept = {key: tensor for key, tensor in kept.items() if not key.startswith(f"{name}.")}
    return kept


def last_layer(module: nn.Module, names: Sequence[str]) -> tuple[str, ...]:
    """Return the last layer of weights in the first of the named submodules that is there: the classifier."""
    for part in names:
        found = [
            name
            for name, layer in module.named_modules()
            if (name == part or name.startswith(f"{part}.")) and isinstance(layer, nn.Linear | nn.Conv2d)
        ]
        if found:
            return (found[-1],)
    return ()


def _resize(module: nn.Module, name: str, layer: nn.Linear | nn.Conv2d, *, n_classes: int) -> None:
    if len(layer.weight) == n_classes:
        return
    has_bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        resized: nn.Module = nn.Linear(layer.in_features, n_classes, bias=has_bias)
    else:
        resized = nn.Conv2d(layer.in_channels, n_classes, layer.kernel_size, layer.stride, layer.padding, bias=has_bias)  # type: ignore[arg-type]  # torch annotates these three wider than it takes them
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, resized)
