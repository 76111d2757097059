"""A picture to what the network sees, and back: ``split`` and its inverse ``merge``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from upscale.color.alpha import bleed, bounds, nearest_rows
from upscale.color.ycbcr import gray_to_luma, luma_to_gray, rgb_to_ycbcr, ycbcr_to_rgb
from upscale.errors import UsageError
from upscale.image import Image, Metadata, Pixels
from upscale.resample import resize

AlphaMode = Literal["network", "bicubic"]


@dataclass(frozen=True, eq=False)
class Rest:
    """What a picture is besides the tensor that the network sees; it waits here for ``merge``.

    Attributes:
        metadata: Metadata of the picture.
        dtype: Dtype of its pixels.
        colours: Colour channels of the output, 1 or 3.
        channels: Channels of the network, 1 (luma) or 3 (RGB).
        neutral: The colour is gray, be it stored in one channel or in three equal ones.
        size: Height and width of the input.
        chroma: Cb and Cr, (1, 2, H, W), where the network takes luma of a colour picture.
        alpha: Alpha, (1, 1, H, W) in [0, 1]; None without alpha or where it is constant.
        constant_alpha: The value of a constant alpha in [0, 1]; None otherwise.
        alpha_mode: How alpha is enlarged.
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

    @property
    def alpha_lr(self) -> Tensor | None:
        """Alpha as the network takes it, (1, channels, H, W); None where it is not to see alpha.

        Run it as a second picture and give the rows of the result to ``merge_rows``.
        """
        if self.alpha is None or self.alpha_mode != "network":
            return None
        return _gray_in(self.alpha, self.channels)


def _gray_in(gray: Tensor, channels: int) -> Tensor:
    return gray_to_luma(gray) if channels == 1 else gray.expand(-1, 3, -1, -1).contiguous()


def _gray_out(x: Tensor) -> Tensor:
    if x.shape[1] == 1:
        return luma_to_gray(x)
    return (x * x.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)


def to_tensor(pixels: Pixels) -> Tensor:
    """(H, W, C) uint8, uint16 or float32 to (1, C, H, W) float32, full scale at 1."""
    top = 1.0 if pixels.dtype == np.float32 else float(np.iinfo(pixels.dtype).max)
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32)
    return torch.from_numpy(planes).div_(top).unsqueeze(0)


def to_pixels(x: Tensor, dtype: np.dtype[np.generic]) -> Pixels:
    """(1, C, H, W) float32 to (H, W, C) of ``dtype``: clipped to [0, 1] and rounded half up."""
    planes = x[0].permute(1, 2, 0)
    if dtype == np.float32:
        return np.ascontiguousarray(planes.numpy())
    top = float(np.iinfo(dtype).max)  # type: ignore[type-var]
    whole = planes.clamp(0, 1).mul(top).add_(0.5).floor_()
    return np.ascontiguousarray(whole.numpy().astype(dtype))


