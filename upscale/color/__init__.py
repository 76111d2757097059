"""Colour: ``split`` a picture into the tensor a network sees and the rest, ``merge`` them again."""

from upscale.color.alpha import bleed
from upscale.color.drift import fix_drift
from upscale.color.rest import AlphaMode, IccMode, Rest
from upscale.color.split import merge, merge_rows, split, to_pixels, to_tensor
from upscale.color.ycbcr import gray_to_luma, luma_to_gray, rgb_to_ycbcr, ycbcr_to_rgb

__all__ = [
    "AlphaMode",
    "IccMode",
    "Rest",
    "bleed",
    "fix_drift",
    "gray_to_luma",
    "luma_to_gray",
    "merge",
    "merge_rows",
    "rgb_to_ycbcr",
    "split",
    "to_pixels",
    "to_tensor",
    "ycbcr_to_rgb",
]
