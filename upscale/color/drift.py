"""Colour drift: put the input's low frequencies back into what a network made of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from torch import Tensor

from upscale.resample import resize, resize_strips, source_rows

CELL = 16  # LR pixels a side of a cell: what varies more slowly is the input's


def fix_drift(
    strips: Iterable[Tensor], lr: Tensor, size: tuple[int, int], *, cell: int = CELL
) -> Iterator[Tensor]:
    """Correct the result, strip by strip, so that its low frequencies are those of ``lr``.

    Both are reduced by the bicubic kernel to one value for each ``cell`` x ``cell`` LR pixels;
    their difference, enlarged again, is added. A constant shift or tint goes away entirely. Strips
    are held back until the rows below that they depend on are there: about four cells.

    Args:
        strips: Rows of the result, (1, C, h, W'), top to bottom, without gaps.
        lr: (1, C, H, W), what the network was given.
        size: Height and width of the whole result.
        cell: LR pixels a side of a cell.

    Yields:
        The same strips, corrected; values may leave [0, 1].
    """
    coarse = (max(1, -(-lr.shape[2] // cell)), max(1, -(-lr.shape[3] // cell)))
    difference = resize(lr, coarse).clone()
    waiting: deque[Tensor] = deque()

    def passing() -> Iterator[Tensor]:
        for strip in strips:
            waiting.append(strip)
            yield strip

    done = top = 0
    for part in resize_strips(passing(), size, coarse):
        difference[:, :, done : done + part.shape[2]] -= part
        done += part.shape[2]
        while waiting and done < coarse[0]:
            rows = (top, top + waiting[0].shape[2])
            if source_rows(coarse[0], size[0], *rows)[1] > done:
                break
            yield waiting.popleft() + resize(difference, size, rows=rows)
            top = rows[1]
    for strip in waiting:
        rows = (top, top + strip.shape[2])
        yield strip + resize(difference, size, rows=rows)
        top = rows[1]
