"""What must be known of a whole picture before its first row is taken."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from upscale.color.pixels import straight
from upscale.errors import ImageError
from upscale.image import Pixels, Reader


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
    sums: NDArray[np.float64] | None = None  # of colour times alpha, and of alpha

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
        weighed = torch.cat((colour * alpha, alpha), 1)[0].double().numpy()
        for row in weighed.sum(-1).T:  # row by row: the sum does not depend on the cut
            self.sums = row if self.sums is None else self.sums + row

    def _range(self, values: Tensor) -> None:
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
        reason = "no such file" if error.errno == errno.ENOENT else error.strerror or str(error)
        raise ImageError(reason) from error


def survey(reader: Reader, tick: Callable[[], None] = lambda: None) -> Facts:
    """Go through a picture once; one that is damaged shows it here, before any work.

    ``tick`` is called after each strip.
    """
    tally = _Tally()
    colours = reader.channels - (reader.channels in (2, 4))
    has_alpha = colours != reader.channels
    for pixels in rows_of(reader):
        tick()
        if tally.neutral or has_alpha or pixels.dtype == np.float32:  # else nothing can change
            tally.add(pixels, premultiplied=reader.metadata.premultiplied)
    constant = has_alpha and tally.alpha_low == tally.alpha_high
    holes = has_alpha and not constant and tally.alpha_low <= 0
    fill = None
    if holes and tally.sums is not None:
        fill = torch.from_numpy(tally.sums[:-1] / tally.sums[-1]).float().view(1, -1, 1, 1)
    return Facts(
        neutral=tally.neutral and (tally.hidden_neutral or not constant),
        constant_alpha=tally.alpha_low if constant else None,
        alpha_varies=has_alpha and not constant,
        fill=fill,
        low=tally.low,
        high=tally.high,
    )
