"""A picture to what the network sees, and back: ``split`` and its inverse ``merge``, by rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from upscale.color.pixels import (
    CELL,
    MARGIN,
    REACH,
    Luma,
    Statistics,
    bleed,
    by_rows,
    enlarge_alpha,
    gray_in,
    gray_out,
    luma_in,
    luma_out,
    rgb_to_ycbcr,
    rows_of,
    statistics,
    straight,
    to_pixels,
    ycbcr_to_rgb,
)
from upscale.errors import UsageError
from upscale.image import Metadata, Pixels, Reader
from upscale.resample import resize, source_rows
from upscale.settings import AlphaMode, IccMode
from upscale.strips import Window, cut

if TYPE_CHECKING:
    from upscale.icc import Profile

PIXELS = 1 << 19  # that are converted at once
PIXELS_HOLES = 1 << 22  # the same where holes are filled: every strip needs many rows around it


class Planes(NamedTuple):
    """A strip of a picture, taken apart.

    Attributes:
        srgb: (1, 1 or 3, h, W): one channel where the whole picture is neutral.
        alpha: (1, 1, h, W) in [0, 1]; None without alpha or where it is constant.
        residual: (1, 1 or 3, h, W): the strip less what comes back from ``srgb``: colours outside
            sRGB, light above 1; None where nothing is converted.
    """

    srgb: Tensor
    alpha: Tensor | None
    residual: Tensor | None


@dataclass(frozen=True, eq=False)
class Split:
    """A picture taken apart; made by :func:`split`.

    Attributes:
        reader: The picture.
        metadata: Metadata of the output.
        channels: Channels of the network, 1 (luma) or 3 (RGB).
        luma: Which gray a network of one channel takes.
        statistics: What holds for the whole picture.
        alpha_mode: How alpha is enlarged.
        profile: The profile of the pixels; None where they are sRGB.
        keeps_profile: The output has that profile too, else it is sRGB.
    """

    reader: Reader
    metadata: Metadata
    channels: int
    luma: Luma
    statistics: Statistics
    alpha_mode: AlphaMode
    profile: Profile | None
    keeps_profile: bool

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the input."""
        return self.reader.height, self.reader.width

    @property
    def range(self) -> tuple[float, float]:
        """The values that stand for 0 and 1: others in a floating-point picture of another range.

        Of a picture with a profile they are 0 and 1; what lies beyond is in the residual.
        """
        return (0.0, 1.0) if self.profile else (self.statistics.low, self.statistics.high)

    @property
    def has_chroma(self) -> bool:
        """The network takes the luma of a colour picture."""
        return self.channels == 1 and not self.statistics.neutral

    @property
    def is_transparent(self) -> bool:
        """Whether any pixel is not opaque."""
        return self.statistics.alpha_varies or self.statistics.constant_alpha not in (None, 1.0)

    def lr(self) -> Iterator[Tensor]:
        """The picture as the network takes it, strips (1, channels, h, W) in [0, 1]."""
        for planes in self._planes():
            if planes.srgb.shape[1] == 1:
                yield gray_in(planes.srgb, self.channels, self.luma).clamp(0, 1)
            elif self.channels == 1:
                yield luma_in(rgb_to_ycbcr(planes.srgb)[:, :1], self.luma).clamp(0, 1)
            else:
                yield planes.srgb.clamp(0, 1)

    def alpha(self) -> Window | None:
        """Alpha as the network takes it; None where it is not to see alpha."""
        if not self.statistics.alpha_varies or self.alpha_mode == "bicubic":
            return None
        strips = (
            gray_in(planes.alpha, self.channels, self.luma)
            for planes in self._planes()
            if planes.alpha is not None
        )
        return Window(strips, (1, self.channels, *self.shape))

    def side_planes(self) -> Window | None:
        """What :func:`merge` needs of the input: chroma, alpha, residual, stacked in this order."""
        converted = self.profile is not None and self.keeps_profile
        count = 2 * self.has_chroma + self.statistics.alpha_varies
        count += (1 if self.statistics.neutral else 3) * converted
        if not count:
            return None

        def stacked() -> Iterator[Tensor]:
            for srgb, alpha, residual in self._planes():
                chroma = rgb_to_ycbcr(srgb)[:, 1:] if self.has_chroma else None
                planes = (chroma, alpha, residual)
                yield torch.cat([plane for plane in planes if plane is not None], 1)

        return Window(stacked(), (1, count, *self.shape))

    def _planes(self) -> Iterator[Planes]:
        """The picture, read once more from the top, in strips that depend on its size alone."""
        facts = self.statistics
        for colour, alpha in self._filled() if facts.fill is not None else self._straight():
            # 1. Equal channels are one; alpha that does not vary is no plane.
            stored = (colour[:, :1] if facts.neutral else colour).contiguous()
            varying = alpha if facts.alpha_varies else None
            # 2. Without a profile the values are sRGB, brought to [0, 1] where they are not.
            if self.profile is None:
                low, high = self.range
                yield Planes((stored - low) / (high - low), varying, None)
                continue
            # 3. With one the network sees sRGB. What clipping and rounding took of it is kept, to
            # be added to the result once that is in the profile again.
            srgb = by_rows(self.profile.to_srgb, stored).clamp_(0, 1)
            back = by_rows(self.profile.from_srgb, srgb) if self.keeps_profile else None
            yield Planes(srgb, varying, None if back is None else stored - back)

    def _straight(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Colour and alpha of some rows at a time."""
        tall = max(1, PIXELS // self.reader.width)
        for pixels in rows_of(self.reader):
            for top in range(0, len(pixels), tall):
                rows = pixels[top : top + tall]
                yield straight(rows, premultiplied=self.statistics.premultiplied)

    def _filled(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The same with colour under transparent pixels, which rows far around decide."""
        height, width = self.shape
        both = (torch.cat((c, a), 1) for c, a in self._straight() if a is not None)
        window = Window(both, (1, self.reader.channels, height, width))
        tall = max(1, PIXELS_HOLES // width)
        for first in range(0, height, tall):
            last = min(height, first + tall)
            # The pyramid of ``bleed`` has cells of CELL rows: a piece must begin and end with one.
            begin = max(0, first // CELL * CELL - MARGIN)
            end = min(height, -(-last // CELL) * CELL + MARGIN)
            rows = window.rows(begin, end)
            colour, alpha = rows[:, :-1], rows[:, -1:]
            inner = slice(first - begin, last - begin)
            yield bleed(colour, alpha, self.statistics.fill)[:, :, inner], alpha[:, :, inner]


def split(
    reader: Reader,
    channels: int,
    *,
    luma: Luma = "studio",
    alpha_mode: AlphaMode = "network",
    icc: IccMode = "keep",
    tick: Callable[[], None] = lambda: None,
) -> tuple[Window, Split]:
    """Take a picture apart into the rows that a network sees and the rest.

    The rows are sRGB; a picture of another profile is converted, and so is the result, back. The
    picture is gone through once at the call: what is damaged shows before any work.

    Args:
        reader: The picture.
        channels: Channels of the network: 3 RGB, 1 luma.
        luma: Which gray a network of one channel takes.
        alpha_mode: Enlarge alpha by the network or by the bicubic kernel; "separate": alpha holds
            data, and both are enlarged as they stand.
        icc: "keep" the profile of the picture, or leave the result in "srgb".
        tick: Called again and again while the picture is gone through.

    Returns:
        ``lr``, a window on (1, channels, H, W) float32 in [0, 1], and all else for :func:`merge`.

    Raises:
        ImageError: The picture cannot be read to its end.
        UsageError: ``channels`` has another value.
    """
    if channels not in (1, 3):
        raise UsageError(f"a network of {channels} channels has no colour; use one of 1 or 3")
    metadata, profile = reader.metadata, None
    if metadata.icc is not None or metadata.cmyk is not None:
        from upscale.icc import build, parse  # most pictures have no profile

        profile = parse(metadata.icc) if metadata.icc is not None else None
        if icc == "srgb":
            metadata = replace(metadata, icc=build("sRGB"), cmyk=None)
    picture = Split(
        reader=reader,
        metadata=metadata,
        channels=channels,
        luma=luma,
        statistics=statistics(reader, alpha_is_data=alpha_mode == "separate", tick=tick),
        alpha_mode=alpha_mode,
        profile=None if profile is None or profile.is_srgb else profile,
        keeps_profile=icc == "keep",
    )
    return Window(picture.lr(), (1, channels, *picture.shape)), picture


def merge(
    sr: Iterable[Tensor],
    split: Split,
    shape: tuple[int, int],
    alpha: Iterable[Tensor] | None = None,
) -> Iterator[Pixels]:
    """Put the result together: the inverse of :func:`split`.

    Args:
        sr: Strips (1, channels, h, W') of the enlarged ``lr``, top to bottom.
        split: What ``split`` kept.
        shape: Height and width of the output.
        alpha: Strips of the enlarged ``split.alpha()``; needed where that is not None.

    Yields:
        (h, W', C) of the input's dtype: strips of the output's pixels.

    Raises:
        ValueError: A strip is not of the size that ``shape`` says, or alpha is missing.
    """
    side = split.side_planes()
    alphas = None if alpha is None else Window(alpha, (1, split.channels, *shape))
    if alphas is None and split.statistics.alpha_varies and split.alpha_mode != "bicubic":
        raise ValueError("the enlarged alpha is missing: run the network on split.alpha()")
    at_once = PIXELS if split.statistics.fill is None else PIXELS_HOLES
    top = 0
    for strip in cut(sr, max(1, at_once // shape[1])):
        rows = (top, top + strip.shape[-2])
        expected = (1, split.channels, shape[1])
        if (*strip.shape[:2], strip.shape[-1]) != expected or rows[1] > shape[0]:
            raise ValueError(f"strip of shape {tuple(strip.shape)} where {shape} was expected")
        yield _merge_rows(strip, split, shape, rows, side, alphas)
        top = rows[1]


def _merge_rows(
    strip: Tensor,
    split: Split,
    shape: tuple[int, int],
    rows: tuple[int, int],
    side: Window | None,
    alphas: Window | None,
) -> Pixels:
    """Output rows [y0, y1): colour from ``strip``, what it lacks from the input's rows."""
    facts, height = split.statistics, split.shape[0]
    # 1. The input's rows that these depend on: what the bicubic kernel reads, and alpha's limits.
    chroma = alpha = residual = None
    first = 0
    if side is not None:
        first, last = source_rows(height, shape[0], *rows)
        if facts.alpha_varies:
            first, last = max(0, first - REACH), min(height, last + REACH)
        after_chroma = 2 * split.has_chroma
        cuts = (after_chroma, after_chroma + facts.alpha_varies)
        chroma, alpha, residual = side.rows(first, last).tensor_split(cuts, 1)

    def enlarged(planes: Tensor) -> Tensor:
        return resize(planes, shape, rows=rows, part=(first, height))

    # 2. sRGB: gray as it is, luma with the enlarged chroma, or RGB.
    colour = strip.clamp(0, 1)
    if facts.neutral:
        colour = gray_out(colour, split.luma).clamp(0, 1)
    elif split.has_chroma and chroma is not None:
        luma = luma_out(colour, split.luma)
        colour = ycbcr_to_rgb(torch.cat([luma, enlarged(chroma)], 1)).clamp_(0, 1)
    # 3. The picture's own profile again, with what sRGB could not hold; its own range.
    if split.profile is not None and split.keeps_profile:
        colour = by_rows(split.profile.from_srgb, colour)
        if residual is not None:
            colour = colour + enlarged(residual)
    low, high = split.range
    if (low, high) != (0.0, 1.0):
        colour = colour * (high - low) + low
    has_alpha = facts.has_alpha
    colour = colour.expand(-1, split.reader.channels - has_alpha, -1, -1)
    if not has_alpha:
        return to_pixels(colour, split.reader.dtype)
    # 4. Alpha: the constant, or the network's within the limits of the input's.
    if facts.constant_alpha is not None:
        opacity = torch.full((1, 1, *colour.shape[-2:]), facts.constant_alpha)
    else:
        assert alpha is not None
        network = None if alphas is None else gray_out(alphas.rows(*rows), split.luma)
        if facts.is_data and network is not None:
            opacity = network.clamp(0, 1)
        else:
            opacity = enlarge_alpha(alpha, shape, rows, network, (first, height))
    if facts.premultiplied:
        colour = colour * opacity
    return to_pixels(torch.cat([colour, opacity], 1), split.reader.dtype)
