"""Turn a layer's activations into the features that are stored: all of them, or averages over space and tokens."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from brainsim.core.errors import InvalidValueError
from brainsim.models.pool_names import check_pool, grid_size
from brainsim.models.taps import TapInfo

Pool = Callable[[Tensor, TapInfo], Tensor]  # (n_clips, *tap.shape) -> (n_clips, n_features)


def pool_none(values: Tensor, tap: TapInfo) -> Tensor:
    """Return every activation, flattened in the layer's own order."""
    return values.flatten(1)


def pool_mean(values: Tensor, tap: TapInfo) -> Tensor:
    """Return each channel's mean over space and tokens; tokens that stand for the whole clip are left out."""
    places = _places_by_channels(values, tap)  # (n_clips, n_places, n_channels)
    return places.mean(dim=1)


def pool_class(values: Tensor, tap: TapInfo) -> Tensor:
    """Return the tokens that stand for the whole clip (class, distillation, registers), all of them, one after another.

    Which they are is what the model declares; a layer without any is an error, and never its first patch.
    """
    if tap.channel_axis != len(tap.shape) - 1 or len(tap.shape) != 2 or not tap.n_class_tokens:
        raise InvalidValueError(
            f"layer {tap.name!r} of shape {tap.shape} has no token of which its model says that it stands for the "
            "whole clip.",
            hint="--pool mean, or other layers or models; brainsim models show NAME lists them",
        )
    return values[:, : tap.n_class_tokens].flatten(1)


def pool_spatial(values: Tensor, tap: TapInfo, *, n_rows: int = 2, n_columns: int = 2) -> Tensor:
    """Return each channel's mean in each cell of a grid over the picture, over time; by channel, then row, column.

    Cells are those of adaptive average pooling: where the map's sides are no multiples of the grid's, neighbouring
    cells share places. A side of the map shorter than the grid's is left as it is.
    """
    places = _places_by_channels(values, tap).transpose(1, 2)  # (n_clips, n_channels, n_places)
    n_clips, n_channels = places.shape[:2]
    if tap.grid is not None:
        maps = places.reshape(n_clips, n_channels, *tap.grid).mean(dim=2)
    elif len(tap.shape) == 3:
        sides = [n for axis, n in enumerate(tap.shape) if axis != tap.channel_axis]
        maps = places.reshape(n_clips, n_channels, *sides)
    elif len(tap.shape) == 1:
        return values
    else:
        raise InvalidValueError(
            f"layer {tap.name!r} of shape {tap.shape} has no known place for each token; spatial pooling needs one.",
            hint="--pool none or --pool mean",
        )
    size = (min(n_rows, maps.shape[2]), min(n_columns, maps.shape[3]))  # a map of 1 x 1 stays one
    return torch.nn.functional.adaptive_avg_pool2d(maps, size).flatten(1)


_POOLS: dict[str, Pool] = {"none": pool_none, "mean": pool_mean, "cls": pool_class}


def find_pool(name: str) -> Pool:
    """Return the pool of a name that `check_pool` allows."""
    size = grid_size(check_pool(name))
    if size is None:
        return _POOLS[name]
    return partial(pool_spatial, n_rows=size[0], n_columns=size[1])


def count_features(pool: str, tap: TapInfo, *, sketch: int | None = None) -> int:
    """Return how many features per clip a pool, and a sketch after it, leave of a layer; nothing is computed."""
    n_features = int(find_pool(pool)(torch.empty((1, *tap.shape), device="meta"), tap).shape[1])
    return n_features if sketch is None else min(sketch, n_features)


def _places_by_channels(values: Tensor, tap: TapInfo) -> Tensor:
    """Return (n_clips, n_places, n_channels), without class tokens."""
    if tap.channel_axis is None:
        raise InvalidValueError(
            f"layer {tap.name!r} of shape {tap.shape} does not tell which axis holds its channels; pooling needs that.",
            hint="--pool none, or another layer",
        )
    places = values.movedim(tap.channel_axis + 1, -1).flatten(1, -2) if len(tap.shape) > 1 else values.unsqueeze(1)
    return places[:, tap.n_class_tokens :] if tap.n_class_tokens else places
