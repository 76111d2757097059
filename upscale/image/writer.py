"""Pictures out: ``create`` says what a format cannot hold, then takes rows from top to bottom."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from upscale import icc
from upscale.errors import ImageError
from upscale.image.fit import check_output, fit_metadata, fit_pixels, full_scale, losses
from upscale.image.metadata import Metadata
from upscale.image.model import Encoding, Format, Image, Pixels, Shape, check_size, strip_rows
from upscale.strips import checked

if TYPE_CHECKING:
    from upscale.image.tiffwriter import TiffPages

LEVEL = 4  # effort of zlib; 6 takes twice as long for half a percent
FULL_COLOUR = 90  # quality from which colour is not subsampled
ENCODERS = {  # of formats that are held whole: module and function
    "webp": ("pillow", "encode_webp"),
    "avif": ("pillow", "encode_avif"),
    "tga": ("pillow", "encode_tga"),
    "bmp": ("bmp", "encode"),
    "ppm": ("netpbm", "encode"),
    "jxl": ("jxl", "encode"),
    "hdr": ("hdr", "encode"),
    "y4m": ("y4m", "encode"),
    "gif": ("animation", "encode_gif"),
}


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
        strips, name = self.strips(rows), self.kind.name
        if name == "tiff":
            from upscale.image.tiffwriter import TiffPages, needs_big

            big = needs_big(self.bytes, self.fitted.metadata)
            self.write_page(TiffPages(self.file, big=big), strips)
        elif name in ENCODERS:
            self.file.write(self._encoded(np.concatenate(list(strips))))
        else:
            self._save(strips)

    @property
    def _shape(self) -> Shape:
        """Of the picture as it is stored."""
        channels = 4 if self.separated else int(self.fitted.pixels.shape[2])
        return (*self.shape[:2], channels)

    def strips(self, rows: Iterable[Pixels]) -> Iterator[Pixels]:
        """The rows as they are stored, few at a time."""
        tall = strip_rows(self._shape, self.fitted.pixels.dtype)
        under = self.encoding.background
        for strip in checked(rows, self.shape, self.dtype, tall):
            pixels = fit_pixels(Image(strip, self.metadata), self.kind, under).pixels
            yield icc.rgb_to_inks(pixels, self.separated) if self.separated else pixels

    def _encoded(self, pixels: Pixels) -> bytes:
        """The file of a picture that is held whole."""
        options: dict[str, Any] = {}
        if self.kind.quality:
            options["quality"] = self.encoding.quality
            options |= {"lossless": self.encoding.lossless} if self.kind.lossless else {}
        module, function = ENCODERS[self.kind.name]
        encoder = getattr(importlib.import_module(f"upscale.image.{module}"), function)
        data: bytes = encoder(self.fitted.with_pixels(pixels), **options)
        return data

    @property
    def bytes(self) -> int:
        """Of the pixels as they are stored."""
        height, width, channels = self._shape
        return height * width * channels * self.fitted.pixels.dtype.itemsize

    def write_page(self, pages: TiffPages, strips: Iterable[Pixels]) -> None:
        """Write the picture as the next page of a TIFF; ``strips`` are those of ``strips``."""
        alpha, m = self.fitted.has_alpha, self.fitted.metadata
        pages.add(strips, self._shape, m, alpha=alpha, cmyk=bool(self.separated))

    def _save(self, strips: Iterable[Pixels]) -> None:
        """By libvips, and the metadata by us."""
        from upscale.image import vips

        name, encoding = self.kind.name, self.encoding
        options: dict[str, Any] = {"keep": "none"}
        if name == "png":
            filters = (
                {"filter": "none", "palette": True} if encoding.palette else {"filter": "paeth"}
            )
            options |= {"compression": LEVEL, **filters}
        else:
            whole = (encoding.quality or 0) >= FULL_COLOUR or self.separated
            options |= {"Q": encoding.quality, "subsample_mode": "off" if whole else "on"}
        codec = importlib.import_module(f"upscale.image.{name}")
        size = (self.shape[1], self.shape[0])
        begun = partial(codec.with_metadata, m=self.fitted.metadata, size=size)
        vips.save(self.file, name, strips, self._shape, self.fitted.pixels.dtype, options, begun)


@dataclass(frozen=True)
class PageWriter:
    """One of several pictures that are to be written.

    Attributes:
        write: See :meth:`Writer.write`.
        losses: What it cannot hold, one sentence each.
    """

    write: Callable[[Iterable[Pixels]], None]
    losses: tuple[str, ...]


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
        importlib.import_module("upscale.image.jpeg").segments(fitted.metadata)  # too large?
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
