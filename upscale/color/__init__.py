"""Colour: rows of a picture to what a network sees, and back.

In comes a ``Reader``; :func:`split` gives its rows as tensors (gray, luma or RGB in sRGB, alpha
apart). Out go rows of pixels: :func:`merge` puts chroma, alpha, profile and range back. Open
``rows`` first: both stand there; ``pixels`` and ``drift`` are its steps.
"""

from upscale.color.pixels import (
    Luma,
    gray_to_luma,
    luma_in,
    luma_to_gray,
    rgb_to_ycbcr,
    to_pixels,
    to_tensor,
    ycbcr_to_rgb,
)
from upscale.color.rows import Split, merge, split

__all__ = [
    "Luma",
    "Split",
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
