"""The picture that a network is run over, given by rows: it need never be whole in memory."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from upscale.errors import ImageError
from upscale.models import Network
from upscale.tiling import pad


class Source(Protocol):
    """A picture (1, C, H, W) float32 in [0, 1] that gives its rows."""

    @property
    def shape(self) -> tuple[int, ...]:
        """1, channels, height, width."""

    def rows(self, first: int, last: int) -> Tensor:
        """Rows [first, last), (1, C, last - first, W); ``first`` never falls from call to call."""


class TensorSource:
    """A picture that is whole in memory."""

    def __init__(self, lr: Tensor) -> None:
        self._lr = lr
        self.shape = tuple(int(n) for n in lr.shape)

    def rows(self, first: int, last: int) -> Tensor:
        """A view of the rows."""
        return self._lr[..., first:last, :]


class Padded:
    """A picture as a network takes it: a multiple of its window."""

    def __init__(self, source: Source, network: Network) -> None:
        _, channels, height, width = source.shape
        multiple = self._multiple = network.multiple_of
        self._source, self._height = source, height
        self.shape = (1, channels, height + -height % multiple, width + -width % multiple)

    def rows(self, first: int, last: int) -> Tensor:
        """Rows [first, last); ``last`` is a multiple of the window.

        Raises:
            ImageError: They hold NaN or infinity.
        """
        below = max(0, last - self._height)
        begin = max(0, min(first, self._height - 1 - below))  # so much is needed to reflect
        lr = self._source.rows(begin, last - below).float()
        check_finite(lr)
        lr = pad(lr, self._multiple, height=self._height, is_end=last >= self._height)
        return lr[..., first - begin :, :]


def check_finite(lr: Tensor) -> None:
    """Refuse a picture that holds NaN or infinity (:class:`ImageError`)."""
    if not bool(torch.isfinite(lr.sum(dtype=torch.float64))):
        raise ImageError("the picture holds NaN or infinite values; replace them first")
