"""Between pixels as they are stored and tensors as networks see them: values, gray, luma.

Luma and chroma are of BT.601 in studio range, as MATLAB's ``rgb2ycbcr`` gives them, in floating
point and without rounding: Y runs from 16 / 255 to 235 / 255, Cb and Cr from 16 / 255 to 240 / 255.
Sums are taken channel by channel, each product and each sum rounded by itself: rows give what the
whole picture gives, to the last bit, on every CPU. (A matrix product does not promise that.)
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from upscale.image import Pixels
from upscale.image.fit import divided

STRIP = 32  # rows that are converted at a time

# Which gray a network of one channel takes: Y of BT.601 in studio range (16 to 235 of 255), or
# 0.299 R + 0.587 G + 0.114 B from 0 to 1, which is OpenCV's gray.
Luma = Literal["studio", "full"]

# Rows Y, Cb, Cr; columns R, G, B in [0, 1]; values on the scale 0..255 (ITU-R BT.601).
FORWARD = np.array(
    [[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]
)
OFFSET = np.array([16.0, 128.0, 128.0])
INVERSE = np.linalg.inv(FORWARD)


def to_tensor(pixels: Pixels) -> Tensor:
    """(H, W, C) uint8, uint16 or float32 to (1, C, H, W) float32, full scale at 1."""
    top = 1.0 if pixels.dtype == np.float32 else float(np.iinfo(pixels.dtype).max)
    planes = np.array(pixels.transpose(2, 0, 1), dtype=np.float32, order="C")
    return torch.from_numpy(planes).div_(top).unsqueeze(0)


def to_pixels(x: Tensor, dtype: np.dtype[Any]) -> Pixels:
    """(1, C, H, W) float32 to (H, W, C) of ``dtype``: integers clipped and rounded half up."""
    if dtype == np.float32:
        return np.ascontiguousarray(x[0].permute(1, 2, 0).numpy())
    whole = x[0].clamp(0, 1).mul_(float(np.iinfo(dtype).max)).add_(0.5)
    integer = torch.uint8 if dtype == np.uint8 else torch.int32  # the fraction is cut off
    turned = whole.to(integer).permute(1, 2, 0).contiguous().numpy()
    return turned if dtype == np.uint8 else turned.astype(dtype)


def by_rows(change: Callable[[Pixels], Pixels], x: Tensor) -> Tensor:
    """Apply a change of (h, W, C) arrays to (1, C, H, W), a few rows at a time, in threads."""

    def part(y: int) -> Tensor:
        rows = np.ascontiguousarray(x[0, :, y : y + STRIP].permute(1, 2, 0).numpy())
        with np.errstate(all="ignore"):  # floating-point values may be very large
            return torch.from_numpy(change(rows)).permute(2, 0, 1)

    starts = range(0, x.shape[2], STRIP)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # numpy lets go of the interpreter
        return torch.cat(list(pool.map(part, starts)), 1).unsqueeze(0)


def straight(pixels: Pixels, *, premultiplied: bool) -> tuple[Tensor, Tensor | None]:
    """Colour, not multiplied by alpha, (1, 1 or 3, H, W), and alpha, (1, 1, H, W) in [0, 1]."""
    x = to_tensor(pixels)
    if x.shape[1] in (1, 3):
        return x, None
    colour, alpha = x[:, :-1], x[:, -1:].clamp(0, 1)
    if premultiplied:
        colour = torch.from_numpy(divided(colour.numpy(), alpha.numpy()))
    return colour.contiguous(), alpha.contiguous()


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
