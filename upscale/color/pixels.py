"""Between pixels as they are stored and tensors as networks see them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from upscale.image import Pixels
from upscale.image.fit import divided

STRIP = 32  # rows that are converted at a time


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
