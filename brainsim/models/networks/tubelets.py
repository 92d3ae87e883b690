"""Turn 16 frames into tubelet tokens and run them through transformer blocks: the encoder of MVD.

The encoder is VideoMAE's (Tong et al. 2022) with layer-norm eps 1e-6 and a factorised 3-D sine-cosine position table
that comes with the weights. Blocks are timm's; module names are those of the published files.
"""

from __future__ import annotations

from functools import partial
from typing import cast

import numpy as np
import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from brainsim.models.network import State

LAYER_NORM_EPS = 1e-6


def position_table(grid: tuple[int, int, int], width: int) -> np.ndarray:
    """Return a factorised 3-D sine-cosine position table, float32 (1, n_tokens, width).

    A token's code is [time | height | width axis] codes: the time axis has a quarter of the channels or the even number
    nearest below, the two space axes share the rest. Published files bring their own table; this one is for random
    weights.
    """
    n_time = max(width // 4 // 2, 1) * 2
    n_height = (width - n_time) // 4 * 2
    n_width = width - n_time - n_height
    axes = [_sine_cosine(np.arange(n), channels) for n, channels in zip(grid, (n_time, n_height, n_width), strict=True)]
    t, h, w = np.meshgrid(*(np.arange(n) for n in grid), indexing="ij")
    table = np.concatenate([axes[0][t.ravel()], axes[1][h.ravel()], axes[2][w.ravel()]], axis=1)
    return table[None].astype(np.float32)  # (1, n_tokens, width)


def _sine_cosine(position: np.ndarray, n_channels: int) -> np.ndarray:
    rate = 1.0 / 10000 ** (np.arange(n_channels // 2) / (n_channels / 2))
    angle = position[:, None] * rate[None, :]
    code = np.concatenate([np.sin(angle), np.cos(angle)], axis=1)  # (n, n_channels) or one less where odd
    return np.pad(code, ((0, 0), (0, n_channels - code.shape[1])))


class TubeletEmbedding(nn.Module):
    """Cut a clip into tubelets of 2 x 16 x 16 px and project each."""

    def __init__(self, *, tubelet: tuple[int, int, int], width: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(3, width, kernel_size=tubelet, stride=tubelet)

    def forward(self, clip: Tensor) -> Tensor:
        """Return tokens (n, n_tokens, width), time slowest, from a clip (n, 3, frames, height, width)."""
        tokens: Tensor = self.proj(clip).flatten(2).transpose(1, 2)
        return tokens


class TubeletTransformer(nn.Module):
    """A plain video transformer without class token.

    Parameters
    ----------
    n_frames, size : int
        Frames per clip, and their height and width in px.
    width, depth, n_heads : int
        Token width, number of blocks, heads per block.
    tubelet : (int, int, int)
        Frames, height and width of a tubelet.
    """

    pos_embed: Tensor

    def __init__(
        self,
        *,
        n_frames: int,
        size: int,
        width: int,
        depth: int,
        n_heads: int,
        tubelet: tuple[int, int, int] = (2, 16, 16),
    ) -> None:
        super().__init__()
        self.grid = (n_frames // tubelet[0], size // tubelet[1], size // tubelet[2])
        self.patch_embed = TubeletEmbedding(tubelet=tubelet, width=width)
        self.register_buffer("pos_embed", torch.from_numpy(position_table(self.grid, width)))
        # timm annotates a class where it takes, and itself passes, a partial.
        norm = cast("type[nn.Module]", partial(nn.LayerNorm, eps=LAYER_NORM_EPS))
        blocks = [Block(width, n_heads, mlp_ratio=4.0, qkv_bias=True, norm_layer=norm) for _ in range(depth)]
        self.blocks = nn.Sequential(*blocks)
        self.norm = norm(width)

    def forward(self, clip: Tensor) -> Tensor:
        """Return normalised tokens (n, n_tokens, width) of a clip (n, 3, frames, height, width)."""
        x = self.patch_embed(clip) + self.pos_embed
        tokens: Tensor = self.norm(self.blocks(x))
        return tokens


def join_biases(state: State) -> dict[str, Tensor]:
    """Return timm's names: q and v biases become one bias of qkv, with zeros for k, which has none."""
    joined = {}
    for name, tensor in state.items():
        if name.endswith(".attn.q_bias"):
            stem = name.removesuffix("q_bias")
            v_bias = state.get(f"{stem}v_bias")
            if v_bias is not None:
                joined[f"{stem}qkv.bias"] = torch.cat([tensor, torch.zeros_like(tensor), v_bias])
                continue
        if name.endswith(".attn.v_bias") and f"{name.removesuffix('v_bias')}q_bias" in state:
            continue
        joined[name] = tensor
    return joined
