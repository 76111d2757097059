"""Gray as networks take it, and what becomes of metadata in sRGB."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from upscale.color.ycbcr import Luma, gray_to_luma, luma_to_gray
from upscale.icc import build
from upscale.image import Metadata


def luma_in(studio: Tensor, luma: Luma) -> Tensor:
    """Studio Y (1, 1, H, W) as a network of one channel takes it."""
    return studio if luma == "studio" else luma_to_gray(studio)


def luma_out(y: Tensor, luma: Luma) -> Tensor:
    """The inverse of ``luma_in``."""
    return y if luma == "studio" else gray_to_luma(y)


def gray_in(gray: Tensor, channels: int, luma: Luma) -> Tensor:
    """Gray (1, 1, H, W) as a network takes it: luma (1), or three equal channels (3)."""
    if channels == 1:
        return gray_to_luma(gray) if luma == "studio" else gray
    return gray.expand(-1, 3, -1, -1).contiguous()


def gray_out(x: Tensor, luma: Luma) -> Tensor:
    """The inverse of ``gray_in``; three channels are weighed as in luma (BT.601)."""
    if x.shape[1] == 1:
        return luma_to_gray(x) if luma == "studio" else x
    red = x[:, :1]  # so written, three equal channels give exactly their value
    return red + 0.587 * (x[:, 1:2] - red) + 0.114 * (x[:, 2:] - red)


def in_srgb(metadata: Metadata) -> Metadata:
    """The metadata of the picture once it is sRGB: an sRGB profile where it had one."""
    if metadata.icc is None and metadata.cmyk is None:
        return metadata
    return replace(metadata, icc=build("sRGB"), cmyk=None)
