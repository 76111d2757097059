"""A picture as the network sees it, and what it is besides; both by rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from upscale.color.alpha import CELL, MARGIN, bleed
from upscale.color.gray import AlphaMode, IccMode, gray_in, in_srgb
from upscale.color.pixels import by_rows, straight
from upscale.color.source import Cursor, PixelSource
from upscale.color.survey import Facts, survey
from upscale.color.ycbcr import rgb_to_ycbcr
from upscale.errors import UsageError
from upscale.icc import Profile, parse
from upscale.image import Metadata

TAKEN = 1 << 19  # pixels that are taken apart at once
TAKEN_HOLES = 1 << 22  # the same where holes are filled: every part reads many rows around it


@dataclass(frozen=True, eq=False)
class Part:
    """Some rows of a picture, taken apart.

    Attributes:
        seen: sRGB, (1, 1 or 3, h, W): one channel where the whole picture is neutral.
        alpha: Alpha, (1, 1, h, W) in [0, 1]; None without alpha or where it is constant.
        residual: (1, 1 or 3, h, W): the rows less what comes back from ``seen``: colours outside
            sRGB, light above 1; None where nothing is converted.
    """

    seen: Tensor
    alpha: Tensor | None
    residual: Tensor | None


@dataclass(frozen=True, eq=False)
class Rest:
    """What a picture is besides the tensor that the network sees; made by ``separate``.

    Attributes:
        metadata: Metadata of the output.
        dtype: Dtype of the input's pixels, and of the output's.
        colours: Colour channels of the output, 1 or 3.
        channels: Channels of the network, 1 (luma) or 3 (RGB).
        size: Height and width of the input.
        facts: What holds for the whole picture.
        alpha_mode: How alpha is enlarged.
        profile: The profile of the pixels; None where they are sRGB.
        keeps_profile: The output has that profile too, else it is sRGB.
        source: The picture.
        cursor: Where ``merge_rows`` reads it.
    """

    metadata: Metadata
    dtype: np.dtype[Any]
    colours: int
    channels: int
    size: tuple[int, int]
    facts: Facts
    alpha_mode: AlphaMode
    profile: Profile | None
    keeps_profile: bool
    source: PixelSource
    cursor: Cursor

    @property
    def low(self) -> float:
        """The value that stands for 0: not 0 in a floating-point picture of another range."""
        return 0.0 if self.profile else self.facts.low

    @property
    def high(self) -> float:
        """The value that stands for 1."""
        return 1.0 if self.profile else self.facts.high

    @property
    def has_chroma(self) -> bool:
        """The network takes the luma of a colour picture."""
        return self.channels == 1 and not self.facts.neutral

    @property
    def is_whole_in_lr(self) -> bool:
        """Nothing is left beside what the network sees."""
        converted = self.profile is not None and self.keeps_profile
        return not (self.has_chroma or self.facts.alpha_varies or converted)

    def view(self) -> View:
        """The picture as the network takes it, (1, channels, H, W), by rows."""
        return View(self, self.source.cursor())

    def alpha_view(self) -> View | None:
        """Alpha as the network takes it; None where it is not to see alpha."""
        if not self.facts.alpha_varies or self.alpha_mode != "network":
            return None
        return View(self, self.source.cursor(), alpha=True)

    @property
    def alpha_lr(self) -> Tensor | None:
        """The whole of ``alpha_view``; run it as a second picture and give its rows to merge."""
        view = self.alpha_view()
        return None if view is None else view.rows(0, self.size[0])

    def leave(self, cursor: Cursor, first: int) -> None:
        """Move a cursor so far that rows from ``first`` on can still be taken apart."""
        cursor.leave(self._begin(first))

    def _begin(self, first: int) -> int:
        """The row from which on a part is read."""
        return first if self.facts.fill is None else max(0, first // CELL * CELL - MARGIN)

    def part(self, cursor: Cursor, first: int, last: int) -> Part:
        """Take rows [first, last) apart."""
        begin, end = self._begin(first), last
        if self.facts.fill is not None:
            end = min(self.size[0], -(-last // CELL) * CELL + MARGIN)
        pixels = cursor.rows(begin, end)
        colour, alpha = straight(pixels, premultiplied=self.source.metadata.premultiplied)
        if self.facts.fill is not None and alpha is not None:
            colour = bleed(colour, alpha, self.facts.fill)
            colour = colour[:, :, first - begin : last - begin]
            alpha = alpha[:, :, first - begin : last - begin]
        device = (colour[:, :1] if self.facts.neutral else colour).contiguous()
        kept = alpha if self.facts.alpha_varies else None
        if self.profile is None:
            return Part((device - self.low) / (self.high - self.low), kept, None)
        seen = by_rows(self.profile.to_srgb, device).clamp_(0, 1)
        residual = device - by_rows(self.profile.from_srgb, seen) if self.keeps_profile else None
        return Part(seen, kept, residual)


class View:
    """Rows of a picture, or of its alpha, as a network takes them."""

    def __init__(self, rest: Rest, cursor: Cursor, *, alpha: bool = False) -> None:
        self._rest, self._cursor = rest, cursor
        self.is_alpha = alpha
        self.shape = (1, rest.channels, *rest.size)

    def rows(self, first: int, last: int) -> Tensor:
        """Rows [first, last), (1, channels, last - first, W) float32 in [0, 1].

        ``first`` never falls from call to call.
        """
        self._rest.leave(self._cursor, first)
        _, channels, _, width = self.shape
        at_once = TAKEN if self._rest.facts.fill is None else TAKEN_HOLES
        tall = max(1, at_once // width)
        if last - first <= tall:
            return self._rows(first, last)
        out = torch.empty(1, channels, last - first, width)
        for y in range(first, last, tall):
            end = min(last, y + tall)
            out[:, :, y - first : end - first] = self._rows(y, end)
        return out

    def _rows(self, first: int, last: int) -> Tensor:
        rest = self._rest
        part = rest.part(self._cursor, first, last)
        if self.is_alpha:
            assert part.alpha is not None
            return gray_in(part.alpha, rest.channels)
        if part.seen.shape[1] == 1:
            return gray_in(part.seen, rest.channels).clamp(0, 1)
        if rest.channels == 1:
            return rgb_to_ycbcr(part.seen)[:, :1].clamp(0, 1)
        return part.seen.clamp(0, 1)


def separate(
    source: PixelSource,
    channels: int,
    *,
    alpha_mode: AlphaMode = "network",
    icc: IccMode = "keep",
) -> Rest:
    """Go through a picture once and prepare to take it apart by rows.

    Args:
        source: The picture.
        channels: Channels of the network: 3 RGB, 1 luma (Y of BT.601 in studio range).
        alpha_mode: Enlarge alpha by the network or by the bicubic kernel.
        icc: "keep" the profile of the picture, or leave the result in "srgb".

    Raises:
        ImageError: A file cannot be read to its end.
        UsageError: ``channels``, ``alpha_mode`` or ``icc`` has another value.
    """
    if channels not in (1, 3):
        raise UsageError(f"a network of {channels} channels has no colour; use one of 1 or 3")
    if alpha_mode not in get_args(AlphaMode):
        raise UsageError(f"alpha mode {alpha_mode!r} is unknown; use network or bicubic")
    if icc not in get_args(IccMode):
        raise UsageError(f"ICC mode {icc!r} is unknown; use keep or srgb")
    metadata, profile = source.metadata, None
    if metadata.icc is not None:
        found = parse(metadata.icc)
        profile = None if found.is_srgb else found
    height, width, stored = source.shape
    return Rest(
        metadata=metadata if icc == "keep" else in_srgb(metadata),
        dtype=source.dtype,
        colours=stored - (stored in (2, 4)),
        channels=channels,
        size=(height, width),
        facts=survey(source),
        alpha_mode=alpha_mode,
        profile=profile,
        keeps_profile=icc == "keep",
        source=source,
        cursor=source.cursor(),
    )