def split(image: Image, channels: int, *, alpha_mode: AlphaMode = "network") -> tuple[Tensor, Rest]:
    """Take a picture apart into the tensor that a network sees and the rest.

    Args:
        image: The picture.
        channels: Channels of the network: 3 RGB, 1 luma (Y of BT.601 in studio range).
        alpha_mode: Enlarge alpha by the network or by the bicubic kernel.

    Returns:
        ``lr``, (1, channels, H, W) float32 in [0, 1], and the rest for ``merge``.

    Raises:
        UsageError: ``channels`` or ``alpha_mode`` has another value.
    """
    if channels not in (1, 3):
        raise UsageError(f"a network of {channels} channels has no colour; use one of 1 or 3")
    if alpha_mode not in get_args(AlphaMode):
        raise UsageError(f"alpha mode {alpha_mode!r} is unknown; use network or bicubic")
    x = to_tensor(image.pixels)
    colour, alpha, constant = x, None, None
    if image.has_alpha:
        colour, alpha = x[:, :-1], x[:, -1:].contiguous()
        colour = bleed(colour, alpha)
        low, high = alpha.aminmax()
        if bool(low == high):
            alpha, constant = None, float(low)
    colours = colour.shape[1]
    neutral = colours == 1 or bool((colour[:, :1] == colour[:, 1:]).all())
    chroma = None
    if neutral:
        lr = _gray_in(colour[:, :1], channels)
    elif channels == 1:
        ycbcr = rgb_to_ycbcr(colour)
        lr, chroma = ycbcr[:, :1].contiguous(), ycbcr[:, 1:].contiguous()
    else:
        lr = colour.contiguous()
    rest = Rest(
        metadata=image.metadata,
        dtype=image.pixels.dtype,
        colours=colours,
        channels=channels,
        neutral=neutral,
        size=(image.height, image.width),
        chroma=chroma,
        alpha=alpha,
        constant_alpha=constant,
        alpha_mode=alpha_mode,
    )
    return lr.clamp(0, 1), rest


def merge_rows(
    sr_rows: Tensor,
    rest: Rest,
    size: tuple[int, int],
    rows: tuple[int, int],
    alpha_rows: Tensor | None = None,
) -> Pixels:
    """Put one strip of the result together.

    Args:
        sr_rows: (1, channels, y1 - y0, W') float32: rows of the enlarged ``lr``.
        rest: What ``split`` kept.
        size: Height and width of the whole output.
        rows: y0 and y1 of the strip.
        alpha_rows: The same rows of the enlarged ``rest.alpha_lr``; needed where that is not None.

    Returns:
        (y1 - y0, W', C) of the input's dtype: a strip of the output's pixels.

    Raises:
        ValueError: The strip does not have the size that ``rows`` and ``size`` say, or alpha is missing.
    """
    want = (1, rest.channels, rows[1] - rows[0], size[1])
    if tuple(sr_rows.shape) != want:
        raise ValueError(f"strip of shape {tuple(sr_rows.shape)} where {want} was expected")
    sr = sr_rows.clamp(0, 1)
    if rest.neutral:
        colour = _gray_out(sr).expand(-1, rest.colours, -1, -1)
    elif rest.chroma is not None:
        colour = ycbcr_to_rgb(torch.cat([sr, resize(rest.chroma, size, rows=rows)], 1))
    else:
        colour = sr
    alpha = _alpha_rows(rest, size, rows, alpha_rows)
    planes = colour if alpha is None else torch.cat([colour, alpha], 1)
    return to_pixels(planes, rest.dtype)


def _alpha_rows(
    rest: Rest, size: tuple[int, int], rows: tuple[int, int], alpha_rows: Tensor | None
) -> Tensor | None:
    if rest.constant_alpha is not None:
        return torch.full((1, 1, rows[1] - rows[0], size[1]), rest.constant_alpha)
    if rest.alpha is None:
        return None
    if rest.alpha_mode == "network":
        if alpha_rows is None:
            raise ValueError("alpha_rows are missing: run the network on rest.alpha_lr")
        alpha = _gray_out(alpha_rows)
    else:
        alpha = resize(rest.alpha, size, rows=rows)
    low, high = (nearest_rows(b, size, rows) for b in bounds(rest.alpha))
    return torch.minimum(torch.maximum(alpha, low), high)


def merge(sr: Tensor, rest: Rest, alpha: Tensor | None = None) -> Image:
    """Put the whole result together: the inverse of ``split``.

    Args:
        sr: (1, channels, H', W'), the enlarged ``lr``.
        rest: What ``split`` kept.
        alpha: The enlarged ``rest.alpha_lr``, of the same shape; needed where that is not None.
    """
    size = (int(sr.shape[-2]), int(sr.shape[-1]))
    return Image(merge_rows(sr, rest, size, (0, size[0]), alpha), rest.metadata)
