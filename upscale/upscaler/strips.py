"""A picture in, strips of the result out."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from upscale import color
from upscale.color import Rest, View
from upscale.device import free_memory
from upscale.errors import OutOfMemoryError
from upscale.image import Metadata, Pixels
from upscale.inference import Progress, RunReport
from upscale.resample import resize_strips
from upscale.upscaler.ahead import ahead
from upscale.upscaler.result import Result

MERGED = 1 << 19  # pixels of the result that are put together at once
MERGED_HOLES = 1 << 22  # the same where holes are filled: every strip reads many rows around it
FED = 64  # LR rows that go into the correction of drift at once

# Runs the network: its view of the picture, progress, report; strips of its result.
Runner = Callable[[View, Progress | None, RunReport], Iterator[Tensor]]


class Stream:
    """An enlargement in progress: iterate over it, once, for the strips of the result.

    Attributes:
        shape: Height, width and channels of the result.
        dtype: uint8, uint16 or float32, as the input's.
        metadata: Of the result.
    """

    def __init__(
        self,
        rest: Rest,
        final: tuple[int, int],
        native_scale: int,
        runner: Runner,
        result: Result,
        *,
        color_fix: bool = False,
        is_ahead: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self._rest, self._final, self._native, self._runner = rest, final, native_scale, runner
        self._result, self._color_fix, self._progress = result, color_fix, progress
        self._is_ahead = is_ahead
        self._reports = [RunReport(), RunReport()]
        self._started, self._seconds = time.perf_counter(), 0.0
        self.shape = (*final, rest.source.shape[2])
        self.dtype: np.dtype[Any] = rest.dtype
        self.metadata: Metadata = rest.metadata

    def __iter__(self) -> Iterator[Pixels]:
        """Yield (h, W', C) of ``dtype`` from top to bottom.

        Raises:
            ImageError: The picture holds NaN, or its file ends too early.
            OutOfMemoryError: Not even the smallest tile fits.
        """
        rest, final = self._rest, self._final
        views = [rest.view(), rest.alpha_view()]
        drift = rest.view() if self._color_fix else None
        streams = [
            self._rows(view, self._progress if index == 0 else None, self._reports[index])
            for index, view in enumerate(views)
            if view is not None
        ]
        if drift is not None:
            streams[0] = color.fix_drift(streams[0], _pieces(drift), rest.size, final)
        at_once = MERGED if rest.facts.fill is None else MERGED_HOLES
        tall = max(1, at_once // final[1])
        top = 0
        for strips in aligned(streams):
            height = strips[0].shape[-2]
            for y in range(0, height, tall):
                parts = [strip[..., y : y + tall, :] for strip in strips]
                rows = (top + y, top + min(height, y + tall))
                yield color.merge_rows(parts[0], rest, final, rows, *parts[1:])
            top += height
        self._seconds = time.perf_counter() - self._started

    def _rows(self, view: View, progress: Progress | None, report: RunReport) -> Iterator[Tensor]:
        """Strips (1, channels, h, W') of the network's result at the final size."""
        height, width = self._rest.size
        native = (height * self._native, width * self._native)
        made = self._clamped(self._runner(view, progress, report))
        strips = ahead(made) if self._is_ahead else made
        return strips if native == self._final else resize_strips(strips, native, self._final)

    @staticmethod
    def _clamped(strips: Iterable[Tensor]) -> Generator[Tensor, None, None]:
        for rows in strips:
            yield rows.clamp_(0, 1)

    @property
    def result(self) -> Result:
        """How the picture was enlarged, once the last strip is out."""
        return replace(
            self._result,
            tile=self._reports[0].tile,
            retries=sum(report.retries for report in self._reports),
            seconds=self._seconds,
        )


def _pieces(view: View) -> Iterator[Tensor]:
    height = view.shape[2]
    for y in range(0, height, FED):
        yield view.rows(y, min(height, y + FED))


def whole(stream: Stream) -> NDArray[Any]:
    """The whole result, (H', W', C).

    Raises:
        OutOfMemoryError: It exceeds the free memory; the system would end the process later.
    """
    height, width, channels = stream.shape
    need = height * width * channels * stream.dtype.itemsize
    free = free_memory(torch.device("cpu"))
    if need > free:
        raise OutOfMemoryError(
            f"the result of {width} x {height} pixels takes {need >> 20} MiB and {free >> 20} "
            f"MiB are free; choose a smaller --scale, end other programs, or give a TIFF or PNG "
            f"and -f tif: those go by rows"
        )
    pixels = np.empty(stream.shape, stream.dtype)
    top = 0
    for rows in stream:
        pixels[top : top + len(rows)] = rows
        top += len(rows)
    return pixels


def aligned(streams: Iterable[Iterator[Tensor]]) -> Iterator[tuple[Tensor, ...]]:
    """Strips of several streams cut to the same rows."""
    sources = list(streams)
    heads = [next(source, None) for source in sources]
    while all(head is not None for head in heads):
        strips = [head for head in heads if head is not None]
        rows = min(strip.shape[-2] for strip in strips)
        yield tuple(strip[..., :rows, :] for strip in strips)
        heads = [
            strip[..., rows:, :] if strip.shape[-2] > rows else next(source, None)
            for strip, source in zip(strips, sources, strict=True)
        ]
