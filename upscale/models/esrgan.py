"""ESRGAN's generator: Wang et al., "ESRGAN: Enhanced Super-Resolution GANs", arXiv 1809.00219.

Variants that occur in published weights are options: pixel-unshuffle in front (Real-ESRGAN, arXiv
2107.10833, for x2 and x1), and the extra 1x1 skips of ESRGAN+ (arXiv 2001.08073).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale.models import Config, Network
from upscale.models.layers import upsample_factors
from upscale.tiling import pad

SLOPE = 0.2  # of every LeakyReLU
RESIDUAL_SCALING = 0.2  # beta of section 3.1


@dataclass(frozen=True)
class ESRGANConfig(Config):
    """Sizes of an RRDB network."""

    scale: int = 4  # enlargement of the whole network: 1, 2, 3, 4, 8 or 16
    num_feat: int = 64  # features of the trunk (nf)
    num_block: int = 23  # residual-in-residual dense blocks (nb)
    num_grow: int = 32  # features that a dense layer adds (gc)
    in_channels: int = 3  # of the picture
    out_channels: int = 3  # of the result
    unshuffle: int = 1  # pixel-unshuffle factor before the first convolution; 1: none
    plus: bool = False  # ESRGAN+: a 1x1 convolution beside the second layer, a skip to the fourth


class DenseBlock(nn.Module):
    """Five densely connected 3x3 convolutions, no BatchNorm (fig. 4): (N, nf, H, W) to the same."""

    def __init__(self, num_feat: int, num_grow: int, plus: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_feat, num_grow, 3, padding=1)
        self.conv2 = nn.Conv2d(num_feat + num_grow, num_grow, 3, padding=1)
        self.conv3 = nn.Conv2d(num_feat + 2 * num_grow, num_grow, 3, padding=1)
        self.conv4 = nn.Conv2d(num_feat + 3 * num_grow, num_grow, 3, padding=1)
        self.conv5 = nn.Conv2d(num_feat + 4 * num_grow, num_feat, 3, padding=1)
        self.conv1x1 = nn.Conv2d(num_feat, num_grow, 1, bias=False) if plus else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, nf, H, W) to the same shape."""
        x1 = F.leaky_relu(self.conv1(x), SLOPE)
        x2 = F.leaky_relu(self.conv2(torch.cat((x, x1), 1)), SLOPE)
        if self.conv1x1 is not None:
            x2 = x2 + self.conv1x1(x)
        x3 = F.leaky_relu(self.conv3(torch.cat((x, x1, x2), 1)), SLOPE)
        x4 = F.leaky_relu(self.conv4(torch.cat((x, x1, x2, x3), 1)), SLOPE)
        if self.conv1x1 is not None:
            x4 = x4 + x2
        x5 = self.conv5(torch.cat((x, x1, x2, x3, x4), 1))
        return torch.add(x, x5, alpha=RESIDUAL_SCALING)


class RRDB(nn.Module):
    """Residual in residual dense block (fig. 4): (N, nf, H, W) to the same."""

    def __init__(self, num_feat: int, num_grow: int, plus: bool) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(num_feat, num_grow, plus)
        self.rdb2 = DenseBlock(num_feat, num_grow, plus)
        self.rdb3 = DenseBlock(num_feat, num_grow, plus)

    def forward(self, x: Tensor) -> Tensor:
        """(N, nf, H, W) to the same shape."""
        return torch.add(x, self.rdb3(self.rdb2(self.rdb1(x))), alpha=RESIDUAL_SCALING)


class ESRGAN(Network):
    """RRDB trunk, nearest-neighbour + convolution upsampling, two convolutions to RGB."""

    architecture: ClassVar[str] = "esrgan"
    config_type: ClassVar[type[Config]] = ESRGANConfig
    precisions: ClassVar[tuple[torch.dtype, ...]] = (torch.float32, torch.float16, torch.bfloat16)

    config: ESRGANConfig

    def __init__(self, config: ESRGANConfig) -> None:
        super().__init__()
        self.config = config
        self.scale = config.scale
        self.channels = config.in_channels
        self.multiple_of = config.unshuffle
        reach = 15 * config.num_block + 8  # 15 convolutions a block; the head's reach is below 8
        # Measured on released nets, the largest difference of tiles from the whole: 4 blocks, below
        # a level at 16 pixels; 6 blocks trained adversarially, 6 levels at 16 and 0.2 at 40. The 23
        # blocks of the papers keep 16: 40 would cost them a third more time.
        context = 40 if 4 < config.num_block <= 8 else 16
        self.halo = min(reach, context) * config.unshuffle
        self.halo_is_exact = self.halo == reach * config.unshuffle
        self.factors = upsample_factors(config.scale * config.unshuffle)
        nf = config.num_feat
        self.conv_first = nn.Conv2d(config.in_channels * config.unshuffle**2, nf, 3, padding=1)
        self.body = nn.Sequential(
            *(RRDB(nf, config.num_grow, config.plus) for _ in range(config.num_block))
        )
        self.conv_body = nn.Conv2d(nf, nf, 3, padding=1)
        for k in range(1, len(self.factors) + 1):
            self.add_module(f"conv_up{k}", nn.Conv2d(nf, nf, 3, padding=1))
        self.conv_hr = nn.Conv2d(nf, nf, 3, padding=1)
        self.conv_last = nn.Conv2d(nf, config.out_channels, 3, padding=1)

    @property
    def conv_ups(self) -> list[nn.Conv2d]:
        """The upsampling convolutions, first to last."""
        layers = (self.get_submodule(f"conv_up{k + 1}") for k in range(len(self.factors)))
        return [layer for layer in layers if isinstance(layer, nn.Conv2d)]

    def unshuffled(self, lr: Tensor) -> Tensor:
        """What the first convolution reads: the picture, or its pixel-unshuffle, padded for it."""
        if self.config.unshuffle == 1:
            return lr
        return F.pixel_unshuffle(pad(lr, self.multiple_of), self.config.unshuffle)

    def features(self, lr: Tensor) -> Tensor:
        """The trunk's: (N, in_channels, H, W) to (N, num_feat, H', W'), H' = H / unshuffle."""
        shallow: Tensor = self.conv_first(self.unshuffled(lr))
        deep: Tensor = self.conv_body(self.body(shallow))
        return shallow + deep

    def enlarge(self, features: Tensor) -> Tensor:
        """From features to the picture, padding included."""
        x = features
        for factor, conv in zip(self.factors, self.conv_ups, strict=True):
            x = F.leaky_relu(conv(F.interpolate(x, scale_factor=factor, mode="nearest")), SLOPE)
        out: Tensor = self.conv_last(F.leaky_relu(self.conv_hr(x), SLOPE))
        return out

    def forward(self, lr: Tensor) -> Tensor:
        """(N, in_channels, H, W) in [0, 1] to (N, out_channels, scale*H, scale*W)."""
        height, width = lr.shape[-2] * self.scale, lr.shape[-1] * self.scale
        return self.enlarge(self.features(lr))[..., :height, :width]
