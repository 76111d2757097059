"""Colour drift: put the input's low frequencies back into what a network made of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from torch import Tensor

from upscale.resample import resize, resize_strips, source_rows

CELL = 16  # LR pixels a side of a cell: what varies more slowly is the input's

Strip = tuple[int, int, Tensor]  # y0, y1, rows (1, C, y1 - y0, W')


def fix_drift(
    strips: Iterable[Strip], lr: Tensor, size: tuple[int, int], *, cell: int = CELL
) -> Iterator[Strip]:
    """Correct the result, strip by strip, so that its low frequencies are those of ``lr``.

    Both are reduced by the bicubic kernel to one value for each ``cell`` x ``cell`` LR pixels;
    their difference, enlarged again, is added. A constant shift or tint goes away entirely. Strips
    are held back until the rows below that they depend on are there: about four cells.

    Args:
        strips: Rows of the result, top to bottom, without gaps.
        lr: (1, C, H, W), what the network was given.
        size: Height and width of the whole result.
        cell: LR pixels a side of a cell.

    Yields:
        The same strips, corrected; values may leave [0, 1].
    """
    coarse = (max(1, -(-lr.shape[2] // cell)), max(1, -(-lr.shape[3] // cell)))
    difference = resize(lr, coarse)
    waiting: deque[Strip] = deque()

    def passing() -> Iterator[Tensor]:
        for strip in strips:
            waiting.append(strip)
            yield strip[2]

    done = 0
    for part in resize_strips(passing(), size, coarse):
        difference[:, :, done : done + part.shape[2]] -= part
        done += part.shape[2]
        while waiting and source_rows(coarse[0], size[0], *waiting[0][:2])[1] <= done:
            y0, y1, rows = waiting.popleft()
            yield y0, y1, rows + resize(difference, size, rows=(y0, y1))
    while waiting:
        y0, y1, rows = waiting.popleft()
        yield y0, y1, rows + resize(difference, size, rows=(y0, y1))
