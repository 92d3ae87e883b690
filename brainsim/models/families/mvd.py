"""Turn 16 frames into the blocks of masked video distillation: MVD ViT-B, pre-trained."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from brainsim.models.rows import IMAGENET_MEAN, IMAGENET_STD, InputSpec, ModelRow, ProtocolSpec, WeightsSource

if TYPE_CHECKING:
    from torch import Tensor

    from brainsim.models.network import Network

_MLP_OUT = tuple(f"blocks.{i}.mlp.fc2" for i in range(12))
_RESIDUAL = tuple(f"blocks.{i}" for i in range(12))
_CONSECUTIVE = "16 consecutive frames, 0.64 s at 25 fps, instead of a stride of 4 (known: study's scripts)"
# Of the pre-training file: the decoders that imitate the image and the video teacher.
_DECODERS = ("mask_token_*", "down_img.*", "down_vid.*", "decoder_*", "pos_embed_*")


def _protocols(size: int) -> dict[str, ProtocolSpec]:
    default = InputSpec(
        n_frames=16, frame_stride=4, size=(size, size), mean=IMAGENET_MEAN, std=IMAGENET_STD, frame_rate_hz=30.0,
        layout="channels-frames",
    )  # fmt: skip
    study = ProtocolSpec(replace(default, frame_stride=1), notes=(_CONSECUTIVE,))
    return {"default": ProtocolSpec(default), "study": study}


_MVD = ModelRow(
    name="mvd-base",
    family="mvd",
    kind="masked video distillation, pre-trained",
    taps=_MLP_OUT,
    tap_sets={"mlp-out": _MLP_OUT, "residual": _RESIDUAL},
    protocols=_protocols(224),
    load=f"{__name__}:load",
    trained_to_give="features of an image and a video teacher",
    training_set="Kinetics-400",
    citation="Wang, Chen, Wu, Chen, Dai, Liu, Yuan, Jiang 2023, Masked video distillation, arXiv:2212.04500",
    licence="CC BY-NC 4.0",
    weights=WeightsSource(
        "file", "mvd_b_from_b_ckpt_399.pth", ("mvd_b_from_b_ckpt_399.pth (ruiwang2021/mvd: ViT-B from ViT-B teachers)",)
    ),
    notes=("no classifier; 82.7 % top-1 on Kinetics-400 after fine-tuning (published)",),
    options={"width": 768, "n_heads": 12},
    order=50,
)

_TINY = replace(
    _MVD,
    name="mvd-base-tiny",
    protocols=_protocols(64),
    training_set="none: seeded random weights",
    weights=WeightsSource("random"),
    notes=("the network of mvd-base at a sixteenth of its width, for demonstrations and tests",),
    options={"width": 48, "n_heads": 3},
)

ROWS = (_MVD, _TINY)


def load(row: ModelRow, protocol: str) -> Network:
    """Build the encoder of 12 blocks; the protocols differ in the frames it is shown."""
    from brainsim.models.checkpoints import drop_names, strip_prefixes
    from brainsim.models.network import Network, State
    from brainsim.models.networks.tubelets import TubeletTransformer, join_biases

    encoder = TubeletTransformer(
        n_frames=row.input.n_frames,
        size=row.input.size[0],
        width=row.options["width"],
        depth=12,
        n_heads=row.options["n_heads"],
    )

    def convert(state: State) -> dict[str, Tensor]:
        return join_biases(drop_names(strip_prefixes(state, ("module.", "encoder.", "backbone.")), _DECODERS))

    return Network(encoder, convert=convert, token_grid=encoder.grid)
