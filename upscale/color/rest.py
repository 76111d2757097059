"""What a picture is besides the tensor that the network sees."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from torch import Tensor

from upscale.color.ycbcr import gray_to_luma, luma_to_gray
from upscale.image import Metadata
from upscale.image.icc import Profile, build

AlphaMode = Literal["network", "bicubic"]
IccMode = Literal["keep", "srgb"]


@dataclass(frozen=True, eq=False)
class Rest:
    """What ``split`` kept of a picture; it waits here for ``merge``.

    Attributes:
        metadata: Metadata of the output.
        dtype: Dtype of the input's pixels, and of the output's.
        colours: Colour channels of the output, 1 or 3.
        channels: Channels of the network, 1 (luma) or 3 (RGB).
        neutral: The colour is gray, be it stored in one channel or in three equal ones.
        size: Height and width of the input.
        chroma: Cb and Cr, (1, 2, H, W), where the network takes luma of a colour picture.
        alpha: Alpha, (1, 1, H, W) in [0, 1]; None without alpha or where it is constant.
        constant_alpha: The value of a constant alpha in [0, 1]; None otherwise.
        alpha_mode: How alpha is enlarged.
        profile: The profile to go back to from sRGB; None where the output is sRGB.
        residual: (1, colours, H, W): the input less what comes back from the network's view of it,
            where that is not nothing: colours outside sRGB, light above 1.
        low: The value that stands for 0 in a floating-point picture of another range.
        high: The value that stands for 1 there.
    """

    metadata: Metadata
    dtype: np.dtype[np.generic]
    colours: int
    channels: int
    neutral: bool
    size: tuple[int, int]
    chroma: Tensor | None = None
    alpha: Tensor | None = None
    constant_alpha: float | None = None
    alpha_mode: AlphaMode = "bicubic"
    profile: Profile | None = None
    residual: Tensor | None = None
    low: float = 0.0
    high: float = 1.0

    @property
    def alpha_lr(self) -> Tensor | None:
        """Alpha as the network takes it, (1, channels, H, W); None where it is not to see alpha.

        Run it as a second picture and give the rows of the result to ``merge_rows``.
        """
        if self.alpha is None or self.alpha_mode != "network":
            return None
        return gray_in(self.alpha, self.channels)


def gray_in(gray: Tensor, channels: int) -> Tensor:
    """Gray (1, 1, H, W) as a network takes it: studio luma (1), or three equal channels (3)."""
    return gray_to_luma(gray) if channels == 1 else gray.expand(-1, 3, -1, -1).contiguous()


def gray_out(x: Tensor) -> Tensor:
    """The inverse of ``gray_in``; three channels are weighed as in luma (BT.601)."""
    if x.shape[1] == 1:
        return luma_to_gray(x)
    red = x[:, :1]  # so written, three equal channels give exactly their value
    return red + 0.587 * (x[:, 1:2] - red) + 0.114 * (x[:, 2:] - red)


def in_srgb(metadata: Metadata) -> Metadata:
    """The metadata of the picture once it is sRGB: an sRGB profile where it had one."""
    if metadata.icc is None and metadata.cmyk is None:
        return metadata
    return replace(metadata, icc=build("sRGB"), cmyk=None)
