"""Colour: a picture taken apart into what a network sees and the rest, and put together again."""

from upscale.color.alpha import bleed
from upscale.color.drift import fix_drift
from upscale.color.gray import luma_in
from upscale.color.pixels import to_pixels, to_tensor
from upscale.color.rows import Rest, merge, split
from upscale.color.ycbcr import Luma, gray_to_luma, luma_to_gray, rgb_to_ycbcr, ycbcr_to_rgb

__all__ = [
    "Luma",
    "Rest",
    "bleed",
    "fix_drift",
    "gray_to_luma",
    "luma_in",
    "luma_to_gray",
    "merge",
    "rgb_to_ycbcr",
    "split",
    "to_pixels",
    "to_tensor",
    "ycbcr_to_rgb",
]
