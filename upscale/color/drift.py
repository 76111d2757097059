"""Colour drift: put the input's low frequencies back into what a network made of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from upscale.resample import resize, resize_strips, source_rows
from upscale.strips import Window

CELL = 16  # LR pixels a side of a cell: what varies more slowly is the input's


def fix_drift(
    strips: Iterable[Tensor],
    lr: Iterable[Tensor],
    lr_shape: tuple[int, int],
    shape: tuple[int, int],
    *,
    cell: int = CELL,
) -> Iterator[Tensor]:
    """Correct the result, strip by strip, so that its low frequencies are the input's.

    Both are reduced by the bicubic kernel to one value for each ``cell`` x ``cell`` LR pixels;
    their difference, enlarged again, is added. A constant shift or tint goes away entirely. Strips
    are held back until the rows below that they depend on are there: about four cells.

    Args:
        strips: Rows of the result, (1, C, h, W'), top to bottom, without gaps.
        lr: Rows of what the network was given, (1, C, h, W), top to bottom, without gaps.
        lr_shape: Height and width of that.
        shape: Height and width of the whole result.
        cell: LR pixels a side of a cell.

    Yields:
        The same strips, corrected; values may leave [0, 1].
    """
    coarse = (max(1, -(-lr_shape[0] // cell)), max(1, -(-lr_shape[1] // cell)))
    target = Window(resize_strips(lr, lr_shape, coarse), ())
    held, above = [], 0  # the differences from row ``above`` of cells on
    waiting: deque[Tensor] = deque()  # strips that are not yet corrected

    def passing() -> Iterator[Tensor]:
        for strip in strips:
            waiting.append(strip)
            yield strip

    done = top = 0
    # 1. As strips come, rows of cells are complete: how far each is from the input's.
    for cells in resize_strips(passing(), shape, coarse):
        held.append(target.rows(done, done + cells.shape[2]) - cells)
        done += cells.shape[2]
        # 2. A strip leaves once all cells that the kernel reads for it are there.
        while waiting:
            rows = (top, top + waiting[0].shape[2])
            first, last = source_rows(coarse[0], shape[0], *rows)
            if last > done:
                break
            held, above = [torch.cat(held, 2)[:, :, first - above :]], first
            yield waiting.popleft() + resize(held[0], shape, rows=rows, part=(above, coarse[0]))
            top = rows[1]
