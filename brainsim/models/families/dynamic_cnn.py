"""Turn 11 frames into the layers of dynamic CNNs: a self-supervised flow network, and actions from its flow."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from brainsim.models.rows import InputSpec, ModelRow, ProtocolSpec, WeightsSource

if TYPE_CHECKING:
    from torch import Tensor

    from brainsim.models.network import Network

_FLOW_TAPS = (
    "conv1", "conv2", "conv3", "conv4", "predict_flow4", "deconv3", "xconv3", "predict_flow3", "deconv2", "xconv2",
    "predict_flow2",
)  # fmt: skip
_BLOCKS = tuple(f"layer{i}.{j}.conv2" for i in (1, 2, 3, 4) for j in (0, 1))
_ACTION_TAPS = tuple(f"flow_classifier.{tap}" for tap in ("conv1", "maxpool", *_BLOCKS, "avgpool"))
_MOTIONNET = "Zhu, Lan, Newsam, Hauptmann 2018, Hidden two-stream convolutional networks, arXiv:1704.00389"

# What a flow network that was trained on its own may keep of its first file's names inside the larger one.
_GENERATOR_WRAPPERS = ("flow_generator.module.", "flow_generator.encoder.")


def _protocols(size: int) -> dict[str, ProtocolSpec]:
    # Trained on RGB in [0, 1] without normalisation (inferred), so both protocols are the same.
    shown = InputSpec(n_frames=11, size=(size, size), frame_rate_hz=25.0, layout="stacked")
    return {"default": ProtocolSpec(shown), "study": ProtocolSpec(shown)}


_FLOW = ModelRow(
    name="cnn-flow-selfsup",
    family="dynamic-cnn",
    kind="self-supervised dynamic CNN",
    taps=_FLOW_TAPS,
    protocols=_protocols(224),
    load=f"{__name__}:load_flow",
    trained_to_give="optic flow",
    training_set="HAA-500",
    citation=f"{_MOTIONNET}; HAA500: Chung et al. 2021, arXiv:2009.05224",
    licence="none stated by the study's authors",
    weights=WeightsSource(
        "file", "HAA-500 flow network", ("the study authors' file (state_dict, MODEL_STATE or model_state_dict)",)
    ),
    notes=(
        "a tiny MotionNet with batch norm, 1,951,784 parameters; 11 consecutive frames, 0.44 s at 25 fps",
        "input in [0, 1] without ImageNet normalisation in both protocols (inferred for training)",
    ),
    options={"flow_width": 64},
    order=20,
)

_ACTION = replace(
    _FLOW,
    name="cnn-flow-action",
    kind="supervised dynamic CNN",
    taps=_ACTION_TAPS,
    load=f"{__name__}:load_action",
    trained_to_give="action identity",
    weights=WeightsSource(
        "file", "HAA-500 flow-action network", ("the study authors' file (flow_generator.*, flow_classifier.*)",)
    ),
    notes=(
        "a frozen flow network (eval mode) whose finest flow feeds a ResNet-18 of 20 channels, 11,486,324 parameters",
        "no accuracy is published",
    ),
    options={"flow_width": 64, "width": 64, "n_classes": 500},
)


def _tiny(row: ModelRow) -> ModelRow:
    options = {name: value // 8 if "width" in name else value for name, value in row.options.items()}
    return replace(
        row,
        name=f"{row.name}-tiny",
        protocols=_protocols(64),
        training_set="none: seeded random weights",
        weights=WeightsSource("random"),
        notes=(f"the network of {row.name} at an eighth of its width, for demonstrations and tests",),
        options=options,
    )


ROWS = (_FLOW, _ACTION, _tiny(_FLOW), _tiny(_ACTION))


def load_flow(row: ModelRow, protocol: str) -> Network:
    """Build the flow network; both protocols run it alike."""
    from brainsim.models.checkpoints import strip_prefixes
    from brainsim.models.network import Network
    from brainsim.models.networks.flow import FlowNetwork

    return Network(
        FlowNetwork(width=row.options["flow_width"]),
        convert=lambda state: strip_prefixes(state, ("module.", "encoder.")),
    )


def load_action(row: ModelRow, protocol: str) -> Network:
    """Build the flow network and the ResNet-18 on top of it; both protocols run it alike."""
    from brainsim.models.checkpoints import strip_prefixes
    from brainsim.models.network import Network, State
    from brainsim.models.networks.flow import FlowActionNetwork
    from brainsim.models.networks.resnet import convert_resnet, fit_classifier

    network = FlowActionNetwork(**row.options)

    def convert(state: State) -> dict[str, Tensor]:
        plain = strip_prefixes(state, ("module.",))
        for wrapper in _GENERATOR_WRAPPERS:
            plain = {name.replace(wrapper, "flow_generator.", 1): tensor for name, tensor in plain.items()}
        return convert_resnet(plain)

    return Network(
        network,
        adapt=lambda state: fit_classifier(network.flow_classifier, state, prefix="flow_classifier."),
        convert=convert,
    )
