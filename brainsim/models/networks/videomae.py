"""Turn VideoMAE's published files, its authors' and transformers', into the names of the installed VideoMAEModel."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from brainsim.core.errors import CheckpointError
from brainsim.models.checkpoints import drop_names, strip_prefixes
from brainsim.models.network import State
from brainsim.models.pretrained import load_pretrained

# Decoders, classifiers and the position table (a sinusoid, computed anew): known, and not part of the encoder.
_DROPPED = (
    "decoder.*", "encoder_to_decoder.*", "mask_token", "position_embeddings", "pos_embed", "fc_norm.*", "head.*",
    "classifier.*",
)  # fmt: skip
# The authors' names -> transformers' names, within a block and outside.
_RENAMED = (
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^blocks\.(\d+)\.norm1\.", r"encoder.layer.\1.layernorm_before."),
    (r"^blocks\.(\d+)\.norm2\.", r"encoder.layer.\1.layernorm_after."),
    (r"^blocks\.(\d+)\.attn\.q_bias$", r"encoder.layer.\1.attention.attention.query.bias"),
    (r"^blocks\.(\d+)\.attn\.v_bias$", r"encoder.layer.\1.attention.attention.value.bias"),
    (r"^blocks\.(\d+)\.attn\.proj\.", r"encoder.layer.\1.attention.output.dense."),
    (r"^blocks\.(\d+)\.mlp\.fc1\.", r"encoder.layer.\1.intermediate.dense."),
    (r"^blocks\.(\d+)\.mlp\.fc2\.", r"encoder.layer.\1.output.dense."),
    (r"^norm\.", "layernorm."),
)
_JOINT = re.compile(r"^blocks\.(\d+)\.attn\.qkv\.weight$")


def convert_videomae(state: State, model: nn.Module) -> dict[str, Tensor]:
    """Return the encoder's weights under the names of `model`.

    Raises
    ------
    CheckpointError
        q and v biases that are all zero: the mark of a file saved after a silently partial load (transformers 5 before
        5.23 did that).
    """
    converted = strip_prefixes(state, ("module.", "videomae.", "backbone."))
    if any(".blocks." in f".{name}" for name in converted):
        converted = _from_authors(converted)
    converted = drop_names(converted, _DROPPED)
    converted = {
        name.replace(".q_bias", ".query.bias").replace(".v_bias", ".value.bias"): tensor
        for name, tensor in converted.items()
    }
    biases = [t for name, t in converted.items() if name.endswith((".query.bias", ".value.bias"))]
    if biases and not any(bool(t.any()) for t in biases):
        raise CheckpointError(
            f"all {len(biases)} q and v biases of these VideoMAE weights are zero: a partial load made this file.",
            hint="take the published file, or save it again with transformers >= 5.23",
        )
    if any(name.endswith(".q_bias") for name in model.state_dict()):  # transformers before 5 keeps the authors' names
        converted = {
            name.replace(".query.bias", ".q_bias").replace(".value.bias", ".v_bias"): tensor
            for name, tensor in converted.items()
        }
    return converted


def _from_authors(state: State) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for name, tensor in drop_names(state, _DROPPED).items():
        name = name.removeprefix("encoder.")
        joint = _JOINT.match(name)
        if joint:
            stem = f"encoder.layer.{joint.group(1)}.attention.attention"
            for part, weight in zip(("query", "key", "value"), torch.chunk(tensor, 3), strict=True):
                renamed[f"{stem}.{part}.weight"] = weight
            continue
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed


def fetch_videomae(identifier: str) -> State:
    """Return the encoder's weights through transformers' own loader (hub, local cache, HF_HUB_OFFLINE).

    Raises
    ------
    CheckpointError
        Weights that do not fit.
    """
    from transformers import VideoMAEModel

    return load_pretrained(VideoMAEModel, identifier, name=identifier, dropped=(*_DROPPED, "*.position_embeddings"))
