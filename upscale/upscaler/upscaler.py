"""The model in use."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import overload

import numpy as np
import torch
from torch import Tensor

from upscale import color
from upscale.checkpoints import families
from upscale.checkpoints.index import normal
from upscale.color import ImagePixels, PixelSource
from upscale.device import dtype_name
from upscale.errors import ImageError, UsageError
from upscale.image import (
    FORMATS,
    MAX_PIXELS,
    Image,
    Pixels,
    decode,
    format_of,
    with_provenance,
)
from upscale.inference import Progress, RunReport, Source, run, run_together
from upscale.upscaler.files import Form, check_target, read, write
from upscale.upscaler.loading import Loaded, Options, load_native
from upscale.upscaler.result import Result
from upscale.upscaler.strips import Stream, whole

MAX_SCALE = 64.0
Size = tuple[int, int]  # height, width
_Bytes = bytes  # in the class that name is a method


class Upscaler:
    """A loaded model; made by ``load``. It can be used from several threads at once.

    A family of several native scales runs the nearest one at or above the enlargement asked for; it
    is loaded when it is first needed. The rest of the way is bicubic.
    """

    def __init__(self, options: Options, device: torch.device) -> None:
        self.options = options
        self.device = device
        self._lock = threading.Lock()
        self._loaded: dict[int, Loaded] = {}
        self._family = {entry.scale for entry in families().get(normal(options.name), ())}
        first = self._load(options.scale)
        self.native_scale = first.scale
        self.scale = float(options.scale or first.prepared.network.default_scale)

    def _load(self, wanted: float | None) -> Loaded:
        loaded = load_native(self.options, self.device, wanted)
        self._family.add(loaded.scale)
        self._loaded[loaded.scale] = loaded
        return loaded

    def native(self, scale: float | None = None) -> Loaded:
        """The network that runs for an enlargement of ``scale`` (None: the default)."""
        wanted = self.scale if scale is None else scale
        with self._lock:
            scales = sorted(self._family)
            chosen = next((s for s in scales if s >= wanted), scales[-1])
            return self._loaded.get(chosen) or self._load(chosen)

    @overload
    def image(
        self,
        picture: Image,
        *,
        scale: float | None = None,
        size: Size | None = None,
        progress: Progress | None = None,
    ) -> Image: ...

    @overload
    def image(
        self,
        picture: Pixels,
        *,
        scale: float | None = None,
        size: Size | None = None,
        progress: Progress | None = None,
    ) -> Pixels: ...

    def image(
        self,
        picture: Image | Pixels,
        *,
        scale: float | None = None,
        size: Size | None = None,
        progress: Progress | None = None,
    ) -> Image | Pixels:
        """Enlarge a picture.

        Args:
            picture: An :class:`Image`, or an array (H, W) or (H, W, C) of uint8, uint16, or float32
                in [0, 1]; C is 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha.
            scale: Final enlargement; None for the default.
            size: Final (height, width) instead of a scale.
            progress: Called with the tiles done and all tiles.

        Returns:
            What was given, enlarged: same type, channels, dtype, metadata.

        Raises:
            ImageError: The array is no picture, or holds NaN.
            OutOfMemoryError: Not even the smallest tile fits.
            UsageError: ``scale`` or ``size`` is out of range.
        """
        if isinstance(picture, Image):
            return self.enlarge(picture, scale=scale, size=size, progress=progress)[0]
        array = np.asarray(picture)
        flat = array.ndim == 2
        image = Image(array[:, :, None] if flat else array)
        pixels = self.enlarge(image, scale=scale, size=size, progress=progress)[0].pixels
        return pixels[:, :, 0] if flat else pixels

    def bytes(
        self,
        data: bytes,
        *,
        format: str | None = None,  # noqa: A002 - the name of the option
        quality: int | None = None,
        lossless: bool = False,
        background: str | None = None,
        scale: float | None = None,
        size: Size | None = None,
        max_pixels: int = MAX_PIXELS,
        progress: Progress | None = None,
    ) -> bytes:
        """Enlarge an encoded picture.

        Args:
            data: A picture file's content, in any format that can be read.
            format: Output format; None: the input's where it can be written, else PNG.
            quality: Of lossy formats, 1 to 100.
            lossless: Where the format has both.
            background: Colour to put under alpha where the format holds none.
            scale: See :meth:`image`.
            size: See :meth:`image`.
            max_pixels: Largest width times height of the input that is accepted.
            progress: See :meth:`image`.

        Raises:
            ImageError: ``data`` is no picture, or the format cannot hold the result.
        """
        image = decode(data, max_pixels=max_pixels)
        form = Form(_format(format, image), quality, lossless, background)
        return self._encoded(image, form, scale, size, progress)[0]

    def file(
        self,
        src: str | os.PathLike[str],
        dst: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        format: str | None = None,  # noqa: A002 - the name of the option
        quality: int | None = None,
        lossless: bool = False,
        background: str | None = None,
        scale: float | None = None,
        size: Size | None = None,
        max_pixels: int = MAX_PIXELS,
        progress: Progress | None = None,
    ) -> Result:
        """Enlarge a picture file into another; the output appears whole or not at all.

        Args:
            src: The input file.
            dst: The output file; its extension names the format.
            overwrite: Replace an output that exists. The input itself is never overwritten.
            format: Output format where the extension is not to decide.
            quality: See :meth:`bytes`.
            lossless: See :meth:`bytes`.
            background: See :meth:`bytes`.
            scale: See :meth:`image`.
            size: See :meth:`image`.
            max_pixels: See :meth:`bytes`.
            progress: See :meth:`image`.

        Raises:
            ImageError: The input cannot be read, or the format cannot hold the result.
            OutputError: The output exists, is the input, or cannot be written.
        """
        started = time.perf_counter()
        source, target = Path(src), Path(dst)
        form = Form(format_of(format or target.name), quality, lossless, background)
        check_target(source, target, overwrite)
        image = decode(read(source), max_pixels=max_pixels)
        data, result = self._encoded(image, form, scale, size, progress)
        write(target, data, (result.out_height, result.out_width), overwrite=overwrite)
        return replace(
            result,
            input=str(source),
            output=str(target),
            seconds=time.perf_counter() - started,
        )

    def _encoded(
        self,
        image: Image,
        form: Form,
        scale: float | None,
        size: Size | None,
        progress: Progress | None,
    ) -> tuple[_Bytes, Result]:
        """Enlarge and encode, with the record of how; what cannot be encoded fails before."""
        height, width = self.final_size(image.height, image.width, scale=scale, size=size)
        form.check(width, height, image)
        big, result = self.enlarge(image, scale=scale, size=size, progress=progress)
        return form.encode(with_provenance(big, result.provenance())), result

    def enlarge(
        self,
        image: Image,
        *,
        scale: float | None = None,
        size: Size | None = None,
        progress: Progress | None = None,
    ) -> tuple[Image, Result]:
        """Enlarge a picture and say how; see :meth:`image`.

        Beside input and output in their own depth, memory holds some rows of tiles.
        """
        stream = self.stream(ImagePixels(image), scale=scale, size=size, progress=progress)
        return Image(whole(stream), stream.metadata), stream.result

    def enlarge_together(
        self, images: Sequence[Image], *, scale: float | None = None, size: Size | None = None
    ) -> list[tuple[Image, Result]]:
        """Enlarge small pictures of one height and width in one go; see :meth:`enlarge`.

        A GPU is not busy with one small picture. On the same device in the same company the results
        are the same; in another, their last bit may differ.

        Raises:
            ImageError: The pictures differ in size, or one holds NaN.
        """
        sizes = {(image.height, image.width) for image in images}
        if len(sizes) != 1:
            raise ImageError(f"pictures of {sorted(sizes)} do not run together: give one size")
        loaded = self.native(self._enlargement(sizes.pop(), scale, size))
        rests = [self._separate(loaded, ImagePixels(image)) for image in images]
        report = RunReport()
        results = run_together(
            loaded.prepared,
            [rest.view() for rest in rests],
            overlap=self.options.overlap,
            tta=self.options.tta,
            noise=self.options.noise,
            report=report,
        )
        done = []
        for rest, sr in zip(rests, results, strict=True):
            stream = self._stream(loaded, rest, scale, size, ready=sr)
            big = whole(stream)
            result = replace(stream.result, retries=stream.result.retries + report.retries)
            done.append((Image(big, stream.metadata), result))
        return done

    def stream(
        self,
        pixels: PixelSource,
        *,
        scale: float | None = None,
        size: Size | None = None,
        progress: Progress | None = None,
    ) -> Stream:
        """Prepare to enlarge a picture that comes by rows; the result leaves in strips.

        Neither is ever whole in memory. The picture is gone through once at the call.

        Args:
            pixels: The picture.
            scale: See :meth:`image`.
            size: See :meth:`image`.
            progress: See :meth:`image`.

        Raises:
            ImageError: A file cannot be read to its end.
            UsageError: ``scale`` or ``size`` is out of range.
        """
        loaded = self.native(self._enlargement(pixels.shape[:2], scale, size))
        rest = self._separate(loaded, pixels)
        return self._stream(loaded, rest, scale, size, progress=progress)

    def _enlargement(self, before: Size, scale: float | None, size: Size | None) -> float:
        final = self.final_size(*before, scale=scale, size=size)
        return max(final[0] / before[0], final[1] / before[1])

    def _separate(self, loaded: Loaded, pixels: PixelSource) -> color.Rest:
        options = self.options
        return color.separate(
            pixels, loaded.channels, alpha_mode=options.alpha_mode, icc=options.icc
        )

    def _stream(
        self,
        loaded: Loaded,
        rest: color.Rest,
        scale: float | None,
        size: Size | None,
        *,
        ready: Tensor | None = None,
        progress: Progress | None = None,
    ) -> Stream:
        """The stream of a picture taken apart; ``ready``: what the network has made of it."""

        def runner(
            view: color.View, progress: Progress | None, report: RunReport
        ) -> Iterator[Tensor]:
            if ready is not None and not view.is_alpha:
                return iter((ready,))
            return (rows for _, _, rows in self._run(loaded, view, progress, report))

        final = self.final_size(*rest.size, scale=scale, size=size)
        return Stream(
            rest,
            final,
            loaded.scale,
            runner,
            self._result(loaded, rest.size, final),
            color_fix=self.options.color_fix,
            is_ahead=self.device.type != "cpu" and ready is None,
            progress=progress,
        )

    def tensor(self, lr: Tensor, *, scale: float | None = None) -> Tensor:
        """Run the native network on (1, channels, H, W) in [0, 1].

        Returns (1, channels, native scale * H, native scale * W) float32 on the CPU. ``scale``
        chooses among the native scales of a family; nothing is resampled or clipped.
        """
        loaded = self.native(scale)
        return torch.cat([rows for _, _, rows in self._run(loaded, lr, None, RunReport())], -2)

    def final_size(
        self, height: int, width: int, *, scale: float | None = None, size: Size | None = None
    ) -> Size:
        """Height and width of the result for an input of ``height`` x ``width``.

        Raises:
            UsageError: Both or impossible values are given.
        """
        if size is not None:
            if scale is not None:
                raise UsageError(f"scale {scale:g} and size {size} are both given; give one")
            if min(size) < 1:
                raise UsageError(f"size {size} is not a picture's; give at least 1 x 1")
            return size
        factor = self.scale if scale is None else check_scale(scale)
        return max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))

    def _run(
        self, loaded: Loaded, lr: Tensor | Source, progress: Progress | None, report: RunReport
    ) -> Iterator[tuple[int, int, Tensor]]:
        options = self.options
        return run(
            loaded.prepared,
            lr,
            tile=options.tile,
            overlap=options.overlap,
            tta=options.tta,
            noise=options.noise,
            progress=progress,
            report=report,
        )

    def _result(self, loaded: Loaded, before: Size, final: Size) -> Result:
        """What is known of a result before it is there."""
        return Result(
            model=self.options.name,
            weights=loaded.weights,
            alpha=loaded.alpha,
            scale=max(final[0] / before[0], final[1] / before[1]),
            device=str(self.device),
            dtype=dtype_name(loaded.prepared.dtype),
            tile=None,
            retries=0,
            width=before[1],
            height=before[0],
            out_width=final[1],
            out_height=final[0],
            seconds=0.0,
        )


def check_scale(scale: float) -> float:
    """Return an enlargement that can be asked for (:class:`UsageError` else)."""
    if not 0 < scale <= MAX_SCALE:
        raise UsageError(
            f"scale {scale:g} is out of range; give more than 0 and at most {MAX_SCALE:g}"
        )
    return scale


def _format(name: str | None, image: Image) -> str:
    """The format asked for, else the picture's own where it can be written, else PNG."""
    if name is not None:
        return format_of(name)
    own = FORMATS.get(image.metadata.format)
    return own.name if own is not None and own.writable else "png"
