"""A picture to what the network sees, and back: ``split`` and its inverse ``merge``."""

from __future__ import annotations

import torch
from torch import Tensor

from upscale.color.alpha import REACH, enlarged
from upscale.color.gray import AlphaMode, IccMode, gray_out
from upscale.color.pixels import by_rows, to_pixels
from upscale.color.rest import Part, Rest, separate
from upscale.color.source import ImagePixels
from upscale.color.ycbcr import rgb_to_ycbcr, ycbcr_to_rgb
from upscale.image import Image, Pixels
from upscale.resample import resize, source_rows


def split(
    image: Image,
    channels: int,
    *,
    alpha_mode: AlphaMode = "network",
    icc: IccMode = "keep",
) -> tuple[Tensor, Rest]:
    """Take a whole picture apart into the tensor that a network sees and the rest.

    The tensor is sRGB; a picture of another profile is converted, and so is the result, back. The
    arguments and errors are those of ``separate``.

    Returns:
        ``lr``, (1, channels, H, W) float32 in [0, 1], and the rest for ``merge``.
    """
    rest = separate(ImagePixels(image), channels, alpha_mode=alpha_mode, icc=icc)
    return rest.view().rows(0, image.height), rest


def merge_rows(
    sr_rows: Tensor,
    rest: Rest,
    size: tuple[int, int],
    rows: tuple[int, int],
    alpha_rows: Tensor | None = None,
) -> Pixels:
    """Put one strip of the result together; strips come from top to bottom.

    Args:
        sr_rows: (1, channels, y1 - y0, W') float32: rows of the enlarged ``lr``.
        rest: The rest of the picture.
        size: Height and width of the whole output.
        rows: y0 and y1 of the strip.
        alpha_rows: The same rows of the enlarged alpha; needed where ``rest.alpha_lr`` is not None.

    Returns:
        (y1 - y0, W', C) of the input's dtype: a strip of the output's pixels.

    Raises:
        ValueError: The strip is not of the size that ``rows`` and ``size`` say, or alpha is
            missing.
    """
    want = (1, rest.channels, rows[1] - rows[0], size[1])
    if tuple(sr_rows.shape) != want:
        raise ValueError(f"strip of shape {tuple(sr_rows.shape)} where {want} was expected")
    first, last = source_rows(rest.size[0], size[0], *rows)
    first, last = max(0, first - REACH), min(rest.size[0], last + REACH)
    rest.leave(rest.cursor, first)
    part = None if rest.is_whole_in_lr else rest.part(rest.cursor, first, last)
    colour = _colour(sr_rows.clamp(0, 1), rest, part, size, rows, first)
    if rest.facts.constant_alpha is not None:
        alpha = torch.full((1, 1, want[2], want[3]), rest.facts.constant_alpha)
    elif part is not None and part.alpha is not None:
        network = None
        if rest.alpha_mode == "network":
            if alpha_rows is None:
                raise ValueError("alpha_rows are missing: run the network on rest.alpha_lr")
            network = gray_out(alpha_rows)
        alpha = enlarged(part.alpha, size, rows, network, (first, rest.size[0]))
    else:
        return to_pixels(colour, rest.dtype)
    if rest.metadata.premultiplied:
        colour = colour * alpha
    return to_pixels(torch.cat([colour, alpha], 1), rest.dtype)


def _colour(
    colour: Tensor,
    rest: Rest,
    part: Part | None,
    size: tuple[int, int],
    rows: tuple[int, int],
    first: int,
) -> Tensor:
    """The colour channels of a strip; ``part`` holds the input's rows from ``first`` on."""
    whole = (first, rest.size[0])
    if rest.facts.neutral:
        colour = gray_out(colour)
    elif rest.channels == 1 and part is not None:
        chroma = rgb_to_ycbcr(part.seen)[:, 1:]
        chroma = resize(chroma, size, rows=rows, part=whole)
        colour = ycbcr_to_rgb(torch.cat([colour, chroma], 1)).clamp_(0, 1)
    if rest.profile is not None and rest.keeps_profile:
        colour = by_rows(rest.profile.from_srgb, colour)
    if part is not None and part.residual is not None:
        colour = colour + resize(part.residual, size, rows=rows, part=whole)
    if (rest.low, rest.high) != (0.0, 1.0):
        colour = colour * (rest.high - rest.low) + rest.low
    return colour.expand(-1, rest.colours, -1, -1)


def merge(sr: Tensor, rest: Rest, alpha: Tensor | None = None) -> Image:
    """Put the whole result together: the inverse of ``split``.

    Args:
        sr: (1, channels, H', W'), the enlarged ``lr``.
        rest: What ``split`` kept.
        alpha: The enlarged ``rest.alpha_lr``, of the same shape; needed where that is not None.
    """
    size = (int(sr.shape[-2]), int(sr.shape[-1]))
    return Image(merge_rows(sr, rest, size, (0, size[0]), alpha), rest.metadata)
