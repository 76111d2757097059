"""Discriminators of a GAN stage: VGG style with BatchNorm, and of patches with spectral norm.

:class:`VGGDiscriminator`, one answer a picture, is that of SRGAN (Ledig 2017, arXiv 1609.04802,
fig. 4) as ESRGAN uses it on patches of 128 pixels: ten convolutions, 3x3 with stride 1 and 4x4 with
stride 2 in turn, then two linear layers.
:class:`PatchDiscriminator` answers for every fourth pixel (Isola 2017, arXiv 1611.07004); its
weights are kept at norm 1 (Miyato 2018, arXiv 1802.05957).
"""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

SLOPE = 0.2
STAGES = 5  # halvings
HIDDEN = 100  # of the first linear layer


class Discriminator(nn.Module):
    """Pictures (N, 3, H, W) in [0, 1] to logits; larger is more real."""

    def features(self, x: Tensor) -> list[Tensor]:
        """What each stage makes of pictures."""
        raise NotImplementedError

    def judge(self, last: Tensor) -> Tensor:
        """Logits from the last of :meth:`features`."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Pictures to logits."""
        return self.judge(self.features(x)[-1])


class VGGDiscriminator(Discriminator):
    """Realness of a picture of ``side`` pixels, a multiple of 32 (the paper: 128): logits (N, 1).

    The first layer has ``features`` channels (the paper: 64); they grow to eight times that.
    """

    def __init__(self, side: int = 128, features: int = 64) -> None:
        super().__init__()
        if side % 2**STAGES:
            raise ValueError(f"side {side} is not a multiple of {2**STAGES}")
        self.side = side
        widths = [features * m for m in (1, 2, 4, 8, 8)]
        self.stages = nn.ModuleList(
            _stage(before, width, first=k == 0)
            for k, (before, width) in enumerate(pairwise([3, *widths]))
        )
        self.linear1 = nn.Linear(widths[-1] * (side // 2**STAGES) ** 2, HIDDEN)
        self.linear2 = nn.Linear(HIDDEN, 1)

    def features(self, x: Tensor) -> list[Tensor]:
        """Features after each halving, (N, c_k, H / 2**k, W / 2**k), k = 1 … 5."""
        height, width = x.shape[-2:]
        if (height, width) != (self.side, self.side):
            raise ValueError(f"pictures of {height}x{width} for a discriminator of {self.side}")
        out = []
        for stage in self.stages:
            x = stage(x)
            out.append(x)
        return out

    def judge(self, last: Tensor) -> Tensor:
        """Logits (N, 1)."""
        hidden = F.leaky_relu(self.linear1(last.flatten(1)), SLOPE)
        out: Tensor = self.linear2(hidden)
        return out


def _stage(before: int, width: int, *, first: bool) -> nn.Sequential:
    """A 3x3 convolution and a 4x4 one with stride 2; no BatchNorm right behind the picture."""
    return nn.Sequential(
        nn.Conv2d(before, width, 3, padding=1, bias=first),
        *([] if first else [nn.BatchNorm2d(width)]),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(width, width, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.LeakyReLU(SLOPE),
    )


class PatchDiscriminator(Discriminator):
    """Realness around every fourth pixel: logits (N, 1, H / 4, W / 4).

    The first layer has ``features`` channels; they grow to four times that.
    """

    def __init__(self, features: int = 32) -> None:
        super().__init__()
        shapes = ((1, 2, 4, 2), (2, 4, 4, 2), (4, 4, 3, 1), (4, 4, 3, 1))  # in, out, kernel, stride
        self.first = nn.Conv2d(3, features, 3, padding=1)
        self.stages = nn.ModuleList(
            spectral_norm(nn.Conv2d(a * features, b * features, kernel, stride, padding=1))
            for a, b, kernel, stride in shapes
        )
        self.last = nn.Conv2d(4 * features, 1, 3, padding=1)

    def features(self, x: Tensor) -> list[Tensor]:
        """Features after each convolution but the last."""
        out = [F.leaky_relu(self.first(x * 2 - 1), SLOPE)]
        for stage in self.stages:
            out.append(F.leaky_relu(stage(out[-1]), SLOPE))
        return out

    def judge(self, last: Tensor) -> Tensor:
        """Logits (N, 1, H / 4, W / 4)."""
        out: Tensor = self.last(last)
        return out
