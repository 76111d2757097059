"""Feature networks of a perceptual loss.

``vgg19`` and ``minc``: VGG19-54 and MINC-VGG16-53 before activation (ESRGAN, arXiv 1809.00219,
section 3.3): ``54`` means the fourth convolution of the fifth block, before its ReLU, where
features are denser and keep brightness. The weights are the user's own, under torchvision's names.
``lite0``: stem and blocks 2 and 4 of EfficientNet-Lite0 (:mod:`upscale.perceptual`).
"""

from __future__ import annotations

from pathlib import Path

import safetensors
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from upscale import perceptual
from upscale.errors import CheckpointError, UsageError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
BLOCKS = {"vgg19": (2, 2, 4, 4, 4), "minc": (2, 2, 3, 3, 3)}
WIDTHS = (64, 128, 256, 512, 512)
CPU = torch.device("cpu")
LITE0_STAGES = (perceptual.STEM, 2, 4)


class VGGFeatures(nn.Module):
    """The convolutions of VGG19 up to conv5_4, or of VGG16 up to conv5_3, without the last ReLU.

    Simonyan & Zisserman, arXiv 1409.1556; MINC: Bell et al., arXiv 1412.0623.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str = "vgg19") -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for convolutions, width in zip(BLOCKS[name], WIDTHS, strict=True):
            for _ in range(convolutions):
                layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
                before = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers[:-2])  # neither the last ReLU nor the last pooling
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """RGB (N, 3, H, W) in [0, 1] to one tensor, (N, 512, H / 16, W / 16)."""
        return [self.features((x - self.mean) / self.std)]


def load_perceptual(name: str, path: Path | None = None, device: torch.device = CPU) -> nn.Module:
    """A frozen feature network: pictures (N, 3, H, W) in [0, 1] to a list of features.

    It is "lite0", or "vgg19" or "minc" with the user's weights in the safetensors file ``path``.
    """
    if name == "lite0":
        return perceptual.load_features(str(device), LITE0_STAGES, unit=False)
    if path is None:
        raise UsageError(
            f"this recipe compares features of {name}; name its weights with "
            "--perceptual-weights FILE.safetensors"
        )
    if not path.exists():
        raise CheckpointError(f"{path}: no such file; it should hold the weights of {name}")
    try:
        weights = load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read as safetensors ({error})") from error
    network = VGGFeatures(name)
    own = network.state_dict()
    for key, value in own.items():
        if key not in weights or weights[key].shape != value.shape:
            raise CheckpointError(
                f"{path}: {key} of {name}, shape {tuple(value.shape)}, is not in the file; "
                "use torchvision's key names"
            )
    network.load_state_dict({k: weights[k] for k in own})
    return network.requires_grad_(False).eval().to(device)


def feature_distance(network: nn.Module, sr: Tensor, hr: Tensor) -> Tensor:
    """L1 between features of pictures (N, 3, H, W) in [0, 1], summed over the network's stages.

    Gradients reach ``sr`` alone.
    """
    with torch.no_grad():
        truth = network(hr)
    parts = [F.l1_loss(a, b) for a, b in zip(network(sr), truth, strict=True)]
    return torch.stack(parts).sum()
