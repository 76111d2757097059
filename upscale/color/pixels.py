"""A picture to what the network sees, and back: ``split`` and its inverse ``merge``."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from upscale.color.alpha import bleed, enlarged
from upscale.color.rest import AlphaMode, IccMode, Rest, gray_in, gray_out, in_srgb
from upscale.color.ycbcr import rgb_to_ycbcr, ycbcr_to_rgb
from upscale.errors import UsageError
from upscale.image import Image, Pixels
from upscale.image.icc import Profile
from upscale.image.profile import parse
from upscale.resample import resize

STRIP = 32  # rows that are converted at a time
NOTHING = 0.1 / 65535  # a residual below a tenth of a 16-bit level is none


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
    kind = torch.uint8 if dtype == np.uint8 else torch.int32  # conversion cuts the fraction off
    turned = whole.to(kind).permute(1, 2, 0).contiguous().numpy()
    return turned if dtype == np.uint8 else turned.astype(dtype)


def _by_rows(change: Callable[[Pixels], Pixels], x: Tensor) -> Tensor:
    """Apply a change of (h, W, C) arrays to (1, C, H, W), a few rows at a time, in threads."""

    def part(y: int) -> Tensor:
        rows = np.ascontiguousarray(x[0, :, y : y + STRIP].permute(1, 2, 0).numpy())
        with np.errstate(all="ignore"):  # floating-point values may be very large
            return torch.from_numpy(change(rows)).permute(2, 0, 1)

    starts = range(0, x.shape[2], STRIP)
    with ThreadPoolExecutor() as pool:  # numpy lets go of the interpreter
        return torch.cat(list(pool.map(part, starts)), 1).unsqueeze(0)


def split(
    image: Image,
    channels: int,
    *,
    alpha_mode: AlphaMode = "network",
    icc: IccMode = "keep",
) -> tuple[Tensor, Rest]:
    """Take a picture apart into the tensor that a network sees and the rest.

    The tensor is sRGB; a picture of another profile is converted, and so is the result, back.

    Args:
        image: The picture.
        channels: Channels of the network: 3 RGB, 1 luma (Y of BT.601 in studio range).
        alpha_mode: Enlarge alpha by the network or by the bicubic kernel.
        icc: "keep" the profile of the picture, or leave the result in "srgb".

    Returns:
        ``lr``, (1, channels, H, W) float32 in [0, 1], and the rest for ``merge``.

    Raises:
        UsageError: ``channels``, ``alpha_mode`` or ``icc`` has another value.
    """
    _check(channels, alpha_mode, icc)
    colour, alpha = _straight(image)
    constant = None
    if alpha is not None:
        colour = bleed(colour, alpha)
        low, high = alpha.aminmax()
        if bool(low == high):
            constant, alpha = float(low), None
    colours = colour.shape[1]
    neutral = colours == 1 or bool((colour[:, :1] == colour[:, 1:]).all())
    device = colour[:, :1].contiguous() if neutral else colour.contiguous()
    profile = _profile(image)
    low_value, high_value = _range(device) if profile is None else (0.0, 1.0)
    if profile is None:
        seen = (device - low_value) / (high_value - low_value)
        residual = None
    else:
        seen = _by_rows(profile.to_srgb, device).clamp_(0, 1)
        residual = device - _by_rows(profile.from_srgb, seen) if icc == "keep" else None
        if residual is not None and float(residual.abs().max()) < NOTHING:
            residual = None
    lr, chroma = _network_view(seen, channels)
    return lr.clamp(0, 1), Rest(
        metadata=image.metadata if icc == "keep" else in_srgb(image.metadata),
        dtype=image.pixels.dtype,
        colours=colours,
        channels=channels,
        neutral=neutral,
        size=(image.height, image.width),
        chroma=chroma,
        alpha=alpha,
        constant_alpha=constant,
        alpha_mode=alpha_mode,
        profile=profile if icc == "keep" else None,
        residual=residual,
        low=low_value,
        high=high_value,
    )


def _check(channels: int, alpha_mode: str, icc: str) -> None:
    if channels not in (1, 3):
        raise UsageError(f"a network of {channels} channels has no colour; use one of 1 or 3")
    if alpha_mode not in get_args(AlphaMode):
        raise UsageError(f"alpha mode {alpha_mode!r} is unknown; use network or bicubic")
    if icc not in get_args(IccMode):
        raise UsageError(f"ICC mode {icc!r} is unknown; use keep or srgb")


def _straight(image: Image) -> tuple[Tensor, Tensor | None]:
    """Colour, not multiplied by alpha, and alpha."""
    x = to_tensor(image.pixels)
    if not image.has_alpha:
        return x, None
    colour, alpha = x[:, :-1], x[:, -1:].clamp(0, 1)
    if image.metadata.premultiplied:
        colour = torch.where(alpha > 0, colour / alpha.clamp_min(1e-9), torch.zeros_like(colour))
    return colour.contiguous(), alpha.contiguous()


def _profile(image: Image) -> Profile | None:
    """The profile to convert from; None where the pixels are sRGB as they are."""
    if image.metadata.icc is None:
        return None
    found = parse(image.metadata.icc)
    return None if found.is_srgb else found


def _range(x: Tensor) -> tuple[float, float]:
    """The values that become 0 and 1: those, unless the picture goes beyond them."""
    low, high = (float(v) for v in x.aminmax())
    return min(low, 0.0), max(high, 1.0)


def _network_view(seen: Tensor, channels: int) -> tuple[Tensor, Tensor | None]:
    """From sRGB values (1, 1 or 3, H, W) to what the network takes, and chroma beside luma."""
    if seen.shape[1] == 1:
        return gray_in(seen, channels), None
    if channels == 3:
        return seen, None
    ycbcr = rgb_to_ycbcr(seen)
    return ycbcr[:, :1].contiguous(), ycbcr[:, 1:].contiguous()


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
        ValueError: The strip is not of the size that ``rows`` and ``size`` say, or alpha is
            missing.
    """
    want = (1, rest.channels, rows[1] - rows[0], size[1])
    if tuple(sr_rows.shape) != want:
        raise ValueError(f"strip of shape {tuple(sr_rows.shape)} where {want} was expected")
    colour = sr_rows.clamp(0, 1)
    if rest.neutral:
        colour = gray_out(colour)
    elif rest.chroma is not None:
        chroma = resize(rest.chroma, size, rows=rows)
        colour = ycbcr_to_rgb(torch.cat([colour, chroma], 1)).clamp_(0, 1)
    if rest.profile is not None:
        colour = _by_rows(rest.profile.from_srgb, colour)
    if rest.residual is not None:
        colour = colour + resize(rest.residual, size, rows=rows)
    if (rest.low, rest.high) != (0.0, 1.0):
        colour = colour * (rest.high - rest.low) + rest.low
    colour = colour.expand(-1, rest.colours, -1, -1)
    alpha = _alpha_rows(rest, size, rows, alpha_rows)
    if alpha is None:
        return to_pixels(colour, rest.dtype)
    if rest.metadata.premultiplied:
        colour = colour * alpha
    return to_pixels(torch.cat([colour, alpha], 1), rest.dtype)


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
        return enlarged(rest.alpha, size, rows, gray_out(alpha_rows))
    return enlarged(rest.alpha, size, rows, None)


def merge(sr: Tensor, rest: Rest, alpha: Tensor | None = None) -> Image:
    """Put the whole result together: the inverse of ``split``.

    Args:
        sr: (1, channels, H', W'), the enlarged ``lr``.
        rest: What ``split`` kept.
        alpha: The enlarged ``rest.alpha_lr``, of the same shape; needed where that is not None.
    """
    size = (int(sr.shape[-2]), int(sr.shape[-1]))
    return Image(merge_rows(sr, rest, size, (0, size[0]), alpha), rest.metadata)
