"""Turn images into the layers of supervised static CNNs: ResNet-18 for objects and for actions."""

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

_RESNET = "He, Zhang, Ren, Sun 2016, Deep residual learning for image recognition, arXiv:1512.03385"
# conv2 is taken raw: before its batch norm and the residual sum, as the study did.
_TAPS = ("conv1", "maxpool", *(f"layer{i}.{j}.conv2" for i in (1, 2, 3, 4) for j in (0, 1)), "avgpool")
_INPUT = InputSpec(n_frames=1, size=(224, 224), mean=IMAGENET_MEAN, std=IMAGENET_STD)
_STUDY_NOTE = "no ImageNet normalisation: RGB in [0, 1] (known: study's scripts)"


def _protocols(size: int) -> dict[str, ProtocolSpec]:
    default = replace(_INPUT, size=(size, size))
    plain = InputSpec(n_frames=1, size=(size, size))
    return {"default": ProtocolSpec(default), "study": ProtocolSpec(plain, notes=(_STUDY_NOTE,))}


_OBJECT = ModelRow(
    name="cnn-static-object",
    family="static-cnn",
    kind="supervised static CNN",
    taps=_TAPS,
    protocols=_protocols(224),
    load=f"{__name__}:load",
    trained_to_give="object identity",
    training_set="ImageNet-1k",
    accuracy=Accuracy(69.758, "ImageNet-1k, top-1", "torchvision, ResNet18_Weights.IMAGENET1K_V1"),
    citation=_RESNET,
    licence="BSD-3-Clause (torchvision); ImageNet terms apply to the weights",
    weights=WeightsSource("torchvision", "ResNet18_Weights.IMAGENET1K_V1", ("resnet18-f37072fd.pth (torchvision)",)),
    options={"width": 64, "n_classes": 1000},
    order=10,
)

_ACTION = replace(
    _OBJECT,
    name="cnn-static-action",
    trained_to_give="action identity",
    training_set="HAA-500",
    accuracy=None,
    citation=f"{_RESNET}; HAA500: Chung et al. 2021, arXiv:2009.05224",
    licence="none stated by the study's authors",
    weights=WeightsSource("file", "HAA-500 ResNet-18", ("the study authors' file (state_dict, fc_action.*)",)),
    notes=("initialised from ImageNet; dropout 0.9 before the classifier; no accuracy is published",),
    options={"width": 64, "n_classes": 500},
)


def _tiny(row: ModelRow) -> ModelRow:
    return replace(
        row,
        name=f"{row.name}-tiny",
        protocols=_protocols(64),
        training_set="none: seeded random weights",
        accuracy=None,
        weights=WeightsSource("random"),
        notes=(f"the network of {row.name} at an eighth of its width, for demonstrations and tests",),
        options={**row.options, "width": 8},
    )


ROWS = (_OBJECT, _ACTION, _tiny(_OBJECT), _tiny(_ACTION))


def load(row: ModelRow, protocol: str) -> Network:
    """Build torchvision's ResNet-18; the protocols differ only in what it is shown."""
    from torchvision.models import ResNet18_Weights

    from brainsim.models.checkpoints import strip_prefixes
    from brainsim.models.network import Network
    from brainsim.models.networks.resnet import build_resnet18, convert_resnet, fit_classifier
    from brainsim.models.torch_cache import fetch_file

    resnet = build_resnet18(width=row.options["width"], n_classes=row.options["n_classes"])
    return Network(
        resnet,
        adapt=lambda state: fit_classifier(resnet, state),
        convert=lambda state: convert_resnet(strip_prefixes(state, ("module.", "encoder."))),
        fetch=lambda: fetch_file(ResNet18_Weights.IMAGENET1K_V1.url),
    )
