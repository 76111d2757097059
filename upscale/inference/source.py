"""The picture that a network is run over, given by rows: it need never be whole in memory."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from upscale.errors import ImageError
from upscale.inference.noise import Noise
from upscale.models import Network
from upscale.tiling import pad_mode

Shape = tuple[int, int, int, int]


class Source(Protocol):
    """A picture (1, C, H, W) float32 in [0, 1] that gives its rows."""

    @property
    def shape(self) -> Shape:
        """1, channels, height, width."""

    def rows(self, first: int, last: int) -> Tensor:
        """Rows [first, last), (1, C, last - first, W); ``first`` never falls from call to call."""


class TensorSource:
    """A picture that is whole in memory."""

    def __init__(self, lr: Tensor) -> None:
        self._lr = lr
        self.shape: Shape = (int(lr.shape[0]), int(lr.shape[1]), int(lr.shape[2]), int(lr.shape[3]))

    def rows(self, first: int, last: int) -> Tensor:
        """A view of the rows."""
        return self._lr[..., first:last, :]


class Padded:
    """A picture as a network takes it: a multiple of its window, with its noise channels."""

    def __init__(self, source: Source, network: Network, noise: Noise) -> None:
        _, channels, height, width = source.shape
        multiple = network.multiple_of
        self._source, self._noise, self._extra = source, noise, network.noise_channels
        self._right = -width % multiple
        self._height, self._mode = height, pad_mode(height, width, multiple)
        bottom = -height % multiple
        self.shape: Shape = (1, channels + self._extra, height + bottom, width + self._right)

    def rows(self, first: int, last: int) -> Tensor:
        """Rows [first, last).

        Raises:
            ImageError: They hold NaN or infinity.
        """
        below = max(0, last - self._height)
        begin = min(first, self._height - 1 - (below if self._mode == "reflect" else 0))
        lr = self._source.rows(begin, last - below).float()
        check_finite(lr)
        if below or self._right:
            lr = F.pad(lr, (0, self._right, 0, below), mode=self._mode)
        lr = lr[..., first - begin :, :]
        if not self._extra:
            return lr
        noise = self._noise.draw(self._extra, last - first, self.shape[-1], first=first)
        return torch.cat((lr, noise), 1)


def check_finite(lr: Tensor) -> None:
    """Refuse a picture that holds NaN or infinity (:class:`ImageError`)."""
    if not bool(torch.isfinite(lr.sum(dtype=torch.float64))):
        raise ImageError("the picture holds NaN or infinite values; replace them first")
