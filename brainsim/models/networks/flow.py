"""Turn 11 frames into optic flow, and flow into an action: the study's two dynamic CNNs.

The flow network is a tiny MotionNet (Zhu et al. 2018, arXiv:1704.00389) with batch norm; at width 64 it has 1,951,784
parameters. Module names and shapes are those of shared checkpoints, so that their state dicts load unchanged.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from brainsim.models.networks.resnet import build_resnet18

N_FRAMES = 11
N_FLOW_CHANNELS = 2 * (N_FRAMES - 1)  # (u, v) per interval
LEAK = 0.1
# A flow in pixels doubles when its map is brought to twice the size.
FLOW_SCALE = 2.0


def _conv(n_in: int, n_out: int, *, kernel: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(n_in, n_out, kernel, stride=stride, padding=kernel // 2)
    return nn.Sequential(conv, nn.BatchNorm2d(n_out), nn.LeakyReLU(LEAK))


def _fuse(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(n_in, n_out, 3, padding=1), nn.BatchNorm2d(n_out))


def _deconv(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose2d(n_in, n_out, 4, stride=2, padding=1), nn.LeakyReLU(LEAK))


def _predict(n_in: int) -> nn.Conv2d:
    return nn.Conv2d(n_in, N_FLOW_CHANNELS, 3, padding=1, bias=False)


def _upsample() -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(N_FLOW_CHANNELS, N_FLOW_CHANNELS, 4, stride=2, padding=1)


class FlowNetwork(nn.Module):
    """The flow between 11 consecutive frames, at four scales.

    Parameters
    ----------
    width : int
        Channels of the first layer; 64 is the study's network.
    """

    def __init__(self, *, width: int = 64) -> None:
        super().__init__()
        w1, w2, w3 = width, 2 * width, 4 * width
        self.conv1 = _conv(3 * N_FRAMES, w1, kernel=7, stride=1)
        self.conv2 = _conv(w1, w2, kernel=5, stride=2)
        self.conv3 = _conv(w2, w3, kernel=3, stride=2)
        self.conv4 = _conv(w3, w2, kernel=3, stride=2)
        self.predict_flow4 = _predict(w2)
        self.upsampled_flow4_to_3 = _upsample()
        self.deconv3 = _deconv(w2, w2)
        self.xconv3 = _fuse(w3 + w2 + N_FLOW_CHANNELS, w2)
        self.predict_flow3 = _predict(w2)
        self.upsampled_flow3_to_2 = _upsample()
        self.deconv2 = _deconv(w2, w1)
        self.xconv2 = _fuse(w2 + w1 + N_FLOW_CHANNELS, w1)
        self.predict_flow2 = _predict(w1)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the flow from finest to coarsest.

        Parameters
        ----------
        frames : Tensor, (n, 33, height, width)
            11 frames in [0, 1]: all red, then green, then blue; height and width divisible by 8.

        Returns
        -------
        tuple of 4 Tensors, (n, 20, height / s, width / s) for s in 1, 2, 4, 8
            (u, v) per interval, in pixels of each scale.
        """
        conv1 = self.conv1(frames)
        conv2 = self.conv2(conv1)
        conv3 = self.conv3(conv2)
        conv4 = self.conv4(conv3)
        flow4 = self.predict_flow4(conv4)
        up4 = self.upsampled_flow4_to_3(flow4) * FLOW_SCALE
        xconv3 = self.xconv3(torch.cat([conv3, self.deconv3(conv4), up4], dim=1))
        flow3 = self.predict_flow3(xconv3)
        up3 = self.upsampled_flow3_to_2(flow3) * FLOW_SCALE
        xconv2 = self.xconv2(torch.cat([conv2, self.deconv2(xconv3), up3], dim=1))
        flow2 = self.predict_flow2(xconv2)
        size = frames.shape[-2:]
        flow1 = functional.interpolate(flow2, size=size, mode="bilinear", align_corners=False) * FLOW_SCALE
        return flow1, flow2, flow3, flow4


class FlowActionNetwork(nn.Module):
    """A flow network whose finest flow feeds a ResNet-18 with 20 input channels.

    Parameters
    ----------
    flow_width, width : int
        First-layer channels of the flow network and of the ResNet-18.
    n_classes : int
        Actions.
    """

    def __init__(self, *, flow_width: int = 64, width: int = 64, n_classes: int = 500) -> None:
        super().__init__()
        self.flow_generator = FlowNetwork(width=flow_width)
        self.flow_classifier = build_resnet18(width=width, n_channels=N_FLOW_CHANNELS, n_classes=n_classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Return one score per action, (n, n_classes), for frames as `FlowNetwork` takes them."""
        scores: Tensor = self.flow_classifier(self.flow_generator(frames)[0])
        return scores
