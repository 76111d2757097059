"""A picture to what the network sees, and back: ``split`` and its inverse ``merge``, by rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from upscale.color.alpha import CELL, MARGIN, REACH, bleed, enlarged
from upscale.color.gray import gray_in, gray_out, in_srgb, luma_in, luma_out
from upscale.color.pixels import by_rows, straight, to_pixels
from upscale.color.survey import Facts, rows_of, survey
from upscale.color.ycbcr import Luma, rgb_to_ycbcr, ycbcr_to_rgb
from upscale.errors import UsageError
from upscale.icc import Profile, parse
from upscale.image import Metadata, Pixels, Reader
from upscale.resample import resize, source_rows
from upscale.settings import AlphaMode, IccMode
from upscale.strips import Window, cut

PIXELS = 1 << 19  # that are converted at once
PIXELS_HOLES = 1 << 22  # the same where holes are filled: every strip needs many rows around it


@dataclass(frozen=True, eq=False)
class Part:
    """A strip of a picture, taken apart.

    Attributes:
        seen: sRGB, (1, 1 or 3, h, W): one channel where the whole picture is neutral.
        alpha: Alpha, (1, 1, h, W) in [0, 1]; None without alpha or where it is constant.
        residual: (1, 1 or 3, h, W): the strip less what comes back from ``seen``: colours outside
            sRGB, light above 1; None where nothing is converted.
    """

    seen: Tensor
    alpha: Tensor | None
    residual: Tensor | None


@dataclass(frozen=True, eq=False)
class Rest:
    """What a picture is besides the rows that the network sees; made by :func:`split`.

    Attributes:
        reader: The picture.
        metadata: Metadata of the output.
        channels: Channels of the network, 1 (luma) or 3 (RGB).
        luma: Which gray a network of one channel takes.
        facts: What holds for the whole picture.
        alpha_mode: How alpha is enlarged.
        profile: The profile of the pixels; None where they are sRGB.
        keeps_profile: The output has that profile too, else it is sRGB.
    """

    reader: Reader
    metadata: Metadata
    channels: int
    luma: Luma
    facts: Facts
    alpha_mode: AlphaMode
    profile: Profile | None
    keeps_profile: bool

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input."""
        return self.reader.height, self.reader.width

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the input's pixels, and of the output's."""
        return self.reader.dtype

    @property
    def colours(self) -> int:
        """Colour channels of the output, 1 or 3."""
        return self.reader.channels - (self.reader.channels in (2, 4))

    @property
    def range(self) -> tuple[float, float]:
        """The values that stand for 0 and 1: others in a floating-point picture of another range.

        Of a picture with a profile they are 0 and 1; what lies beyond is in the residual.
        """
        return (0.0, 1.0) if self.profile else (self.facts.low, self.facts.high)

    @property
    def has_chroma(self) -> bool:
        """The network takes the luma of a colour picture."""
        return self.channels == 1 and not self.facts.neutral

    @property
    def is_transparent(self) -> bool:
        """Whether any pixel is not opaque."""
        return self.facts.alpha_varies or self.facts.constant_alpha not in (None, 1.0)

    def lr(self) -> Iterator[Tensor]:
        """The picture as the network takes it, strips (1, channels, h, W) in [0, 1]."""
        for part in self._parts():
            if part.seen.shape[1] == 1:
                yield gray_in(part.seen, self.channels, self.luma).clamp(0, 1)
            elif self.channels == 1:
                yield luma_in(rgb_to_ycbcr(part.seen)[:, :1], self.luma).clamp(0, 1)
            else:
                yield part.seen.clamp(0, 1)

    def alpha(self) -> Window | None:
        """Alpha as the network takes it; None where it is not to see alpha."""
        if not self.facts.alpha_varies or self.alpha_mode != "network":
            return None
        strips = (
            gray_in(part.alpha, self.channels, self.luma)
            for part in self._parts()
            if part.alpha is not None
        )
        return Window(strips, (1, self.channels, *self.size))

    def kept(self) -> Window | None:
        """What :func:`merge` needs of the input: chroma, alpha, residual, stacked in this order."""
        converted = self.profile is not None and self.keeps_profile
        count = 2 * self.has_chroma + self.facts.alpha_varies
        count += (1 if self.facts.neutral else 3) * converted
        if not count:
            return None

        def stacked() -> Iterator[Tensor]:
            for part in self._parts():
                chroma = rgb_to_ycbcr(part.seen)[:, 1:] if self.has_chroma else None
                planes = (chroma, part.alpha, part.residual)
                yield torch.cat([plane for plane in planes if plane is not None], 1)

        return Window(stacked(), (1, count, *self.size))

    def _parts(self) -> Iterator[Part]:
        """The picture, read once more from the top, in strips that depend on its size alone."""
        for colour, alpha in self._filled() if self.facts.fill is not None else self._straight():
            # Equal channels are one; alpha that does not vary is no plane.
            device = (colour[:, :1] if self.facts.neutral else colour).contiguous()
            kept = alpha if self.facts.alpha_varies else None
            # Without a profile the values are sRGB, brought to [0, 1] where they are not.
            if self.profile is None:
                low, high = self.range
                yield Part((device - low) / (high - low), kept, None)
                continue
            # With one the network sees sRGB. What clipping and rounding took of it is kept, to be
            # added to the result once that is in the profile again.
            seen = by_rows(self.profile.to_srgb, device).clamp_(0, 1)
            back = by_rows(self.profile.from_srgb, seen) if self.keeps_profile else None
            yield Part(seen, kept, None if back is None else device - back)

    def _straight(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Colour and alpha of some rows at a time."""
        tall = max(1, PIXELS // self.reader.width)
        for pixels in rows_of(self.reader):
            for top in range(0, len(pixels), tall):
                rows = pixels[top : top + tall]
                yield straight(rows, premultiplied=self.reader.metadata.premultiplied)

    def _filled(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The same with colour under transparent pixels, which rows far around decide."""
        height, width = self.size
        both = (torch.cat((c, a), 1) for c, a in self._straight() if a is not None)
        window = Window(both, (1, self.reader.channels, height, width))
        tall = max(1, PIXELS_HOLES // width)
        for first in range(0, height, tall):
            last = min(height, first + tall)
            # The pyramid of ``bleed`` has cells of CELL rows: a part must begin and end with one.
            begin = max(0, first // CELL * CELL - MARGIN)
            end = min(height, -(-last // CELL) * CELL + MARGIN)
            rows = window.rows(begin, end)
            colour, alpha = rows[:, :-1], rows[:, -1:]
            inner = slice(first - begin, last - begin)
            yield bleed(colour, alpha, self.facts.fill)[:, :, inner], alpha[:, :, inner]


def split(
    reader: Reader,
    channels: int,
    *,
    luma: Luma = "studio",
    alpha_mode: AlphaMode = "network",
    icc: IccMode = "keep",
    tick: Callable[[], None] = lambda: None,
) -> tuple[Window, Rest]:
    """Take a picture apart into the rows that a network sees and the rest.

    The rows are sRGB; a picture of another profile is converted, and so is the result, back. The
    picture is gone through once at the call: what is damaged shows before any work.

    Args:
        reader: The picture.
        channels: Channels of the network: 3 RGB, 1 luma.
        luma: Which gray a network of one channel takes.
        alpha_mode: Enlarge alpha by the network or by the bicubic kernel.
        icc: "keep" the profile of the picture, or leave the result in "srgb".
        tick: Called again and again while the picture is gone through.

    Returns:
        ``lr``, a window on (1, channels, H, W) float32 in [0, 1], and the rest for :func:`merge`.

    Raises:
        ImageError: The picture cannot be read to its end.
        UsageError: ``channels``, ``alpha_mode`` or ``icc`` has another value.
    """
    if channels not in (1, 3):
        raise UsageError(f"a network of {channels} channels has no colour; use one of 1 or 3")
    if alpha_mode not in get_args(AlphaMode):
        raise UsageError(f"alpha mode {alpha_mode!r} is unknown; use network or bicubic")
    if icc not in get_args(IccMode):
        raise UsageError(f"ICC mode {icc!r} is unknown; use keep or srgb")
    profile = None
    if reader.metadata.icc is not None:
        found = parse(reader.metadata.icc)
        profile = None if found.is_srgb else found
    rest = Rest(
        reader=reader,
        metadata=reader.metadata if icc == "keep" else in_srgb(reader.metadata),
        channels=channels,
        luma=luma,
        facts=survey(reader, tick),
        alpha_mode=alpha_mode,
        profile=profile,
        keeps_profile=icc == "keep",
    )
    return Window(rest.lr(), (1, channels, *rest.size)), rest


def merge(
    sr: Iterable[Tensor],
    rest: Rest,
    size: tuple[int, int],
    alpha: Iterable[Tensor] | None = None,
) -> Iterator[Pixels]:
    """Put the result together: the inverse of :func:`split`.

    Args:
        sr: Strips (1, channels, h, W') of the enlarged ``lr``, top to bottom.
        rest: What ``split`` kept.
        size: Height and width of the output.
        alpha: Strips of the enlarged ``rest.alpha()``; needed where that is not None.

    Yields:
        (h, W', C) of the input's dtype: strips of the output's pixels.

    Raises:
        ValueError: A strip is not of the size that ``size`` says, or alpha is missing.
    """
    kept = rest.kept()
    alphas = None if alpha is None else Window(alpha, (1, rest.channels, *size))
    if alphas is None and rest.facts.alpha_varies and rest.alpha_mode == "network":
        raise ValueError("the enlarged alpha is missing: run the network on rest.alpha()")
    at_once = PIXELS if rest.facts.fill is None else PIXELS_HOLES
    top = 0
    for strip in cut(sr, max(1, at_once // size[1])):
        rows = (top, top + strip.shape[-2])
        if (*strip.shape[:2], strip.shape[-1]) != (1, rest.channels, size[1]) or rows[1] > size[0]:
            raise ValueError(f"strip of shape {tuple(strip.shape)} where {size} was expected")
        yield _merge_rows(strip, rest, size, rows, kept, alphas)
        top = rows[1]


def _merge_rows(
    strip: Tensor,
    rest: Rest,
    size: tuple[int, int],
    rows: tuple[int, int],
    kept: Window | None,
    alphas: Window | None,
) -> Pixels:
    """Output rows [y0, y1): colour from ``strip``, what it lacks from the input's rows."""
    chroma = alpha = residual = None
    first, height = 0, rest.size[0]
    if kept is not None:
        first, last = source_rows(height, size[0], *rows)
        first, last = max(0, first - REACH), min(height, last + REACH)
        planes = kept.rows(first, last)
        counts = [2 * rest.has_chroma, int(rest.facts.alpha_varies)]
        chroma, alpha, residual = planes.tensor_split((counts[0], sum(counts)), 1)
    part = (first, height)
    colour = _colour(strip.clamp(0, 1), rest, chroma, residual, size, rows, part)
    if rest.facts.constant_alpha is not None:
        opaque = torch.full((1, 1, *colour.shape[-2:]), rest.facts.constant_alpha)
        return _pixels(colour, opaque, rest)
    if not rest.facts.alpha_varies or alpha is None:
        return to_pixels(colour, rest.dtype)
    network = None
    if rest.alpha_mode == "network" and alphas is not None:
        network = gray_out(alphas.rows(*rows), rest.luma)
    return _pixels(colour, enlarged(alpha, size, rows, network, part), rest)


def _pixels(colour: Tensor, alpha: Tensor, rest: Rest) -> Pixels:
    if rest.metadata.premultiplied:
        colour = colour * alpha
    return to_pixels(torch.cat([colour, alpha], 1), rest.dtype)


def _colour(
    colour: Tensor,
    rest: Rest,
    chroma: Tensor | None,
    residual: Tensor | None,
    size: tuple[int, int],
    rows: tuple[int, int],
    part: tuple[int, int],
) -> Tensor:
    """The colour channels of a strip; ``chroma`` and ``residual`` are rows of the input."""
    if rest.facts.neutral:
        colour = gray_out(colour, rest.luma).clamp(0, 1)
    elif rest.has_chroma and chroma is not None:
        chroma = resize(chroma, size, rows=rows, part=part)
        luma = luma_out(colour, rest.luma)
        colour = ycbcr_to_rgb(torch.cat([luma, chroma], 1)).clamp_(0, 1)
    if rest.profile is not None and rest.keeps_profile:
        colour = by_rows(rest.profile.from_srgb, colour)
        if residual is not None:
            colour = colour + resize(residual, size, rows=rows, part=part)
    low, high = rest.range
    if (low, high) != (0.0, 1.0):
        colour = colour * (high - low) + low
    return colour.expand(-1, rest.colours, -1, -1)
