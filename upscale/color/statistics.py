"""What must be known of a whole picture before its first row is taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from upscale.color.pixels import straight
from upscale.errors import ImageError, reason
from upscale.image import Pixels, Reader


@dataclass(eq=False)
class Statistics:
    """What holds for all rows of a picture so far.

    Attributes:
        has_alpha: There is an alpha channel.
        premultiplied: Colour is multiplied by it.
        is_data: It holds data, no transparency: all colour is seen.
        low: The smallest value of the colour that is seen, at most 0.
        high: The largest, at least 1.
        is_gray_seen: The colour is gray where alpha is above 0.
        is_gray: It is gray everywhere.
        alpha_low: The smallest alpha in [0, 1].
        alpha_high: The largest.
        sums: Of colour times alpha, and of alpha.
    """

    has_alpha: bool
    premultiplied: bool
    is_data: bool = False
    low: float = 0.0
    high: float = 1.0
    is_gray_seen: bool = True
    is_gray: bool = True
    alpha_low: float = 1.0
    alpha_high: float = 0.0
    sums: NDArray[np.float64] | None = None

    @property
    def neutral(self) -> bool:
        """Whether the colour is gray, be it stored in one channel or in three equal ones."""
        return self.is_gray_seen and (self.is_gray or self.constant_alpha is None)

    @property
    def constant_alpha(self) -> float | None:
        """The value of a constant alpha; None without alpha, or where it varies."""
        return self.alpha_low if self.has_alpha and not self.alpha_varies else None

    @property
    def alpha_varies(self) -> bool:
        """Whether there is an alpha channel that is not constant."""
        return self.has_alpha and self.alpha_low != self.alpha_high

    @property
    def fill(self) -> Tensor | None:
        """Mean colour of what is seen, (1, 1 or 3, 1, 1); None unless some of it is not."""
        if self.is_data or not self.alpha_varies or self.alpha_low > 0 or self.sums is None:
            return None
        return torch.from_numpy(self.sums[:-1] / self.sums[-1]).float().view(1, -1, 1, 1)

    def add(self, pixels: Pixels) -> None:
        """Take rows (h, W, C) into account."""
        if not (self.has_alpha or self.is_gray_seen or pixels.dtype == np.float32):
            return  # nothing can change any more
        equal = np.ones(pixels.shape[:2], bool)
        if pixels.shape[2] >= 3:
            equal = (pixels[:, :, :1] == pixels[:, :, 1:3]).all(2)
        self.is_gray &= bool(equal.all())
        if not self.has_alpha:
            self.is_gray_seen = self.is_gray
            if pixels.dtype == np.float32:
                self._add_range(torch.from_numpy(np.array(pixels)))
            return
        colour, alpha = straight(pixels, premultiplied=self.premultiplied)
        assert alpha is not None
        seen = (alpha[0, 0] > 0) | self.is_data
        self.is_gray_seen &= bool(equal[seen.numpy()].all())
        low, high = alpha.aminmax()
        self.alpha_low = min(self.alpha_low, float(low))
        self.alpha_high = max(self.alpha_high, float(high))
        if bool(seen.any()):
            self._add_range(colour[0][:, seen])
        weighed = torch.cat((colour * alpha, alpha), 1)[0].double().numpy()
        for row in weighed.sum(-1).T:  # row by row: the sum does not depend on the cut
            self.sums = row if self.sums is None else self.sums + row

    def _add_range(self, values: Tensor) -> None:
        low, high = (float(v) for v in values.aminmax())
        self.low, self.high = min(self.low, low), max(self.high, high)


def rows_of(reader: Reader) -> Iterator[Pixels]:
    """The rows of a picture; what the system refuses is an error of the picture.

    Raises:
        ImageError: It is damaged or cannot be read.
    """
    try:
        yield from reader.rows()
    except OSError as error:
        raise ImageError(reason(error)) from error


def statistics(
    reader: Reader, *, alpha_is_data: bool = False, tick: Callable[[], None] = lambda: None
) -> Statistics:
    """Go through a picture once; one that is damaged shows it here, before any work.

    ``tick`` is called after each strip. Where alpha is data, colour is not divided by it.
    """
    premultiplied = reader.metadata.premultiplied and not alpha_is_data
    totals = Statistics(reader.channels in (2, 4), premultiplied, alpha_is_data)
    for pixels in rows_of(reader):
        tick()
        totals.add(pixels)
    return totals
