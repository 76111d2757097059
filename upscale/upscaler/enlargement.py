"""An enlargement in progress: a picture in, strips of the result out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from upscale import color
from upscale.device import dtype_name
from upscale.image import Metadata, Pixels, Reader
from upscale.image.metadata import middle
from upscale.inference import Noise, Progress, RunReport, run, run_together, shared
from upscale.models import Network
from upscale.resample import resize_strips
from upscale.settings import Settings
from upscale.strips import Window, ahead
from upscale.tiling import BLEND
from upscale.upscaler.networks import Networks
from upscale.upscaler.result import Result

Variances = Callable[[NDArray[np.float32]], None]  # takes rows of both parts, (2, h, W)
STILL = Noise(temperature=0)  # of transparency nothing is guessed
CHOICE = 64  # margins that are tried
BICUBIC_REACH = 4  # pixels that the bicubic kernel and the limits of alpha look at, and some more


class Enlargement:
    """Iterate over it, once, for the strips of the result.

    The picture is gone through once when this is made, so that damage shows before any work.

    Attributes:
        shape: Height, width and channels of the result.
        dtype: uint8, uint16 or float32, as the input's.
        metadata: Of the result.
        stages: The networks.
        lr: What they see of the picture.
        rest: What they do not see.
        variances: Takes the variances of the result, where they are asked for.
        ready: What the networks made of ``lr``, where that is known.
    """

    def __init__(
        self,
        upscaler: Networks,
        reader: Reader,
        settings: Settings,
        progress: Progress | None = None,
    ) -> None:
        """Prepare; a damaged picture is an ``ImageError``.

        ``progress`` is called with the tiles done and all tiles, of the run of all networks.
        """
        self._settings, self._progress = settings, progress
        # 1. Height and width of the result, and before what is over is cut off on both sides.
        height, width = reader.height, reader.width
        final = settings.final_shape(height, width, upscaler.scale)
        self._full = full = settings.full_shape(height, width, upscaler.scale)
        # 2. The networks for that.
        self.stages = upscaler.chain(max(self._full[0] / height, self._full[1] / width))
        self._hint = settings.distortion(height, width)
        # 3. A texture that tiles comes with margins of its other side.
        self._shape = (height, width)
        self._scale = max(self._full[0] / height, self._full[1] / width)
        self._margins = (0, 0)
        if settings.seamless:
            networks = [stage.network for stage in self.stages]
            self._margins = margins(settings, networks, self._shape, self._full)
            down, across = self._margins
            before = (round(down * self._full[0] / height), round(across * self._full[1] / width))
            self._full = (self._full[0] + 2 * before[0], self._full[1] + 2 * before[1])
            reader = wrapped(reader, down, across)
        # 4. What they see of the picture, and the rest.
        self.lr, self.rest = color.split(
            reader,
            self.stages[0].channels,
            luma=self.stages[0].network.luma,
            alpha_mode=settings.alpha_mode,
            icc=settings.icc,
            tick=lambda: progress(0, 1) if progress is not None else None,
        )
        self.shape = (*final, reader.channels)
        self.dtype: np.dtype[Any] = reader.dtype
        self.metadata: Metadata = self.rest.metadata
        if full != final:  # --fit cover
            left = (round(width * final[1] / full[1]), round(height * final[0] / full[0]))
            self.metadata = middle(self.metadata, *left)
        self.variances: Variances | None = None
        self.ready: Tensor | None = None
        self._colour, self._alpha = RunReport(), RunReport()
        self._started, self._seconds = time.perf_counter(), 0.0

    def __iter__(self) -> Iterator[Pixels]:
        """Yield (h, W', C) of ``dtype`` from top to bottom.

        Raises:
            ImageError: The picture holds NaN, or its file ends too early.
            OutOfMemoryError: Not even the smallest tile fits.
        """
        rest, full, count = self.rest, self._full, len(self.stages)
        alpha = rest.alpha()
        progress = shared(self._progress, count if alpha is None else 2 * count)
        # 1. The networks enlarge what they see, and alpha in the same way.
        strips = self._enlarged(self.lr, progress[:count], self._colour, self._noise)
        alphas = None
        if alpha is not None:
            alphas = self._enlarged(alpha, progress[count:], self._alpha, STILL)
        # 2. Variances leave here; low frequencies of the input come back in.
        if self.variances is not None:
            strips = _without_variances(strips, self.variances, _middle_of(full, self.shape))
        if self._settings.color_fix:
            from upscale.color.drift import fix_drift

            strips = fix_drift(strips, rest.lr(), rest.shape, full)
        # 3. With the rest they are a picture, of which what is over is cut off.
        middle = _middle_of(full, self.shape)
        for pixels in color.merge(strips, rest, full, alphas):
            part = middle(pixels)
            if len(part):
                yield np.ascontiguousarray(part)
        self._seconds = time.perf_counter() - self._started

    @property
    def _noise(self) -> Noise:
        """What networks with noise draw."""
        s, spread = self._settings, self.variances is not None
        period = tuple(
            side if margin else 0 for side, margin in zip(self._shape, self._margins, strict=True)
        )
        return Noise(s.seed, s.temperature, s.samples, spread, period, self._margins)

    def _enlarged(
        self, lr: Window, progress: list[Progress | None], report: RunReport, noise: Noise
    ) -> Iterator[Tensor]:
        """Strips (1, channels, h, W') of the networks' result at the full size."""
        native = (lr.shape[-2] * self.native_scale, lr.shape[-1] * self.native_scale)
        if self.ready is not None and lr is self.lr and not noise.spread:
            strips: Iterator[Tensor] = iter((self.ready.clamp(0, 1),))
        else:
            strips = _timed(self._through(lr, progress, report, noise), report)
            if self.stages[0].device.type != "cpu":
                strips = ahead(strips)
        return strips if native == self._full else resize_strips(strips, native, self._full)

    def _through(
        self, lr: Window, progress: list[Progress | None], report: RunReport, noise: Noise
    ) -> Iterator[Tensor]:
        """Strips of what the networks make, each of which reads its rows from the one before."""
        settings = self._settings
        strips: Iterator[Tensor] = iter(())
        scale = 1  # of what a network reads
        for stage, told in zip(self.stages, progress, strict=True):
            drawn = noise if stage is self.stages[-1] else replace(noise, spread=False)
            drawn = drawn.larger(scale)
            results = run(
                stage,
                lr,
                tile=settings.tile,
                overlap=settings.overlap,
                tta=settings.tta,
                noise=drawn,
                progress=told,
                report=report,
            )
            strips = (rows.clamp_(0, 1) for _, _, rows in results)
            scale *= stage.scale
            height, width = (side * stage.scale for side in lr.shape[-2:])
            lr = Window(strips, (1, stage.channels + 2 * drawn.spread, height, width))
        return strips

    @property
    def native_scale(self) -> int:
        """Enlargement by the networks, before the result is brought to its final size."""
        return math.prod(stage.scale for stage in self.stages)

    @property
    def result(self) -> Result:
        """How the picture is enlarged; tile, retries and seconds once the last strip is out."""
        (height, width), last = self._shape, self.stages[-1]
        noise = self._noise
        is_drawn = any(stage.network.noise_channels for stage in self.stages)
        return Result(
            model=self._settings.model,
            weights={name: sha for stage in self.stages for name, sha in stage.weights.items()},
            alpha=next((s.alpha for s in self.stages if s.alpha is not None), None),
            denoise=next((s.denoise for s in self.stages if s.denoise is not None), None),
            scale=self._scale,
            device=str(last.device),
            dtype=dtype_name(last.dtype),
            tile=self._colour.tile,
            retries=self._colour.retries + self._alpha.retries,
            width=width,
            height=height,
            out_width=self.shape[1],
            out_height=self.shape[0],
            seconds=self._seconds,
            network_seconds=self._colour.seconds + self._alpha.seconds,
            hint=self._hint,
            samples=noise.samples if is_drawn else None,
            seed=noise.seed if is_drawn else None,
            temperature=noise.temperature if is_drawn else None,
        )

    @staticmethod
    def run_together(pictures: Sequence[Enlargement]) -> None:
        """Run pictures of one size and model through the network at once; a chain runs alone."""
        first, report, started = pictures[0], RunReport(), time.perf_counter()
        if len(first.stages) > 1:
            return
        results = run_together(
            first.stages[0],
            [picture.lr for picture in pictures],
            overlap=first._settings.overlap,
            tta=first._settings.tta,
            noise=replace(first._noise, spread=False),
            report=report,
        )
        for picture, sr in zip(pictures, results, strict=True):
            picture.ready = sr
        for picture in pictures:
            picture._colour.out_of_memory = report.retries
            picture._colour.seconds = (time.perf_counter() - started) / len(pictures)


def _timed(strips: Iterator[Tensor], report: RunReport) -> Iterator[Tensor]:
    """Add up the seconds that it takes to get the strips."""
    while True:
        started = time.perf_counter()
        strip = next(strips, None)
        report.seconds += time.perf_counter() - started
        if strip is None:
            return
        yield strip


def _without_variances(
    strips: Iterable[Tensor], variances: Variances, middle: Callable[[Pixels], Pixels]
) -> Iterator[Tensor]:
    """The strips without their two channels of variance, whose middle ``variances`` takes."""
    for rows in strips:
        part = middle(rows[0, -2:].clamp_min(0).permute(1, 2, 0).numpy())
        if len(part):
            variances(np.ascontiguousarray(part.transpose(2, 0, 1)))
        yield rows[:, :-2]


def _middle_of(full: tuple[int, int], shape: tuple[int, int, int]) -> Callable[[Pixels], Pixels]:
    """Cuts strips (h, W, C) of a picture of ``full`` height and width to its middle of ``shape``.

    To be called with every strip, from top to bottom.
    """
    height, width, _ = shape
    left, row = (full[1] - width) // 2, -((full[0] - height) // 2)

    def middle(strip: Pixels) -> Pixels:
        nonlocal row
        part = strip[max(0, -row) : max(0, height - row), left : left + width]
        row += len(strip)
        return part

    return middle


def margins(
    settings: Settings,
    networks: Sequence[Network],
    shape: tuple[int, int],
    full: tuple[int, int],
) -> tuple[int, int]:
    """Rows and columns of a texture that tiles to be put before and behind it; 0: it does not wrap.

    As many as the networks see, and a few more, so that in the result they are a whole number of
    pixels (or nearly, in an odd ratio: the middle is then off by a few hundredths of a pixel).

    ``shape`` and ``full`` are height and width of the picture and of the result.
    """
    from upscale.color.drift import CELL

    # 1. What one pixel of the result depends on, through all networks.
    scale, reach = 1, float(BICUBIC_REACH)
    for network in networks:
        reach += (network.halo + (0 if network.halo_is_exact else BLEND)) / scale
        scale *= network.scale
    reach += 3 * CELL * settings.color_fix
    # 2. Of the margins from that width on, the first that is nearest to whole pixels of the result.
    widths = range(math.ceil(reach), math.ceil(reach) + CHOICE)

    def nearest(side: int, after: int) -> int:
        return min(widths, key=lambda n: min(n * after % side, -n * after % side))

    down, across = map(nearest, shape, full)
    return down * ("y" in settings.seamless), across * ("x" in settings.seamless)


def wrapped(reader: Reader, down: int, across: int) -> Reader:
    """The picture with so many rows and columns of its other side beyond each edge.

    Of the rows, those of both margins are held in memory; a file is read once more for them.
    """
    edges: list[Pixels] = []

    def rows() -> Iterator[Pixels]:
        if not edges:
            edges.extend(_edges(reader, down))
        above, below = edges
        for strips in ([above], reader.rows(), [below]):
            for strip in strips:
                if len(strip):
                    yield np.pad(strip, ((0, 0), (across, across), (0, 0)), mode="wrap")

    height, width = reader.height + 2 * down, reader.width + 2 * across
    return replace(reader, height=height, width=width, start=rows)


def _edges(reader: Reader, down: int) -> tuple[Pixels, Pixels]:
    """The last ``down`` rows, which come above the picture, and the first, which come below."""
    first = last = np.empty((0, reader.width, reader.channels), reader.dtype)
    for strip in reader.rows() if down else ():
        if len(first) < down:
            first = np.concatenate((first, strip))[:down]
        last = np.concatenate((last, strip))[-down:]
    if down > reader.height:  # the picture again and again
        at = np.arange(down) % reader.height
        first, last = first[at], last[::-1][at][::-1]
    return last, first
