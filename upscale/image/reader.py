"""Pictures in: ``open`` knows a picture by its header and gives its rows from top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from upscale.errors import ImageError
from upscale.icc import cmyk
from upscale.image import avif, jpeg, jxl, netpbm, opencv, pillow, png, tiff, vips, y4m
from upscale.image.identify import identify
from upscale.image.model import FORMATS, MAX_PIXELS, Image, Info, Pixels, check_size
from upscale.image.series import Series
from upscale.image.source import Header, Source, data_of, stream_of
from upscale.metadata import Metadata
from upscale.metadata.data import Data
from upscale.metadata.settle import settled
from upscale.strips import gathered, ranges

HEAD = 4096  # bytes that tell the format
LARGEST = 1e30  # of floating-point values
HEADERS: dict[str, Callable[[Data], Header]] = {
    "png": png.header,
    "jpeg": jpeg.header,
    "tiff": tiff.header,
    "avif": avif.header,
    "gif": lambda data: Header(Metadata("gif", palette=True)),
}
WHOLE: dict[str, Callable[[bytes], tuple[Info, Callable[[], Image | bytes]]]] = {
    "webp": partial(pillow.look, "webp"),
    "bmp": partial(pillow.look, "bmp"),
    "ppm": netpbm.look,
    "hdr": opencv.look_hdr,
    "jxl": jxl.look,
}


@dataclass(frozen=True)
class Reader:
    """A picture, upright, whose pixels can be read from top to bottom, more than once.

    Attributes:
        format: A key of ``FORMATS``.
        height: Rows.
        width: Columns.
        channels: 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha.
        dtype: uint8, uint16 or float32.
        metadata: As ``Image`` has them.
        count: Pictures in the file, all else is said of the first; None: known at the end alone.
    """

    format: str
    height: int
    width: int
    channels: int
    dtype: np.dtype[Any]
    metadata: Metadata
    start: Callable[[], Iterator[Pixels]] = field(repr=False, compare=False)
    count: int | None = 1
    parts: Callable[[], Iterator[Reader]] | None = field(default=None, repr=False, compare=False)

    def pages(self) -> Iterator[Reader]:
        """Yield each picture by itself, composed and upright; a stream gives them once.

        Raises:
            ImageError: Damaged or cut short, in the page that would come next.
        """
        if self.parts is None:
            yield self
        else:
            yield from self.parts()

    def rows(self) -> Iterator[Pixels]:
        """Yield the pixels, (h, W, C) in any heights; each call reads from the start.

        Raises:
            ImageError: Damaged or cut short.
            OSError: The file cannot be read.
        """
        return self.start()

    def read(self) -> Image:
        """The whole picture; errors are those of ``rows``."""
        return Image(gathered(self.rows(), self.height), self.metadata)

    def in_memory(self) -> Reader:
        """The same picture decoded now, its rows from memory; errors are those of ``rows``."""
        return of_image(self.read())


def _strips(pixels: Pixels) -> Iterator[Pixels]:
    """The rows of a picture in memory."""
    tall = max(1, vips.BAND // pixels[0].nbytes)
    for first, last in ranges(len(pixels), tall):
        yield pixels[first:last]


def of_image(image: Image) -> Reader:
    """A picture in memory as a reader."""
    height, width, channels = (int(n) for n in image.pixels.shape)
    m, dtype = image.metadata, image.pixels.dtype
    return Reader(m.format, height, width, channels, dtype, m, partial(_strips, image.pixels))


def open(  # noqa: A001 - image.open, as the field calls it
    source: Source | Series, *, max_pixels: int = MAX_PIXELS, assume_icc: bytes | None = None
) -> Reader:
    """Look at a picture, or at the first of several; its format is told by its content.

    What libvips does not read (BMP, Netpbm, Radiance, JPEG XL), and WebP, is decoded here and now.

    Args:
        source: The bytes of a file, its path, or a pipe of pictures.
        max_pixels: Largest width times height that is accepted.
        assume_icc: The ICC profile of a picture that carries none.

    Raises:
        ImageError: No picture, damaged as its structure shows, too large, or something that would
            be flattened.
        OSError: The file cannot be read.
    """
    if isinstance(source, Series):
        return _series(source, max_pixels, assume_icc)
    with data_of(source) as data:
        name = identify(data[:HEAD])
        if name == "y4m":
            return _video(y4m.parse(data[:HEAD].partition(b"\n")[0] + b"\n"), max_pixels, source)
        if name in WHOLE:
            return _decoded(name, data[:], max_pixels, assume_icc)
        looked = _look(name, data)
    info = looked.info
    metadata = _admitted(info, max_pixels, assume_icc)
    profile = metadata.cmyk if looked.bands > info.channels else None
    width, height = (info.width, info.height)[:: -1 if metadata.orientation > 4 else 1]
    start = partial(_rows, source, looked, metadata.orientation, profile)
    metadata = replace(metadata, orientation=1)
    return Reader(name, height, width, info.channels, looked.dtype, metadata, start)


def _series(series: Series, max_pixels: int, assume_icc: bytes | None) -> Reader:
    """The pictures of a pipe."""
    if series.video is not None:
        return _video(series.video, max_pixels, series)
    first = open(series.first, max_pixels=max_pixels, assume_icc=assume_icc)
    if series.is_one:
        return first

    def parts() -> Iterator[Reader]:
        for data in series.pictures():
            yield open(data, max_pixels=max_pixels, assume_icc=assume_icc)

    return replace(first, count=None, parts=parts)


def _video(video: y4m.Video, max_pixels: int, source: Source | Series) -> Reader:
    """The frames of a y4m stream."""
    check_size(video.width, video.height, max_pixels)
    metadata = Metadata("y4m", delay=video.delay, video=video.words)

    def parts() -> Iterator[Reader]:
        if isinstance(source, Series):
            yield from (of_image(Image(frame, metadata)) for frame in source.frames())
            return
        with stream_of(source) as file:
            y4m.read_line(file)
            for frame in y4m.frames(file, video):
                yield of_image(Image(frame, metadata))

    def rows() -> Iterator[Pixels]:
        yield from next(parts()).rows()

    channels, dtype = 1 if video.kind == "mono" else 3, np.dtype(np.uint16)
    return Reader("y4m", video.height, video.width, channels, dtype, metadata, rows, None, parts)


def _admitted(info: Info, max_pixels: int, assume_icc: bytes | None) -> Metadata:
    """Refuse what is too large, several pictures, or CMYK of no profile; else the metadata."""
    check_size(info.width, info.height, max_pixels)
    name, metadata = "WebP" if info.format == "webp" else info.format.upper(), info.metadata
    what = f"this is an animated {name} of {info.frames} frames; give its frames as single pictures"
    if info.format == "tiff":
        what = f"this TIFF has {info.frames} pages; split it into single pictures first"
    if info.frames > 1:
        raise ImageError(what)
    if info.kind == "CMYK":
        metadata = replace(metadata, cmyk=cmyk.profile_of(metadata.cmyk, assume_icc))
    return settled(metadata, info.channels <= 2, assume_icc)


@dataclass(frozen=True)
class _Look:
    """A picture before its pixels are decoded, as it is stored: four bands of CMYK are bands."""

    info: Info
    header: Header
    bands: int
    dtype: np.dtype[Any]
    bits: int


def _look(name: str, data: Data) -> _Look:
    """What the file and libvips say of a picture.

    Raises:
        ImageError: Damaged, or larger than the library of its format reads.
    """
    header, most = HEADERS[name](data), FORMATS[name].max_side
    if header.size and max(header.size) > most:
        raise ImageError(
            f"this {name.upper()} is {header.size[0]} x {header.size[1]}, and at most {most} "
            "pixels a side can be read; cut it, or convert it to TIFF"
        )
    with vips.opened(name, data, header) as picture:
        metadata, frames = header.metadata, header.frames
        if name in ("gif", "avif"):
            metadata = _fields(picture, metadata)
            frames = max(frames, vips.field(picture, "n-pages") or 1)
        channels, dtype = picture.bands, vips.dtype_of(picture)
        if channels == 4 and picture.interpretation == "cmyk":
            channels, metadata = 3, replace(metadata, icc=None, cmyk=metadata.icc)
        depth, bits = dtype.itemsize * 8, vips.field(picture, "bits-per-sample") or 8
        kind = header.kind or (f"{bits} bit" if 8 < bits < depth else "")
        size = (picture.width, picture.height - header.spare)
        info = Info(name, *size, depth, channels, frames, kind, metadata)
        return _Look(info, header, picture.bands, dtype, bits)


def _fields(picture: Any, metadata: Metadata) -> Metadata:
    """The metadata that libvips gives as they stand in the file."""
    comment = vips.field(picture, "gif-comment")
    return replace(
        metadata,
        icc=vips.field(picture, "icc-profile-data") or metadata.icc,
        exif=vips.field(picture, "exif-data"),
        xmp=vips.field(picture, "xmp-data"),
        text=(("Comment", comment),) if comment else (),
    )


def _rows(
    source: Source, looked: _Look, orientation: int, profile: bytes | None
) -> Iterator[Pixels]:
    """The rows of a file, upright."""
    info, header = looked.info, looked.header
    if orientation != 1:
        stored = _rows(source, looked, 1, profile)
        yield from _strips(upright(gathered(stored, info.height), orientation))
        return
    with data_of(source) as data, vips.opened(info.format, data, header) as picture:
        seen = (picture.width, picture.height - header.spare, picture.bands)
        if seen != (info.width, info.height, looked.bands):
            raise ImageError("the file became another one while it was read; run again")
        top = 0
        for band in vips.rows(picture, info.height):
            if band.dtype == np.float32:
                check_values(band, top)
            elif profile is not None:
                band = cmyk.to_rgb(band, profile)  # noqa: PLW2901 - the same rows
            elif info.format == "avif" and band.dtype == np.uint16:
                band = _stretched(band, looked.bits)  # noqa: PLW2901
            top += len(band)
            yield band


def _stretched(band: Pixels, bits: int) -> Pixels:
    """Samples of 10 or 12 bits, which libvips gives in the upper bits of 16, to full scale."""
    scaled = (band >> (16 - bits)).astype(np.float32) * (65535 / (2**bits - 1)) + 0.5
    return np.asarray(np.minimum(scaled, 65535).astype(np.uint16))


def _decoded(name: str, data: bytes, max_pixels: int, assume_icc: bytes | None) -> Reader:
    """A picture that another library decodes, or this package."""
    info, decoder = WHOLE[name](data)
    _admitted(info, max_pixels, assume_icc)
    with np.errstate(all="ignore"):  # what is no number is refused below
        found = decoder()
    if isinstance(found, bytes):
        return open(found, max_pixels=max_pixels, assume_icc=assume_icc)
    if found.pixels.dtype == np.float32:
        check_values(found.pixels)
    metadata = settled(found.metadata, found.is_gray, assume_icc)
    pixels = upright(found.pixels, metadata.orientation)
    return of_image(Image(pixels, replace(metadata, orientation=1)))


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS, assume_icc: bytes | None = None) -> Image:
    """Decode a picture; arguments and errors are those of ``open``."""
    return open(data, max_pixels=max_pixels, assume_icc=assume_icc).read()


def probe(source: Source) -> Info:
    """What the header of a picture says, without decoding a pixel.

    Raises:
        ImageError: No picture, or damaged.
        OSError: The file cannot be read.
    """
    info = _probed(source)
    m = settled(info.metadata, info.channels <= 2, None)
    kind = info.kind or ("palette" if m.palette else "1 bit" if m.bilevel else "")
    return replace(info, metadata=m, kind=kind)


def _probed(source: Source | Series) -> Info:
    """What the header says, its metadata as they stand in the file."""
    if isinstance(source, Series):
        source = source.first
    with data_of(source) as data:
        name = identify(data[:HEAD])
        if name == "y4m":
            return y4m.info(y4m.parse(data[:HEAD].partition(b"\n")[0] + b"\n"))
        return WHOLE[name](data[:])[0] if name in WHOLE else _look(name, data).info


def check_input(
    source: Source | Series, *, max_pixels: int = MAX_PIXELS, assume_icc: bytes | None = None
) -> Info:
    """What the header says, refused where ``open`` would: to be asked before the work.

    No pixel is decoded, so damage behind the header is not seen. Arguments are those of ``open``.

    Raises:
        ImageError: As ``open`` does.
        OSError: The file cannot be read.
    """
    info = _probed(source)
    if info.format == "jxl":
        jxl.plugin()
    return replace(info, metadata=_admitted(info, max_pixels, assume_icc))


def check_values(pixels: Pixels, top: int = 0) -> None:
    """Refuse what is no number, and numbers with which nothing can be computed.

    Args:
        pixels: Rows (h, W, C).
        top: The row of the picture that is their first.

    Raises:
        ImageError: With the place and the value.
    """
    with np.errstate(all="ignore"):
        strange = ~(np.abs(pixels) <= LARGEST)
    if strange.any():
        y, x = np.argwhere(strange.any(2))[0]
        value = pixels[y, x][strange[y, x]][0]
        raise ImageError(f"the value at column {x}, row {top + y} is {value:g}; replace it first")


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turn (H, W, C) as EXIF orientation 1 to 8 asks."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
