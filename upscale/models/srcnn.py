"""SRCNN: Dong et al., "Image Super-Resolution Using Deep Convolutional Networks", 1501.00092.

Differs from the paper in nothing but where the work is done: bicubic enlargement is the first step
of ``forward``, so that the network takes the low-resolution picture like the others. Every
convolution pads by replicating the edge, as the authors' test code does (``imfilter(…,
'replicate')``); their training used no padding (``valid=True``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale.models import Config, Network
from upscale.resample import resize
from upscale.tiling import is_traced


@dataclass(frozen=True)
class SRCNNConfig(Config):
    """Sizes of an SRCNN; the paper's f1-f2-f3 and n1, n2."""

    scale: int = 4  # bicubic enlargement before the convolutions
    channels: int = 1  # 1 for Y of BT.601 in studio range, 3 for RGB
    kernels: tuple[int, int, int] = (9, 5, 5)  # sides, odd; 9-1-5 and 9-3-5 are the paper's, too
    filters: tuple[int, int] = (64, 32)  # outputs of the first two convolutions


class SRCNN(Network):
    """Patch extraction, non-linear mapping, reconstruction (section 3.1 of the paper)."""

    architecture: ClassVar[str] = "srcnn"
    config_type: ClassVar[type[Config]] = SRCNNConfig
    precisions: ClassVar[tuple[torch.dtype, ...]] = (torch.float32, torch.float16, torch.bfloat16)
    luma: ClassVar[Literal["studio", "full"]] = "studio"

    config: SRCNNConfig

    def __init__(self, config: SRCNNConfig) -> None:
        super().__init__()
        self.config = config
        self.scale = config.scale
        self.channels = config.channels
        (f1, f2, f3), (n1, n2) = config.kernels, config.filters
        # context in enlarged pixels, plus the two source pixels and one of slack that bicubic reads
        self.halo = -(-(f1 // 2 + f2 // 2 + f3 // 2) // config.scale) + 3
        self.halo_is_exact = True
        self.conv1 = nn.Conv2d(config.channels, n1, f1)
        self.conv2 = nn.Conv2d(n1, n2, f2)
        self.conv3 = nn.Conv2d(n2, config.channels, f3)

    def forward(self, lr: Tensor) -> Tensor:
        """(N, channels, H, W) in [0, 1] to (N, channels, scale*H, scale*W); Y comes as Y / 255."""
        if is_traced():
            from upscale.models.layers import enlarge_traced

            return self.refine(enlarge_traced(lr, self.scale))
        size = (lr.shape[-2] * self.scale, lr.shape[-1] * self.scale)
        return self.refine(resize(lr, size))

    def refine(self, enlarged: Tensor, *, padded: bool = True) -> Tensor:
        """The three convolutions on the enlarged picture (N, channels, H, W).

        ``padded=False`` is the paper's training form: the output loses ``sum(f - 1)`` rows and
        columns.
        """
        x = F.relu(self._convolve(self.conv1, enlarged, padded))
        x = F.relu(self._convolve(self.conv2, x, padded))
        return self._convolve(self.conv3, x, padded)

    @staticmethod
    def _convolve(conv: nn.Conv2d, x: Tensor, padded: bool) -> Tensor:
        margin = conv.kernel_size[0] // 2
        if padded and margin:
            x = F.pad(x, (margin,) * 4, mode="replicate")
        out: Tensor = conv(x)
        return out
