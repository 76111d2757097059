"""Colour: a picture taken apart into what a network sees and the rest, and put together again."""

from upscale.color.alpha import bleed
from upscale.color.drift import fix_drift
from upscale.color.gray import AlphaMode, IccMode
from upscale.color.pixels import to_pixels, to_tensor
from upscale.color.rest import Rest, View, separate
from upscale.color.source import FilePixels, ImagePixels, PixelSource
from upscale.color.split import merge, merge_rows, split
from upscale.color.ycbcr import gray_to_luma, luma_to_gray, rgb_to_ycbcr, ycbcr_to_rgb

__all__ = [
    "AlphaMode",
    "FilePixels",
    "IccMode",
    "ImagePixels",
    "PixelSource",
    "Rest",
    "View",
    "bleed",
    "fix_drift",
    "gray_to_luma",
    "luma_to_gray",
    "merge",
    "merge_rows",
    "rgb_to_ycbcr",
    "separate",
    "split",
    "to_pixels",
    "to_tensor",
    "ycbcr_to_rgb",
]
