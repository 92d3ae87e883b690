"""Turn widths and channel counts into torchvision's ResNet-18, and published ResNet files into its names."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models import resnet18
from torchvision.models.resnet import BasicBlock, ResNet

from brainsim.models.network import State

FULL_WIDTH = 64


def build_resnet18(*, width: int = FULL_WIDTH, n_channels: int = 3, n_classes: int = 1000) -> ResNet:
    """Return torchvision's ResNet-18; narrower, or with another number of input channels, where asked.

    Parameters
    ----------
    width : int
        Channels of conv1 and layer1; layers 2-4 have 2, 4 and 8 times as many. 64 is ResNet-18.
    n_channels : int
        Input channels.
    n_classes : int
        Outputs of `fc`.
    """
    network = resnet18(weights=None, num_classes=n_classes)
    if n_channels != 3 or width != FULL_WIDTH:
        network.conv1 = nn.Conv2d(n_channels, width, kernel_size=7, stride=2, padding=3, bias=False)
    if width != FULL_WIDTH:
        network.bn1 = nn.BatchNorm2d(width)
        network.inplanes = width
        for stage in range(4):
            layer = network._make_layer(BasicBlock, width * 2**stage, 2, stride=1 if stage == 0 else 2)
            setattr(network, f"layer{stage + 1}", layer)
        network.fc = nn.Linear(width * 8, n_classes)
    return network


def fit_classifier(network: ResNet, state: State, *, prefix: str = "") -> None:
    """Give a ResNet's classifier as many answers as a state dict has: it learned another set of classes.

    Parameters
    ----------
    network : ResNet
        Changed in place.
    state : mapping of str to Tensor
        In torchvision's names, with `prefix` before each.
    """
    weight = state.get(f"{prefix}fc.weight")
    if weight is not None and weight.ndim == 2 and len(weight) != network.fc.out_features:
        network.fc = nn.Linear(network.fc.in_features, len(weight))


def convert_resnet(state: State) -> dict[str, Tensor]:
    """Return torchvision's names: the HAA-500 files call the classifier `fc_action`."""
    return {name.replace("fc_action.", "fc."): tensor for name, tensor in state.items()}
