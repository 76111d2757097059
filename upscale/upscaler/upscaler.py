"""The model in use: pictures, arrays, bytes and files in, the same out."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from functools import lru_cache
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeGuard, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from upscale import memory
from upscale.bars import followed
from upscale.device import choose_device
from upscale.errors import UsageError
from upscale.files import cannot_write
from upscale.image import MAX_PIXELS, Image, Pixels, Reader, format_of, of_image
from upscale.image import open as open_image
from upscale.inference import Noise, Progress, run
from upscale.options import divide, signature
from upscale.settings import Settings
from upscale.upscaler.enlargement import Enlargement
from upscale.upscaler.job import (
    Write,
    check_target,
    encoded,
    goes_by_rows,
    open_file,
    process,
    same_format,
    save,
    to_file,
    to_memory,
    write_pages,
)
from upscale.upscaler.networks import Networks
from upscale.upscaler.result import Result

if TYPE_CHECKING:
    from PIL import Image as PillowImage

    from upscale.upscaler.uncertainty import Uncertainty

FIXED = ("model", "alpha", "denoise", "dtype")  # settings that no single picture can have otherwise
ENLARGEMENT = ("scale", "size", "width", "height", "max_side")
Picture = TypeVar("Picture", Image, Pixels, "PillowImage.Image")


def _is_pillow(picture: object) -> TypeGuard[PillowImage.Image]:
    pillow = sys.modules.get("PIL.Image")  # who holds a picture of Pillow has imported it
    return pillow is not None and isinstance(picture, pillow.Image)


def _image_of(picture: object) -> Image:
    """A picture of any kind that is taken."""
    if isinstance(picture, Image):
        return picture
    if _is_pillow(picture):
        from upscale.image import from_pillow

        return from_pillow(picture)
    array = np.asarray(picture)
    return Image(array[:, :, None] if array.ndim == 2 else array)


_Bytes = bytes  # in the class that name is a method


class Upscaler(Networks):
    """A loaded model; made by ``load``. It can be used from several threads at once.

    Where methods take ``changes``, one picture may have other settings than the model was loaded
    with: ``scale``, ``size`` (width, height), ``quality`` and so on, but no other ``model``,
    ``alpha``, ``denoise`` or ``dtype``. It can be pickled, as model and settings: it is loaded once
    in each process where it arrives.
    """

    device_name = "auto"  # as it was asked for

    def __reduce__(self) -> tuple[Any, ...]:
        """What makes it again in another process."""
        return _arrived, (self.settings, self.device_name)

    def image(
        self, picture: Picture, *, progress: Progress | bool | None = None, **changes: Any
    ) -> Picture:
        """Enlarge a picture.

        Args:
            picture: An :class:`Image`, or an array (H, W) or (H, W, C) of uint8, uint16, or float32
                in [0, 1]; C is 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha. Or a picture of
                Pillow in any mode, taken as it shows: upright, palettes as their colours.
            progress: Called with the tiles done, the one in work in part, and all tiles; ``True``
                draws a bar of tqdm's.
            changes: Settings that this picture has otherwise: ``scale=1.5``, or ``size=(width,
                height)``.

        Returns:
            What was given, enlarged: same type, channels, dtype, metadata.

        Raises:
            ImageError: The array is no picture, or holds NaN.
            OutOfMemoryError: Not even the smallest tile fits.
            UsageError: A setting is out of range or settled when the model was loaded.
        """
        enlarged: Any = self.enlarge(_image_of(picture), progress=progress, **changes)[0]
        if _is_pillow(picture):
            from upscale.image import to_pillow

            enlarged = to_pillow(enlarged)
        elif not isinstance(picture, Image):
            pixels = enlarged.pixels
            enlarged = pixels[:, :, 0] if np.asarray(picture).ndim == 2 else pixels
        return cast("Picture", enlarged)

    def bytes(
        self,
        data: bytes | bytearray | memoryview,
        *,
        max_pixels: int = MAX_PIXELS,
        progress: Progress | bool | None = None,
        **changes: Any,
    ) -> bytes:
        """Enlarge an encoded picture.

        Args:
            data: A picture file's content, in any format that can be read.
            max_pixels: Largest width times height of the input that is accepted.
            progress: See :meth:`image`.
            changes: See :meth:`image`; ``format``, ``quality`` and the like are those of the
                result. Without ``format``: the input's where it can be written, else PNG.

        Raises:
            ImageError: ``data`` is no picture, or the format cannot hold the result.
        """
        settings = self.changed(changes)
        reader = open_image(data, max_pixels=max_pixels).only(settings.page)
        name = format_of(settings.format) if settings.format else same_format(reader.format)
        if reader.count == 1:
            reader = reader.in_memory()
        return _Bytes(encoded(lambda file: self._write(reader, file, name, settings, progress))[0])

    def _write(
        self,
        reader: Reader,
        file: BinaryIO,
        name: str,
        settings: Settings,
        progress: Progress | bool | None,
    ) -> Result:
        """Enlarge a picture, or page after page, into a file of a format."""
        if reader.count == 1:
            return process(reader, to_file(file, name, settings), self, settings, progress)

        def run(page: Reader, write: Write, told: Progress) -> Result:
            return process(page, write, self, settings, told)

        with followed(progress, "upscale") as note:
            return write_pages(reader, file, name, run, self, settings, note)

    def file(
        self,
        src: str | os.PathLike[str],
        dst: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        max_pixels: int = MAX_PIXELS,
        progress: Progress | bool | None = None,
        **changes: Any,
    ) -> Result:
        """Enlarge a picture file into another; the output appears whole or not at all.

        Args:
            src: The input file.
            dst: The output file; its extension names the format where ``format`` does not.
            overwrite: Replace an output that exists. The input itself is never overwritten.
            max_pixels: See :meth:`bytes`.
            progress: See :meth:`image`.
            changes: See :meth:`bytes`.

        Raises:
            ImageError: The input cannot be read, or the format cannot hold the result.
            OutputError: The output exists, is the input, or cannot be written.
        """
        started = time.perf_counter()
        source, target = Path(src), Path(dst)
        settings = self.changed(changes)
        name = format_of(settings.format or target.name)
        check_target(source, target, overwrite)
        reader = open_file(source, max_pixels).only(settings.page)
        by_rows = reader.count != 1 or goes_by_rows(reader, self, settings)
        if not by_rows:
            reader = reader.in_memory()
        try:
            result = save(
                str(target),
                lambda file: self._write(reader, file, name, settings, progress),
                by_rows=by_rows,
                replace=overwrite,
            )
        except OSError as error:
            raise cannot_write(target, error) from error
        seconds = time.perf_counter() - started
        return replace(result, input=str(source), output=str(target), seconds=seconds)

    def samples(self, picture: Picture, n: int, **changes: Any) -> list[Picture]:
        """``n`` plausible enlargements of one picture; draw k has the seed ``seed + k``.

        Raises:
            UsageError: The model draws nothing.
        """
        self.check_draws("samples")
        seed = self.changed({**changes, "samples": n}).seed
        return [
            self.image(picture, **{**changes, "samples": 1, "seed": seed + k}) for k in range(n)
        ]

    def uncertainty(self, picture: Image | Pixels, n: int = 8, **changes: Any) -> Uncertainty:
        """Where the enlargement is a guess: standard deviations of every pixel, of ``n`` draws.

        Raises:
            UsageError: The model draws nothing.
        """
        from upscale.upscaler.uncertainty import joined  # most runs do without, and without OpenCV

        self.check_draws("uncertainty")
        parts: list[Any] = []
        write = to_memory([], lambda rows: parts.append(rows.copy()))
        process(of_image(_image_of(picture)), write, self, self.changed({**changes, "samples": n}))
        return joined(parts)

    def enlarge(
        self, image: Image, *, progress: Progress | bool | None = None, **changes: Any
    ) -> tuple[Image, Result]:
        """Enlarge a picture and say how; see :meth:`image`.

        Beside input and output in their own depth, memory holds some rows of tiles.
        """
        images: list[Image] = []
        settings = self.changed(changes)
        result = process(of_image(image), to_memory(images), self, settings, progress)
        return images[0], result

    def stream(
        self, reader: Reader, *, progress: Progress | None = None, **changes: Any
    ) -> Enlargement:
        """Prepare to enlarge a picture that comes by rows; the result leaves in strips.

        Neither is ever whole in memory. The picture, as ``upscale.image.open`` gives it, is gone
        through once at the call.

        Raises:
            ImageError: A file cannot be read to its end.
        """
        return Enlargement(self, reader, self.changed(changes), progress)

    def tensor(self, lr: Tensor, *, scale: float | None = None) -> Tensor:
        """Run the native network on (1, channels, H, W) in [0, 1].

        Returns (1, channels, native scale * H, native scale * W) float32 on the CPU. ``scale``
        chooses among the native scales of a family; nothing is resampled or clipped.
        """
        strips = run(
            self.native(scale),
            lr,
            tile=self.settings.tile,
            overlap=self.settings.overlap,
            tta=self.settings.tta,
            noise=Noise(self.settings.seed, self.settings.temperature, self.settings.samples),
        )
        return torch.cat([rows for _, _, rows in strips], -2)

    def final_size(self, width: int, height: int, **changes: Any) -> tuple[int, int]:
        """Width and height of the result for an input of ``width`` x ``height``.

        Raises:
            UsageError: Both or impossible values are given.
        """
        out_height, out_width = self.changed(changes).final_shape(height, width, self.scale)
        return out_width, out_height

    def changed(self, changes: dict[str, Any]) -> Settings:
        """The settings for one picture; a new enlargement takes the place of the former one."""
        given = {name: value for name, value in changes.items() if value is not None}
        for name in FIXED:
            if name in given:
                raise UsageError(f"{name} is settled when a model is loaded: load another one")
        if given.keys() & set(ENLARGEMENT):
            given = dict.fromkeys(ENLARGEMENT) | given
        try:
            return replace(self.settings, **given)
        except TypeError as error:
            raise UsageError(f"no such setting: {error}") from error


def load(
    model: str | os.PathLike[str] = "esrgan", *, device: str = "auto", **settings: Any
) -> Upscaler:
    """Load a model.

    Args:
        model: A family (``srcnn``, ``esrgan``, ``swinir``), a weights name (``swinir-light-x2``),
            or the path of a safetensors checkpoint.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N``, ``mps``.
        settings: The options of the command line by their long names, with underscores
            (``upscale.settings.Settings``): ``alpha=0.3``, ``scale=2``, ``tile=256``.

    Raises:
        CheckpointError: There is no such model, or its file is damaged or not the recorded one.
        DeviceError: This machine has no such device or precision.
        UsageError: A value is out of range, or there is no such option.
    """
    (wanted,) = divide({"model": model, **settings}, Settings)
    return load_settings(wanted, device)


load.__signature__ = signature(  # type: ignore[attr-defined]
    [
        Parameter("model", Parameter.POSITIONAL_OR_KEYWORD, default="esrgan", annotation=str),
        Parameter("device", Parameter.KEYWORD_ONLY, default="auto", annotation=str),
    ],
    Settings,
)


def load_settings(settings: Settings, device: str = "auto") -> Upscaler:
    """Load the model that settings name; see :func:`load`."""
    memory.keep_large_blocks()
    _mind_forks()
    upscaler = Upscaler(settings, choose_device(device))
    upscaler.device_name = device
    return upscaler


@lru_cache(maxsize=4)
def _arrived(settings: Settings, device: str) -> Upscaler:
    """An upscaler that was pickled: loaded once for all that come to this process."""
    return load_settings(settings, device)


@lru_cache(maxsize=1)
def _mind_forks() -> None:
    """Let children that are forked from here compute with one thread.

    PyTorch's other threads are not in a child, and it would wait for them without end.
    """
    if hasattr(os, "register_at_fork"):  # not on Windows
        os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))
