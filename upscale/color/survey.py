"""What must be known of a whole picture before its first row is taken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from upscale.color.pixels import straight
from upscale.color.source import PixelSource
from upscale.image import Pixels


@dataclass(frozen=True, eq=False)
class Facts:
    """What holds for a whole picture.

    Attributes:
        neutral: The colour is gray, be it stored in one channel or in three equal ones.
        constant_alpha: The value of a constant alpha in [0, 1]; None without alpha, or where it
            varies.
        alpha_varies: There is an alpha channel that is not constant.
        fill: Mean colour of what is seen, (1, 1 or 3, 1, 1), where some pixels are fully
            transparent and others are not; None otherwise.
        low: The smallest value of the colour, at most 0.
        high: The largest, at least 1.
    """

    neutral: bool
    constant_alpha: float | None
    alpha_varies: bool
    fill: Tensor | None
    low: float
    high: float


@dataclass
class _Tally:
    """The facts of the rows so far."""

    neutral: bool = True  # where it is seen
    hidden_neutral: bool = True
    low: float = 0.0
    high: float = 1.0
    alpha_low: float = 1.0
    alpha_high: float = 0.0
    weighted: Tensor | None = None
    weight: float = 0.0

    def add(self, pixels: Pixels, *, premultiplied: bool) -> None:
        """Take rows (h, W, C) into account."""
        colours = pixels.shape[2] - (pixels.shape[2] in (2, 4))
        equal = np.ones(pixels.shape[:2], bool)
        if colours == 3:
            equal = (pixels[:, :, :1] == pixels[:, :, 1:3]).all(2)
        if colours == pixels.shape[2]:
            self.neutral &= bool(equal.all())
            if pixels.dtype == np.float32:
                self._range(torch.from_numpy(np.array(pixels)))
            return
        colour, alpha = straight(pixels, premultiplied=premultiplied)
        assert alpha is not None
        seen = alpha[0, 0] > 0
        self.neutral &= bool(equal[seen.numpy()].all())
        self.hidden_neutral &= bool(equal.all())
        low, high = alpha.aminmax()
        self.alpha_low = min(self.alpha_low, float(low))
        self.alpha_high = max(self.alpha_high, float(high))
        if bool(seen.any()):
            self._range(colour[0][:, seen])
        total = (colour * alpha).sum((2, 3), keepdim=True, dtype=torch.float64)
        self.weighted = total if self.weighted is None else self.weighted + total
        self.weight += float(alpha.sum(dtype=torch.float64))

    def _range(self, values: Tensor) -> None:
        low, high = (float(v) for v in values.aminmax())
        self.low, self.high = min(self.low, low), max(self.high, high)


def survey(source: PixelSource) -> Facts:
    """Go through a picture once; a file that is damaged shows it here, before any work."""
    tally = _Tally()
    colours = source.shape[2] - (source.shape[2] in (2, 4))
    has_alpha = colours != source.shape[2]
    for pixels in source.blocks():
        tally.add(pixels, premultiplied=source.metadata.premultiplied)
        if source.is_sound and not (tally.neutral or has_alpha or pixels.dtype == np.float32):
            break  # nothing can change any more
    constant = has_alpha and tally.alpha_low == tally.alpha_high
    holes = has_alpha and not constant and tally.alpha_low <= 0
    fill = (tally.weighted / tally.weight).float() if holes and tally.weighted is not None else None
    return Facts(
        neutral=tally.neutral and (tally.hidden_neutral or not constant),
        constant_alpha=tally.alpha_low if constant else None,
        alpha_varies=has_alpha and not constant,
        fill=fill,
        low=tally.low,
        high=tally.high,
    )
