"""Luma and chroma of BT.601, and gray as networks take it.

Studio range, as MATLAB's ``rgb2ycbcr`` gives it, in floating point and without rounding: Y runs
from 16 / 255 to 235 / 255, Cb and Cr from 16 / 255 to 240 / 255. Sums are taken channel by channel,
each product and each sum rounded by itself: rows give what the whole picture gives, to the last
bit, on every CPU. (A matrix product does not promise that.)
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

# Which gray a network of one channel takes: Y of BT.601 in studio range (16 to 235 of 255), or
# 0.299 R + 0.587 G + 0.114 B from 0 to 1, which is OpenCV's gray.
Luma = Literal["studio", "full"]

# Rows Y, Cb, Cr; columns R, G, B in [0, 1]; values on the scale 0..255 (ITU-R BT.601).
FORWARD = np.array(
    [[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]
)
OFFSET = np.array([16.0, 128.0, 128.0])
INVERSE = np.linalg.inv(FORWARD)


def _mix(x: Tensor, matrix: np.ndarray, offset: np.ndarray) -> Tensor:
    """Multiply the channels of (N, 3, H, W) by a 3 x 3 matrix and add an offset."""
    out = torch.empty_like(x)
    for o in range(3):
        plane = out[:, o]
        torch.mul(x[:, 0], float(matrix[o, 0]), out=plane)
        for c in (1, 2):
            plane.add_(x[:, c] * float(matrix[o, c]))
        plane.add_(float(offset[o]))
    return out


def rgb_to_ycbcr(rgb: Tensor) -> Tensor:
    """(N, 3, H, W) RGB in [0, 1] to Y, Cb, Cr divided by 255; linear, so nothing is clipped."""
    return _mix(rgb, FORWARD / 255, OFFSET / 255)


def ycbcr_to_rgb(ycbcr: Tensor) -> Tensor:
    """The inverse of ``rgb_to_ycbcr``; RGB may leave [0, 1] where Y and chroma do not agree."""
    return _mix(ycbcr, INVERSE * 255, -INVERSE @ OFFSET)


def gray_to_luma(gray: Tensor) -> Tensor:
    """Gray in [0, 1] to studio Y: what ``rgb_to_ycbcr`` gives for R = G = B."""
    return (gray * 219 + 16) / 255


def luma_to_gray(luma: Tensor) -> Tensor:
    """The inverse of ``gray_to_luma``."""
    return (luma * 255 - 16) / 219


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
