"""A picture in, strips of the result out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from upscale import color
from upscale.device import dtype_name, free_memory
from upscale.errors import OutOfMemoryError
from upscale.image import Metadata, Pixels, Reader
from upscale.image.reader import gathered
from upscale.inference import Noise, Progress, RunReport, Source, run, shared
from upscale.resample import resize_strips
from upscale.settings import Settings
from upscale.strips import Window, ahead
from upscale.upscaler.result import Result

if TYPE_CHECKING:
    from upscale.upscaler.networks import Loaded


class Stream:
    """An enlargement in progress: iterate over it, once, for the strips of the result.

    The picture is gone through once when the stream is made, so that damage shows before any work.

    Attributes:
        shape: Height, width and channels of the result.
        dtype: uint8, uint16 or float32, as the input's.
        metadata: Of the result.
        stages: The networks.
        rest: What of the picture the network does not see.
        lr: What it sees.
    """

    def __init__(
        self,
        reader: Reader,
        stages: Sequence[Loaded],
        settings: Settings,
        final: tuple[int, int],
        full: tuple[int, int],
        progress: Progress | None = None,
        hint: str = "",
    ) -> None:
        """Prepare.

        Args:
            reader: The picture.
            stages: The networks, one after the other; each takes what the one before gave.
            settings: Tiles, colour, alpha.
            final: Height and width of the result.
            full: The same before what is over is cut off, evenly on both sides.
            progress: Called with the tiles done and all tiles, of the run of all networks.
            hint: A better choice of model, if there is one.
        """
        self.stages, self._settings, self._progress = tuple(stages), settings, progress
        self._hint, self._full = hint, full
        self.lr, self.rest = color.split(
            reader,
            stages[0].channels,
            luma=stages[0].prepared.network.luma,
            alpha_mode=settings.alpha_mode,
            icc=settings.icc,
            tick=lambda: progress(0, 1) if progress is not None else None,
        )
        self.shape = (*final, reader.channels)
        self.dtype: np.dtype[Any] = reader.dtype
        self.metadata: Metadata = self.rest.metadata
        self.aside: Callable[[NDArray[np.float32]], None] | None = None  # takes the variances
        self.ready: Tensor | None = None  # what the networks made of ``lr``, where that is known
        self._reports = [RunReport(), RunReport()]
        self._started, self._seconds = time.perf_counter(), 0.0
        self._network_seconds = [0.0, 0.0]  # of the picture, and of its alpha

    def __iter__(self) -> Iterator[Pixels]:
        """Yield (h, W', C) of ``dtype`` from top to bottom.

        Raises:
            ImageError: The picture holds NaN, or its file ends too early.
            OutOfMemoryError: Not even the smallest tile fits.
        """
        rest, full = self.rest, self._full
        noise = self.noise
        if self.aside is not None:
            noise = replace(noise, spread=True)
        alpha, count = rest.alpha(), len(self.stages)
        progress = shared(self._progress, count if alpha is None else 2 * count)
        strips = self._enlarged(self.lr, progress[:count], self._reports[0], noise)
        if self.aside is not None:
            strips = self._set_aside(strips, self.aside)
        if self._settings.color_fix:
            strips = color.fix_drift(strips, rest.lr(), rest.shape, full)
        alphas, still = None, Noise(temperature=0)  # of transparency nothing is guessed
        if alpha is not None:
            alphas = self._enlarged(alpha, progress[count:], self._reports[1], still)
        yield from _middle(color.merge(strips, rest, full, alphas), full, self.shape)
        self._seconds = time.perf_counter() - self._started

    @property
    def noise(self) -> Noise:
        """What networks with noise draw."""
        settings = self._settings
        return Noise(settings.seed, settings.temperature, settings.samples)

    def _set_aside(
        self, strips: Iterable[Tensor], aside: Callable[[NDArray[np.float32]], None]
    ) -> Iterator[Tensor]:
        """The strips without their two channels of variance, which ``aside`` takes."""
        for rows in strips:
            aside(rows[0, -2:].clamp_min(0).numpy())
            yield rows[:, :-2]

    def _enlarged(
        self, lr: Source, progress: list[Progress | None], report: RunReport, noise: Noise
    ) -> Iterator[Tensor]:
        """Strips (1, channels, h, W') of the networks' result at the full size."""
        full, scale = self._full, 1
        if self.ready is not None and lr is self.lr and not noise.spread:
            strips: Iterator[Tensor] = iter((self.ready.clamp(0, 1),))
            scale = self.native_scale
        else:
            source, which = lr, int(lr is not self.lr)
            # Each network reads its rows from the one before.
            for stage, told in zip(self.stages, progress, strict=True):
                scale *= stage.scale
                is_last = stage is self.stages[-1]
                drawn = noise if is_last else replace(noise, spread=False)
                strips = self._network(stage, source, told, report, drawn)
                height, width = (n * scale for n in lr.shape[-2:])
                source = Window(strips, (1, stage.channels + 2 * drawn.spread, height, width))
            strips = self._timed(strips, which)
            if self.stages[0].prepared.device.type != "cpu":
                strips = ahead(strips)
        native = (lr.shape[-2] * scale, lr.shape[-1] * scale)
        return strips if native == full else resize_strips(strips, native, full)

    def _timed(self, strips: Iterator[Tensor], which: int) -> Iterator[Tensor]:
        """Add up the seconds that it takes to get the strips."""
        while True:
            started = time.perf_counter()
            strip = next(strips, None)
            self._network_seconds[which] += time.perf_counter() - started
            if strip is None:
                return
            yield strip

    def _network(
        self,
        stage: Loaded,
        lr: Source,
        progress: Progress | None,
        report: RunReport,
        noise: Noise,
    ) -> Iterator[Tensor]:
        settings = self._settings
        strips = run(
            stage.prepared,
            lr,
            tile=settings.tile,
            overlap=settings.overlap,
            tta=settings.tta,
            noise=noise,
            progress=progress,
            report=report,
        )
        return (rows.clamp_(0, 1) for _, _, rows in strips)

    @property
    def native_scale(self) -> int:
        """Enlargement by the networks, before the result is brought to its final size."""
        scale = 1
        for stage in self.stages:
            scale *= stage.scale
        return scale

    @property
    def result(self) -> Result:
        """How the picture is enlarged; tile, retries and seconds once the last strip is out."""
        (height, width), last = self.rest.shape, self.stages[-1]
        alphas = [stage.alpha for stage in self.stages if stage.alpha is not None]
        denoises = [stage.denoise for stage in self.stages if stage.denoise is not None]
        weights = {name: digest for stage in self.stages for name, digest in stage.weights.items()}
        return Result(
            model=self._settings.model,
            weights=weights,
            alpha=alphas[0] if alphas else None,
            denoise=denoises[0] if denoises else None,
            scale=max(self._full[0] / height, self._full[1] / width),
            device=str(last.prepared.device),
            dtype=dtype_name(last.prepared.dtype),
            tile=self._reports[0].tile,
            retries=sum(report.retries for report in self._reports),
            width=width,
            height=height,
            out_width=self.shape[1],
            out_height=self.shape[0],
            seconds=self._seconds,
            network_seconds=sum(self._network_seconds),
            hint=self._hint,
            **self._drawn(),
        )

    def _drawn(self) -> dict[str, Any]:
        """What a result with noise was drawn with."""
        if not any(stage.prepared.network.noise_channels for stage in self.stages):
            return {}
        noise = self.noise
        return {"samples": noise.samples, "seed": noise.seed, "temperature": noise.temperature}

    def take(self, sr: Tensor, retries: int, seconds: float) -> None:
        """Take what the networks made of ``lr`` in the company of others, in its share of time."""
        self.ready = sr
        self._network_seconds[0] = seconds
        self._reports[0] = replace(self._reports[0], out_of_memory=retries)


def _middle(
    strips: Iterable[Pixels], full: tuple[int, int], shape: tuple[int, int, int]
) -> Iterator[Pixels]:
    """The middle of a picture of ``full`` height and width that comes as strips (h, W, C)."""
    height, width, _ = shape
    if (height, width) == full:
        yield from strips
        return
    left, row = (full[1] - width) // 2, -((full[0] - height) // 2)
    for strip in strips:
        part = strip[max(0, -row) : max(0, height - row), left : left + width]
        row += len(strip)
        if len(part):
            yield np.ascontiguousarray(part)


def whole(
    strips: Iterable[Pixels], shape: tuple[int, int, int], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """The whole picture of some strips, (H', W', C).

    Raises:
        OutOfMemoryError: It exceeds the free memory; the system would end the process later.
    """
    height, width, channels = shape
    need = height * width * channels * dtype.itemsize
    free = free_memory(torch.device("cpu"))
    if need > free:
        raise OutOfMemoryError(
            f"the result of {width} x {height} pixels takes {need >> 20} MiB and {free >> 20} "
            f"MiB are free; choose a smaller --scale, or end other programs"
        )
    return gathered(strips, height)
