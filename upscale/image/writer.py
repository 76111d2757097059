"""Pictures out: ``create`` says what a format cannot hold, then takes rows from top to bottom."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

import numpy as np

from upscale.errors import ImageError
from upscale.icc import cmyk
from upscale.image import jpeg, jxl, netpbm, opencv, pillow, png, y4m
from upscale.image.fit import check_output, fit_metadata, fit_pixels, full_scale, losses
from upscale.image.model import Encoding, Format, Image, Pixels, check_size
from upscale.image.stream import Shape, save_rows, strip_rows
from upscale.image.vips import library
from upscale.metadata import Metadata
from upscale.metadata import jpeg as segments
from upscale.metadata.data import FileData
from upscale.metadata.tiff import finish
from upscale.strips import checked

BY_ROWS = frozenset({"png", "jpeg", "tiff"})  # by libvips; the others are whole in memory
CLASSIC = 2**32 - 2**24  # bytes that a TIFF may have before it must be a BigTIFF
LEVEL = 4  # effort of zlib; 6 takes twice as long for half a percent
START = 64  # bytes in which libvips has written what metadata stand behind
ENCODERS: dict[str, Callable[..., bytes]] = {
    "webp": pillow.encode_webp,
    "avif": pillow.encode_avif,
    "bmp": opencv.encode_bmp,
    "ppm": netpbm.encode,
    "jxl": jxl.encode,
    "hdr": opencv.encode_hdr,
    "y4m": y4m.encode,
}
STARTS = {"png": png.with_metadata, "jpeg": jpeg.with_metadata}
_saved_in: list[int] = []  # the process in which libvips has saved


@dataclass(frozen=True)
class Writer:
    """A picture that is to be written.

    Attributes:
        file: Where it is written: empty, seekable; for TIFF readable too.
        kind: Its format.
        shape, dtype, metadata, encoding: As they were given to ``create``; the quality is settled.
        losses: What the format cannot hold and will be left out or changed, one sentence each.
        fitted: One opaque pixel, as the format holds it.
        separated: The CMYK profile, where CMYK is what is stored.
    """

    file: BinaryIO = field(repr=False)
    kind: Format
    shape: Shape
    dtype: np.dtype[Any]
    metadata: Metadata
    encoding: Encoding
    losses: tuple[str, ...]
    fitted: Image = field(repr=False)
    separated: bytes | None = field(repr=False)

    def write(self, rows: Iterable[Pixels]) -> None:
        """Write the picture. The same rows give the same bytes, however they are cut.

        Args:
            rows: Strips (h, W, C) from top to bottom, in any heights; they are pulled in the
                caller's thread, what they raise comes out as it is, and none may change once given.

        Raises:
            ImageError: The format cannot hold what the rows hold.
            ValueError: ``rows`` are not of ``shape`` and ``dtype``, in their sum or each.
            OSError: The file cannot be written.
        """
        strips = self._strips(rows)
        if self.kind.name in BY_ROWS:
            self._save(strips)
            return
        pixels = np.concatenate(list(strips))
        options: dict[str, Any] = {}
        if self.kind.quality:
            options["quality"] = self.encoding.quality
            options |= {"lossless": self.encoding.lossless} if self.kind.lossless else {}
        self.file.write(ENCODERS[self.kind.name](self.fitted.with_pixels(pixels), **options))

    @property
    def _shape(self) -> Shape:
        """Of the picture as it is stored."""
        channels = 4 if self.separated else int(self.fitted.pixels.shape[2])
        return (*self.shape[:2], channels)

    def _strips(self, rows: Iterable[Pixels]) -> Iterator[Pixels]:
        """The rows as they are stored, few at a time."""
        tall = strip_rows(self._shape, self.fitted.pixels.dtype)
        under = self.encoding.background
        for strip in checked(rows, self.shape, self.dtype, tall):
            pixels = fit_pixels(Image(strip, self.metadata), self.kind, under).pixels
            yield cmyk.from_rgb(pixels, self.separated) if self.separated else pixels

    def _save(self, strips: Iterable[Pixels]) -> None:
        """By libvips, and the metadata by us."""
        vips = library()
        _check_fork()
        target = _Target(self.file, STARTS.get(self.kind.name), self.fitted.metadata)
        dtype = self.fitted.pixels.dtype

        def save(picture: Any) -> None:
            try:
                getattr(picture, f"{self.kind.name}save_target")(target.custom(), **self._options())
            except vips.Error as error:
                raise target.error or ImageError(
                    f"{self.shape[1]} x {self.shape[0]} cannot be written as "
                    f"{self.kind.name.upper()}; choose -f tiff"
                ) from error

        save_rows(strips, self._shape, dtype, save, cmyk=bool(self.separated))
        target.close()
        if self.kind.name == "tiff":
            alpha = self.fitted.has_alpha
            finish(self.file, FileData(self.file), self.fitted.metadata, alpha=alpha)

    def _options(self) -> dict[str, Any]:
        """Of the saver; metadata are not its business."""
        dtype = self.fitted.pixels.dtype
        if self.kind.name == "png":
            more = (
                {"filter": "none", "palette": True}
                if self.encoding.palette
                else {"filter": "paeth"}
            )
            return {"keep": "none", "compression": LEVEL, **more}
        if self.kind.name == "jpeg":
            quality = self.encoding.quality or 0
            whole = quality >= pillow.FULL_COLOUR or self.separated
            return {"keep": "none", "Q": quality, "subsample_mode": "off" if whole else "on"}
        size = self._shape[0] * self._shape[1] * self._shape[2] * dtype.itemsize
        m = self.fitted.metadata
        more_bytes = sum(len(block or b"") for block in (m.exif, m.xmp, m.iptc, m.icc))
        return {
            "keep": "none",
            "compression": "deflate",
            "level": LEVEL,
            "predictor": "float" if dtype == np.float32 else "horizontal",
            "tile_height": strip_rows(self._shape, dtype),
            "bigtiff": size * 1.001 + 2 * more_bytes > CLASSIC,
        }


class _Target:
    """A file as libvips writes it; an error waits in ``error``, as none may be raised into it."""

    def __init__(
        self, file: BinaryIO, change: Callable[[bytes, Metadata], bytes] | None, metadata: Metadata
    ) -> None:
        self.error: BaseException | None = None
        self._file, self._change, self._metadata, self._held = file, change, metadata, b""

    def custom(self) -> Any:
        """The target of libvips."""
        target = library().TargetCustom()
        target.on_write(self._guarded(self._write, -1))
        if self._change is None:
            target.on_read(self._guarded(self._file.read, None))
            target.on_seek(self._guarded(self._file.seek, -1))
        return target

    def _write(self, data: Any) -> int:
        """Write; of a file with a change, not before its start is there."""
        self._held += bytes(data)
        if self._change is None or len(self._held) >= START:
            self.close()
        return len(data)

    def close(self) -> None:
        """Write what is held."""
        if self._change and self._held:
            self._held = self._change(self._held, self._metadata)
            self._change = None
        self._file.write(self._held)
        self._held = b""

    def _guarded(self, action: Callable[..., Any], otherwise: Any) -> Callable[..., Any]:
        def guarded(*arguments: Any) -> Any:
            try:
                return action(*arguments)
            except BaseException as error:  # noqa: BLE001 - it is raised where libvips returns
                self.error = error
                return otherwise

        return guarded


def _check_fork() -> None:
    """Refuse to save in the fork of a process that has: libvips would wait for threads it lacks."""
    if _saved_in and _saved_in[0] != os.getpid():
        raise ImageError(
            "this process was forked from one that has written pictures, and libvips cannot write "
            "in it; start processes by spawn or forkserver"
        )
    _saved_in[:] = [os.getpid()]


def create(
    file: BinaryIO,
    format: str,  # noqa: A002 - the name of the option
    shape: Shape,
    dtype: Any,
    metadata: Metadata = Metadata(),  # noqa: B008 - frozen
    encoding: Encoding = Encoding(),  # noqa: B008 - frozen
    *,
    has_alpha: bool = False,
) -> Writer:
    """Prepare to write a picture.

    Args:
        file: Empty, opened in binary, seekable; for TIFF readable as well as writable.
        format: A key of ``FORMATS``, an extension, or a path.
        shape: Height, width, channels (1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha).
        dtype: Of the rows that will be given: uint8, uint16 or float32.
        metadata: What travels with the pixels.
        encoding: Quality and so on.
        has_alpha: It is known that not every pixel is opaque.

    Raises:
        ImageError: The format cannot hold the picture.
        UsageError: The options do not fit the format.
    """
    height, width, channels = shape
    kind = check_output(format, width, height, encoding, has_alpha=has_alpha)
    dtype = np.dtype(dtype)
    check_size(width, height, width * height)
    opaque = Image(np.full((1, 1, channels), full_scale(dtype), dtype), metadata)
    fitted = fit_pixels(opaque, kind, encoding.background)
    fitted = Image(fitted.pixels, fit_metadata(fitted.metadata, (width, height), kind))
    holds_inks = kind.name in ("jpeg", "tiff") and fitted.pixels.shape[2] == 3
    separated = metadata.cmyk if holds_inks else None
    if separated:
        fitted = fitted.with_metadata(icc=separated)
    if kind.name == "jpeg":
        segments.write(fitted.metadata)  # it says what is too large
    if kind.name == "ppm" and fitted.has_alpha and fitted.depth == 32:
        raise ImageError("PFM holds no alpha; choose -f tiff")
    left_out = losses(opaque, kind.name)
    encoding = replace(encoding, quality=encoding.quality or kind.quality)
    return Writer(file, kind, shape, dtype, metadata, encoding, left_out, fitted, separated)


def encode(
    image: Image,
    format: str,  # noqa: A002 - the name of the option
    *,
    quality: int | None = None,
    lossless: bool = False,
    background: str | None = None,
    palette: bool = False,
) -> bytes:
    """A picture to the bytes of a file; options and errors are those of ``create``."""
    pixels, buffer = image.pixels, io.BytesIO()
    encoding = Encoding(quality, lossless, background, palette)
    create(buffer, format, pixels.shape, pixels.dtype, image.metadata, encoding).write([pixels])
    return buffer.getvalue()
