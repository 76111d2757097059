"""Strips: a picture that comes as rows from top to bottom, whole in no place.

Strips of tensors are (…, h, W), of pixels (h, W, C). Whatever cuts rows or puts them together does
it here.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


def ranges(height: int, tall: int) -> Iterator[tuple[int, int]]:
    """First row and row behind the last, of pieces of at most ``tall`` rows."""
    for first in range(0, height, tall):
        yield first, min(height, first + tall)


def gathered(strips: Iterable[NDArray[Any]], height: int) -> NDArray[Any]:
    """The whole picture of its strips (h, W, C), without a second copy of it in memory."""
    whole, top = np.empty(0), 0
    for strip in strips:
        if len(strip) == height:
            return strip
        if not top:
            whole = np.empty((height, *strip.shape[1:]), strip.dtype)
        whole[top : top + len(strip)] = strip
        top += len(strip)
    return whole


def checked(
    strips: Iterable[NDArray[Any]], shape: tuple[int, int, int], dtype: np.dtype[Any], tall: int
) -> Iterator[NDArray[Any]]:
    """The same rows in strips (h, W, C) of ``tall`` rows (the last: what is left) of a picture.

    Raises:
        ValueError: A strip of another width, count of channels or dtype, or not as many rows as
            ``shape`` says.
    """
    (height, *rest), count = shape, 0
    held: list[NDArray[Any]] = []  # parts of the next strip to give
    for strip in strips:
        if strip.ndim != 3 or [*strip.shape[1:]] != rest or strip.dtype != dtype:
            raise ValueError(f"a strip {strip.shape} of {strip.dtype} for {shape} of {dtype}")
        first, missing = 0, tall - count % tall
        count += len(strip)
        if count > height:
            break
        while first < len(strip):
            held.append(strip[first : first + missing])
            first, missing = first + missing, tall
            if first <= len(strip):
                yield held[0] if len(held) == 1 else np.concatenate(held)
                held = []
    if count != height:
        raise ValueError(f"{count} rows, and not {height}")
    if held:
        yield held[0] if len(held) == 1 else np.concatenate(held)


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
        if len(found) == 1:
            return found[0]
        import torch  # pictures do without

        return torch.cat(found, -2)


def cut(strips: Iterable[Tensor], tall: int) -> Iterator[Tensor]:
    """The same rows in strips of at most ``tall`` rows each."""
    for strip in strips:
        for first, last in ranges(strip.shape[-2], tall):
            yield strip[..., first:last, :]


def ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """The same strips or pages, made in a thread of their own, one ahead of the one in use.

    A GPU computes the next rows while the last ones are put together on the CPU.
    """
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item
