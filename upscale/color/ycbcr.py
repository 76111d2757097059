"""BT.601 YCbCr in studio range, as MATLAB's ``rgb2ycbcr`` gives it, in floating point.

Y runs from 16 / 255 to 235 / 255, Cb and Cr from 16 / 255 to 240 / 255. No rounding takes place.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# Rows Y, Cb, Cr; columns R, G, B in [0, 1]; values on the scale 0..255 (ITU-R BT.601).
FORWARD = np.array(
    [[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]
)
OFFSET = np.array([16.0, 128.0, 128.0])
INVERSE = np.linalg.inv(FORWARD)


def _mix(x: Tensor, matrix: np.ndarray, offset: np.ndarray) -> Tensor:
    """Multiply the channels of (N, 3, H, W) by a 3 x 3 matrix and add an offset."""
    m = torch.tensor(matrix, dtype=x.dtype, device=x.device)
    b = torch.tensor(offset, dtype=x.dtype, device=x.device)
    return torch.einsum("oc,nchw->nohw", m, x) + b.view(1, 3, 1, 1)


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
