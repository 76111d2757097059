"""Strips: a picture that comes as rows from top to bottom, each strip (…, h, W)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor


class Window:
    """Rows of a picture that comes as strips, given out in pieces that may overlap.

    Pieces go from top to bottom: the first row that is asked for never falls. Only the rows from
    there on are held.
    """

    def __init__(self, strips: Iterable[Tensor], shape: tuple[int, ...]) -> None:
        """Prepare; no strip is taken before it is needed.

        Args:
            strips: The picture, without gaps.
            shape: (N, C, H, W) of the whole of it.
        """
        self.shape = shape
        self._strips = iter(strips)
        self._held: list[Tensor] = []
        self._top = self._end = 0  # rows [top, end) are held

    def rows(self, first: int, last: int) -> Tensor:
        """Rows [first, last), (N, C, last - first, W).

        Raises:
            ValueError: Rows above ``first`` of an earlier call are asked for, or there are fewer.
        """
        if first < self._top:
            raise ValueError(f"row {first} is asked for and those above {self._top} were left")
        while self._end < last:
            strip = next(self._strips, None)
            if strip is None:
                raise ValueError(f"the strips hold {self._end} rows and row {last} is asked for")
            self._held.append(strip)
            self._end += strip.shape[-2]
        while self._held and self._top + self._held[0].shape[-2] <= first:
            self._top += self._held.pop(0).shape[-2]
        found, top = [], self._top
        for strip in self._held:
            height = strip.shape[-2]
            if top < last and top + height > first:
                found.append(strip[..., max(0, first - top) : last - top, :])
            top += height
        return found[0] if len(found) == 1 else torch.cat(found, -2)


def cut(strips: Iterable[Tensor], tall: int) -> Iterator[Tensor]:
    """The same rows in strips of at most ``tall`` rows each."""
    for strip in strips:
        for top in range(0, strip.shape[-2], tall):
            yield strip[..., top : top + tall, :]


def ahead(strips: Iterator[Tensor]) -> Iterator[Tensor]:
    """The same strips, made in a thread of their own, one ahead of the one that is used.

    A GPU computes the next rows while the last ones are put together on the CPU.
    """
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, strips, None)
        while (strip := coming.result()) is not None:
            coming = thread.submit(next, strips, None)
            yield strip
