"""Feature networks of a perceptual loss: VGG19-54 and MINC-VGG16-53, before activation.

ESRGAN (arXiv 1809.00219, section 3.3) compares features before the activation, which are denser and
keep brightness: ``54`` means the fourth convolution of the fifth block, before its ReLU. The
weights are the user's own; keys are those of torchvision's VGG (``features.N.weight``).
"""

from __future__ import annotations

from pathlib import Path

import safetensors
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from upscale.errors import CheckpointError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
BLOCKS = {"vgg19": (2, 2, 4, 4, 4), "minc": (2, 2, 3, 3, 3)}
WIDTHS = (64, 128, 256, 512, 512)


class VGGFeatures(nn.Module):
    """The convolutions of VGG19 up to conv5_4, or of VGG16 up to conv5_3, without the last ReLU.

    Simonyan & Zisserman, arXiv 1409.1556; MINC: Bell et al., arXiv 1412.0623.

    Args:
        kind: "vgg19" or "minc".
    """

    mean: Tensor
    std: Tensor

    def __init__(self, kind: str = "vgg19") -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for convolutions, width in zip(BLOCKS[kind], WIDTHS, strict=True):
            for _ in range(convolutions):
                layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
                before = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers[:-2])  # neither the last ReLU nor the last pooling
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """RGB (N, 3, H, W) in [0, 1] to (N, 512, H / 16, W / 16)."""
        out: Tensor = self.features((x - self.mean) / self.std)
        return out


def load_perceptual(kind: str, path: Path) -> VGGFeatures:
    """Build a feature network with the user's weights, frozen.

    Raises:
        CheckpointError: The file is missing, damaged, or not of this network.
    """
    try:
        weights = load_file(path)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path}: no such file; it should hold the weights of {kind}"
        ) from error
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read as safetensors ({error})") from error
    network = VGGFeatures(kind)
    own = network.state_dict()
    for key, value in own.items():
        if key not in weights or weights[key].shape != value.shape:
            raise CheckpointError(
                f"{path}: {key} of {kind}, shape {tuple(value.shape)}, is not in the file; "
                "use torchvision's key names"
            )
    network.load_state_dict({k: weights[k] for k in own})
    return network.requires_grad_(False).eval()


def feature_distance(network: VGGFeatures, sr: Tensor, hr: Tensor) -> Tensor:
    """L1 between features of pictures (N, 3, H, W) in [0, 1]; gradients reach ``sr`` alone."""
    with torch.no_grad():
        target = network(hr)
    return F.l1_loss(network(sr), target)
