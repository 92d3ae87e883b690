"""Turn the published files of image MAE, facebookresearch's, timm's and transformers', into timm's names."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from brainsim.models.checkpoints import drop_names, strip_prefixes
from brainsim.models.network import State

# The pre-training decoder: known, and not part of the encoder.
_DECODER = ("decoder_*", "decoder.*", "mask_token")
# Names in the networks of newer transformers -> those in its files, which were the networks' own before.
_NEWER = (
    (r"^layers\.(\d+)\.attention\.q_proj\.", r"encoder.layer.\1.attention.attention.query."),
    (r"^layers\.(\d+)\.attention\.k_proj\.", r"encoder.layer.\1.attention.attention.key."),
    (r"^layers\.(\d+)\.attention\.v_proj\.", r"encoder.layer.\1.attention.attention.value."),
    (r"^layers\.(\d+)\.attention\.o_proj\.", r"encoder.layer.\1.attention.output.dense."),
    (r"^layers\.(\d+)\.mlp\.fc1\.", r"encoder.layer.\1.intermediate.dense."),
    (r"^layers\.(\d+)\.mlp\.fc2\.", r"encoder.layer.\1.output.dense."),
    (r"^layers\.(\d+)\.", r"encoder.layer.\1."),
)
# transformers' names -> timm's names.
_RENAMED = (
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^encoder\.layer\.(\d+)\.layernorm_before\.", r"blocks.\1.norm1."),
    (r"^encoder\.layer\.(\d+)\.layernorm_after\.", r"blocks.\1.norm2."),
    (r"^encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"blocks.\1.attn.proj."),
    (r"^encoder\.layer\.(\d+)\.intermediate\.dense\.", r"blocks.\1.mlp.fc1."),
    (r"^encoder\.layer\.(\d+)\.output\.dense\.", r"blocks.\1.mlp.fc2."),
    (r"^layernorm\.", "norm."),
)
_QUERY = re.compile(r"^encoder\.layer\.(\d+)\.attention\.attention\.query\.(weight|bias)$")
_KEY_OR_VALUE = re.compile(r"^encoder\.layer\.\d+\.attention\.attention\.(key|value)\.(weight|bias)$")


def convert_vit_mae(state: State) -> dict[str, Tensor]:
    """Return the encoder's weights under timm's names; query, key and value are joined where they come apart."""
    state = drop_names(strip_prefixes(state, ("module.", "vit.")), _DECODER)
    state = {_rename(name, _NEWER): tensor for name, tensor in state.items()}
    if not any(name.startswith("encoder.layer.") for name in state):
        return strip_prefixes(state, ("encoder.",))
    converted = {}
    for name, tensor in state.items():
        query = _QUERY.match(name)
        if query:
            parts = [state.get(name.replace(".query.", f".{part}.")) for part in ("query", "key", "value")]
            joined = torch.cat([part for part in parts if part is not None])
            converted[f"blocks.{query.group(1)}.attn.qkv.{query.group(2)}"] = joined
        elif not _KEY_OR_VALUE.match(name):
            converted[_rename(name, _RENAMED)] = tensor
    return converted


def _rename(name: str, table: Sequence[tuple[str, str]]) -> str:
    for pattern, replacement in table:
        name = re.sub(pattern, replacement, name)
    return name
