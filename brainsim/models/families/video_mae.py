"""Turn 16 frames into the blocks of masked autoencoders for videos: VideoMAE ViT-B, pre-trained and fine-tuned."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from brainsim.models.rows import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Accuracy,
    InputSpec,
    ModelRow,
    ProtocolSpec,
    WeightsSource,
)

if TYPE_CHECKING:
    from brainsim.models.network import Network

_TUBELET, _PATCH = 2, 16  # frames, px
_RESIDUAL = tuple(f"encoder.layer.{i}" for i in range(12))
_MLP_OUT = tuple(f"encoder.layer.{i}.output.dense" for i in range(12))
_CONSECUTIVE = "16 consecutive frames, 0.64 s at 25 fps, instead of a stride of 4 (known: study's scripts)"
_ONE_MASKED = "1 of the 1,568 tokens masked, as the pre-training class wants (known); that it is the first is inferred"


def _protocols(size: int) -> dict[str, ProtocolSpec]:
    default = InputSpec(
        n_frames=16, frame_stride=4, size=(size, size), mean=IMAGENET_MEAN, std=IMAGENET_STD, frame_rate_hz=30.0,
        layout="frames-channels",
    )  # fmt: skip
    study = ProtocolSpec(replace(default, frame_stride=1), masked_tokens=1, notes=(_CONSECUTIVE, _ONE_MASKED))
    return {"default": ProtocolSpec(default), "study": study}


_PRETRAINED = ModelRow(
    name="videomae-base",
    family="video-mae",
    kind="masked autoencoder for videos, pre-trained",
    taps=_RESIDUAL,
    tap_sets={"residual": _RESIDUAL, "mlp-out": _MLP_OUT},
    protocols=_protocols(224),
    load=f"{__name__}:load",
    trained_to_give="masked video",
    training_set="Kinetics-400",
    citation="Tong, Song, Wang, Wang 2022, VideoMAE: masked autoencoders are data-efficient learners for "
    "self-supervised video pre-training, arXiv:2203.12602",
    licence="CC BY-NC 4.0",
    weights=WeightsSource(
        "transformers", "MCG-NJU/videomae-base", ("the folder MCG-NJU/videomae-base, or VideoMAE's own checkpoint.pth",)
    ),
    notes=("no classifier; 81.5 % top-1 on Kinetics-400 after fine-tuning (videomae-base-finetuned)",),
    options={"width": 768, "n_heads": 12, "mean_pooling": False},
    order=40,
)

_FINETUNED = replace(
    _PRETRAINED,
    name="videomae-base-finetuned",
    kind="masked autoencoder for videos, fine-tuned",
    trained_to_give="action identity",
    accuracy=Accuracy(81.5, "Kinetics-400, top-1, fine-tuned", "MCG-NJU/VideoMAE"),
    weights=WeightsSource(
        "transformers",
        "MCG-NJU/videomae-base-finetuned-kinetics",
        ("the folder MCG-NJU/videomae-base-finetuned-kinetics, or VideoMAE's own checkpoint.pth",),
    ),
    notes=("taps lie before the mean over tokens and the classifier, which are not loaded",),
    options={"width": 768, "n_heads": 12, "mean_pooling": True},
)


def _tiny(row: ModelRow) -> ModelRow:
    return replace(
        row,
        name=f"{row.name}-tiny",
        protocols=_protocols(64),
        training_set="none: seeded random weights",
        accuracy=None,
        weights=WeightsSource("random"),
        notes=(f"the network of {row.name} at a sixteenth of its width, for demonstrations and tests",),
        options={**row.options, "width": 48, "n_heads": 3},
    )


ROWS = (_PRETRAINED, _FINETUNED, _tiny(_PRETRAINED), _tiny(_FINETUNED))


def load(row: ModelRow, protocol: str) -> Network:
    """Build transformers' VideoMAEModel of 12 blocks, without a mask but in the study's protocol."""
    import torch
    from transformers import VideoMAEConfig, VideoMAEModel

    from brainsim.models.network import Network
    from brainsim.models.networks.videomae import convert_videomae, fetch_videomae

    width, shown = row.options["width"], row.input
    config = VideoMAEConfig(
        image_size=shown.size[0],
        num_frames=shown.n_frames,
        patch_size=_PATCH,
        tubelet_size=_TUBELET,
        hidden_size=width,
        num_attention_heads=row.options["n_heads"],
        intermediate_size=4 * width,
        use_mean_pooling=row.options["mean_pooling"],
    )
    model = VideoMAEModel(config)
    n_masked = row.protocol(protocol).masked_tokens
    grid = (shown.n_frames // _TUBELET, shown.size[0] // _PATCH, shown.size[1] // _PATCH)
    first = torch.arange(math.prod(grid), device="cpu") < n_masked  # (n_tokens,)

    def run(clips: torch.Tensor) -> None:
        mask = None
        if n_masked:
            # Shapes alone (the meta device) cannot be masked by a mask without values.
            mask = (first if clips.is_meta else first.to(clips.device)).expand(len(clips), -1)
        model(pixel_values=clips, bool_masked_pos=mask)

    return Network(
        model,
        run=run,
        convert=lambda state: convert_videomae(state, model),
        fetch=lambda: fetch_videomae(row.weights.identifier),
        token_grid=grid,
    )
