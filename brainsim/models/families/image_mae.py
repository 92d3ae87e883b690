"""Turn images into the blocks of masked autoencoders for images: ViT-B, pre-trained and fine-tuned."""

from __future__ import annotations

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

_MLP_OUT = tuple(f"blocks.{i}.mlp.fc2" for i in range(12))
_RESIDUAL = tuple(f"blocks.{i}" for i in range(12))
_HUB = "vit_base_patch16_224.mae"
_SCALED_TWICE = "RGB in [0, 1] is divided by 255 once more before ImageNet's mean and std (known: study's scripts)"
_MASKED = (
    "75 % of the patches dropped at random and the rest shuffled, anew for every frame (known: study's scripts run the "
    "pre-training mask); feature k is another patch each time"
)


def _protocols(size: int, *, mask: bool) -> dict[str, ProtocolSpec]:
    default = InputSpec(n_frames=1, size=(size, size), mean=IMAGENET_MEAN, std=IMAGENET_STD)
    twice = replace(default, divisor=255.0 * 255.0)
    if mask:
        study = ProtocolSpec(twice, random_mask=0.75, notes=(_SCALED_TWICE, _MASKED))
    else:
        study = ProtocolSpec(twice, notes=(_SCALED_TWICE,))
    return {"default": ProtocolSpec(default), "study": study}


_PRETRAINED = ModelRow(
    name="mae-base",
    family="image-mae",
    kind="masked autoencoder for images, pre-trained",
    taps=_MLP_OUT,
    tap_sets={"mlp-out": _MLP_OUT, "residual": _RESIDUAL},
    protocols=_protocols(224, mask=True),
    load=f"{__name__}:load",
    trained_to_give="masked image",
    training_set="ImageNet-1k",
    citation="He, Chen, Xie, Li, Dollár, Girshick 2022, Masked autoencoders are scalable vision learners, "
    "arXiv:2111.06377",
    licence="CC BY-NC 4.0",
    weights=WeightsSource(
        "timm",
        _HUB,
        (
            "mae_pretrain_vit_base.pth (facebookresearch/mae; MD5 begins 8cad7c)",
            "the folder facebook/vit-mae-base (transformers)",
        ),
    ),
    notes=("no classifier; 83.66 % top-1 on ImageNet-1k after fine-tuning (mae-base-finetuned)",),
    options={"width": 768, "n_heads": 12, "n_classes": 0},
    order=30,
)

_FINETUNED = replace(
    _PRETRAINED,
    name="mae-base-finetuned",
    kind="masked autoencoder for images, fine-tuned",
    protocols=_protocols(224, mask=False),
    trained_to_give="object identity",
    accuracy=Accuracy(83.66, "ImageNet-1k, top-1, fine-tuned", "facebookresearch/mae"),
    weights=WeightsSource(
        "file",
        "mae_finetuned_vit_base.pth",
        ("mae_finetuned_vit_base.pth (facebookresearch/mae; MD5 begins 1b25e9)",),
    ),
    notes=("patch tokens are averaged, without the class token, before the classifier",),
    options={"width": 768, "n_heads": 12, "n_classes": 1000},
)


def _tiny(row: ModelRow) -> ModelRow:
    return replace(
        row,
        name=f"{row.name}-tiny",
        protocols=_protocols(64, mask=row is _PRETRAINED),
        training_set="none: seeded random weights",
        accuracy=None,
        weights=WeightsSource("random"),
        notes=(f"the network of {row.name} at a sixteenth of its width, for demonstrations and tests",),
        options={**row.options, "width": 48, "n_heads": 3},
    )


ROWS = (_PRETRAINED, _FINETUNED, _tiny(_PRETRAINED), _tiny(_FINETUNED))


def load(row: ModelRow, protocol: str) -> Network:
    """Build timm's ViT of 12 blocks; the study's protocol drops and shuffles patches of the pre-trained one."""
    import timm

    from brainsim.models.network import Network, State
    from brainsim.models.networks.masking import RandomMask
    from brainsim.models.networks.vit_mae import convert_vit_mae

    spec, size = row.protocol(protocol), row.input.size[0]
    n_classes = row.options["n_classes"]
    vit = timm.create_model(
        "vit_base_patch16_224",
        pretrained=False,
        img_size=size,
        embed_dim=row.options["width"],
        num_heads=row.options["n_heads"],
        num_classes=n_classes,
        global_pool="avg" if n_classes else "token",  # "avg": a norm after the mean (fc_norm), none before it
    )
    if spec.random_mask:
        vit.patch_drop = RandomMask(spec.random_mask, n_class_tokens=1)

    def fetch() -> State:
        fetched: State = timm.create_model(_HUB, pretrained=True, num_classes=0).state_dict()
        return fetched

    return Network(
        vit,
        convert=convert_vit_mae,
        fetch=fetch,
        n_class_tokens=1,
        token_grid=None if spec.random_mask else (1, size // 16, size // 16),
    )
