"""Turn a seed into the weights of any network: fan-in scaled, so that untrained layers are nonlinear and differ."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from brainsim.core.seeds import named_rng

# What is drawn is named in keys.RANDOM_RECIPE, a part of every key: a change here must change it.

# Keeps the mean square of what rectifying layers pass on (He et al. 2015).
GAIN = math.sqrt(2.0)
BIAS_STD = 0.1
# Position codes and class tokens, beside patch projections of about unit size.
EMBEDDING_STD = 0.5
_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


def draw_weights(module: nn.Module, *, seed: int, name: str) -> None:
    """Fill a network in place with weights that depend on the seed and the model's name only.

    Libraries start transformers with a standard deviation of 0.02: nearly linear, nearly the same for every seed. Here
    every convolution and linear layer gets N(0, 2 / fan_in), so that signals neither vanish nor explode over depth.
    Norms are left as they start (scale 1, shift 0, running mean 0 and variance 1). NumPy draws, one named generator per
    parameter: the same bits whatever torch's version, device or global generator.

    Parameters
    ----------
    module : torch.nn.Module
        Any network, on the CPU, float32.
    seed : int
        The user's seed.
    name : str
        The model's name: no two models share weights.
    """
    with torch.no_grad():
        for path, submodule in module.named_modules():
            if isinstance(submodule, _NORMS):
                continue
            for part, parameter in submodule.named_parameters(recurse=False):
                rng = named_rng(seed, name, "weights", path, part)
                drawn = rng.standard_normal(tuple(parameter.shape), dtype=np.float32)
                parameter.copy_(torch.from_numpy(drawn) * _std(submodule, part, parameter))


def _std(submodule: nn.Module, part: str, parameter: Tensor) -> float:
    if part.endswith("bias"):
        return BIAS_STD
    if isinstance(submodule, nn.modules.conv._ConvTransposeNd):
        # Each output sees kernel / stride taps of every input channel.
        n_taps = math.prod(k / s for k, s in zip(submodule.kernel_size, submodule.stride, strict=True))
        return GAIN / math.sqrt(submodule.in_channels / submodule.groups * n_taps)
    if isinstance(submodule, nn.Linear | nn.modules.conv._ConvNd):
        return GAIN / math.sqrt(parameter[0].numel())
    return EMBEDDING_STD
