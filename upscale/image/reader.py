"""Pictures in: ``open`` knows a picture by its header and gives its rows from top to bottom."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from upscale import icc
from upscale.errors import ImageError
from upscale.image.metadata import Metadata, settled
from upscale.image.model import (
    MAX_PIXELS,
    Image,
    Info,
    Pixels,
    Structure,
    check_sides,
    check_size,
    check_values,
    strips,
    upright,
)
from upscale.image.source import SOURCES, Data, Source, data_of, identify, stream_of
from upscale.strips import gathered

if TYPE_CHECKING:
    from upscale.image.series import Series
    from upscale.image.y4m import Video

HEAD = 4096  # bytes that tell the format
BY_ROWS = ("png", "jpeg", "tiff")  # by libvips, after their module has looked at the structure
WHOLE = {"avif": "avif", "bmp": "bmp", "hdr": "hdr", "jxl": "jxl", "ppm": "netpbm"}  # else Pillow
NAMES = {"webp": "WebP", "heic": "HEIC", "jp2": "JPEG 2000", "ppm": "Netpbm"}


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
    parts: Callable[[int], Iterator[Reader]] | None = field(default=None, repr=False, compare=False)

    def pages(self, start: int = 0) -> Iterator[Reader]:
        """Yield each picture by itself, composed and upright; a stream gives them once.

        Args:
            start: How many are passed over.

        Raises:
            ImageError: Damaged or cut short, in the page that would come next.
        """
        if self.parts is None:
            yield from () if start else (self,)
        else:
            yield from self.parts(start)

    @property
    def is_timed(self) -> bool:
        """Whether the pages are frames, each shown for its time."""
        return self.metadata.delay is not None

    def only(self, pages: tuple[int, int] | None) -> Reader:
        """The pages from a first to a last one, which count from 1; None: all.

        Raises:
            ImageError: There are fewer.
        """
        if pages is None:
            return self
        first, last = pages
        page = next(self.pages(first - 1), None)
        if page is None:
            raise ImageError(
                f"there is no page {first}: give --page 1 to {self.count or first - 1}"
            )
        if first == last or self.count == 1:
            return page
        count = self.count and min(last, self.count) - first + 1
        return replace(
            page,
            count=count,
            parts=lambda start: islice(
                self.pages(first - 1 + start), max(0, last - first + 1 - start)
            ),
        )

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


def of_image(image: Image) -> Reader:
    """A picture in memory as a reader."""
    height, width, channels = (int(n) for n in image.pixels.shape)
    m, dtype = image.metadata, image.pixels.dtype
    return Reader(m.format, height, width, channels, dtype, m, partial(strips, image.pixels))


def open(  # noqa: A001 - image.open, as the field calls it
    source: Source | Series, *, max_pixels: int = MAX_PIXELS, assume_icc: bytes | None = None
) -> Reader:
    """Look at a picture, or at the first of several; its format is told by its content.

    What is not read by rows (all but PNG, JPEG and TIFF) is decoded here and now.

    Args:
        source: The bytes of a file, its path, or a pipe of pictures.
        max_pixels: Largest width times height that is accepted.
        assume_icc: The ICC profile of a picture that carries none.

    Raises:
        ImageError: No picture, damaged as its structure shows, too large, or something that would
            be flattened.
        OSError: The file cannot be read.
    """
    if not isinstance(source, SOURCES):
        return _series(source, max_pixels, assume_icc)
    with data_of(source) as data:
        name = identify(data[:HEAD])
        if name == "y4m":
            return _video(_codec(name).parse(_line(data)), max_pixels, source)
        if name not in BY_ROWS:
            return _decoded(name, data[:], max_pixels, assume_icc)
        stored = _stored(name, data)
        count = stored.info.frames
        if name == "png" and count > 1:
            return _animation(name, data[:], stored.info, max_pixels, assume_icc)
        places = _codec(name).places(data) if count > 1 else []
    first = _by_rows(source, stored, max_pixels, assume_icc)
    if count == 1:
        return first

    def parts(start: int) -> Iterator[Reader]:
        for place in places[start:]:
            with data_of(source) as data:
                page = _stored(name, data, place)
            yield _by_rows(source, page, max_pixels, assume_icc)

    return replace(first, count=count, parts=parts)


def _by_rows(source: Source, stored: _Stored, max_pixels: int, assume_icc: bytes | None) -> Reader:
    """A picture, or a page of a TIFF, whose rows are read from its file."""
    info = stored.info
    metadata = _admitted(info, max_pixels, assume_icc)
    profile = metadata.cmyk if info.kind == "CMYK" else None
    width, height = (info.width, info.height)[:: -1 if metadata.orientation > 4 else 1]
    start = partial(_rows, source, stored, metadata.orientation, profile)
    metadata = replace(metadata, orientation=1)
    return Reader(info.format, height, width, info.channels, stored.dtype, metadata, start)


def _series(series: Series, max_pixels: int, assume_icc: bytes | None) -> Reader:
    """The pictures of a pipe."""
    if series.video is not None:
        return _video(series.video, max_pixels, series)
    first = open(series.first, max_pixels=max_pixels, assume_icc=assume_icc)
    if series.is_one:
        return first

    def parts(start: int) -> Iterator[Reader]:
        for data in islice(series.pictures(), start, None):
            yield open(data, max_pixels=max_pixels, assume_icc=assume_icc)

    return replace(first, count=None, parts=parts)


def _line(data: Data) -> bytes:
    """The header of y4m."""
    return data[:HEAD].partition(b"\n")[0] + b"\n"


def _video(video: Video, max_pixels: int, source: Source | Series) -> Reader:
    """The frames of a y4m stream."""
    check_size(video.width, video.height, max_pixels)
    metadata = Metadata("y4m", delay=video.delay, video=video.words)

    def parts(start: int) -> Iterator[Reader]:
        if not isinstance(source, SOURCES):
            frames = islice(source.frames(), start, None)
            yield from (of_image(Image(frame, metadata)) for frame in frames)
            return
        y4m = _codec("y4m")
        with stream_of(source) as file:
            y4m.read_line(file)
            for frame in islice(y4m.frames(file, video), start, None):
                yield of_image(Image(frame, metadata))

    def rows() -> Iterator[Pixels]:
        first = next(parts(0), None)
        if first is None:
            raise ImageError("the y4m stream ends before its first frame; make it again")
        yield from first.rows()

    channels, dtype = 1 if video.kind == "mono" else 3, np.dtype(np.uint16)
    return Reader("y4m", video.height, video.width, channels, dtype, metadata, rows, None, parts)


def _admitted(info: Info, max_pixels: int, assume_icc: bytes | None) -> Metadata:
    """Refuse what is too large, or CMYK of no profile; else the metadata."""
    check_size(info.width, info.height, max_pixels)
    metadata = info.metadata
    if info.kind == "CMYK":
        metadata = replace(metadata, cmyk=icc.cmyk_profile(metadata.cmyk, assume_icc))
    return settled(metadata, (info.width, info.height), info.channels <= 2, assume_icc)


@dataclass(frozen=True)
class _Stored:
    """A picture before its pixels are decoded, as it is stored: four bands of CMYK are bands."""

    info: Info
    structure: Structure
    bands: int
    dtype: np.dtype[Any]


def _codec(name: str) -> Any:
    """The module of a format, loaded for pictures that need it."""
    return importlib.import_module(f"upscale.image.{WHOLE.get(name, name)}")


def _stored(name: str, data: Data, place: int = 0) -> _Stored:
    """What the file and libvips say of a picture, or of the page of a TIFF at a place.

    Raises:
        ImageError: Damaged, or larger than the library of its format reads.
    """
    from upscale.image import vips

    where = (place,) if place else ()
    structure: Structure = _codec(name).structure(data, *where)
    check_sides(name, structure.size or (0, 0))
    with vips.opened(name, data, structure) as picture:
        metadata, channels, dtype = structure.metadata, picture.bands, vips.dtype_of(picture)
        if picture.interpretation == "cmyk" and channels == 4:
            channels, metadata = 3, replace(metadata, icc=None, cmyk=metadata.icc)
        elif structure.channels:
            channels = min(channels, structure.channels)
        size = (picture.width, picture.height - structure.spare)
        depth = dtype.itemsize * 8
        info = Info(name, *size, depth, channels, structure.frames, structure.kind, metadata)
        return _Stored(info, structure, picture.bands, dtype)


def _rows(
    source: Source, stored: _Stored, orientation: int, profile: bytes | None
) -> Iterator[Pixels]:
    """The rows of a file, upright."""
    from upscale.image import vips

    info, structure = stored.info, stored.structure
    if orientation != 1:
        lying = _rows(source, stored, 1, profile)
        yield from strips(upright(gathered(lying, info.height), orientation))
        return
    with data_of(source) as data, vips.opened(info.format, data, structure) as picture:
        seen = (picture.width, picture.height - structure.spare, picture.bands)
        if seen != (info.width, info.height, stored.bands):
            raise ImageError("the file became another one while it was read; run again")
        top = 0
        for band in vips.rows(picture, info.height):
            if band.dtype == np.float32:
                check_values(band, top)
            elif profile is not None:
                band = icc.inks_to_rgb(band, profile)  # noqa: PLW2901 - the same rows
            elif info.kind == "YCbCr":
                band = _codec("tiff").from_ycbcr(band)  # noqa: PLW2901
            elif info.channels < stored.bands:
                band = np.ascontiguousarray(band[:, :, : info.channels])  # noqa: PLW2901
            top += len(band)
            yield band


def _looked(name: str, data: bytes) -> tuple[Info, Callable[[], Image | bytes]]:
    """What is known of a picture before it is decoded whole, and what decodes it."""
    if name in WHOLE:
        info, decoder = _codec(name).look(data)
    else:
        info, decoder = _codec("pillow").look(name, data)
    check_sides(name, (info.width, info.height))
    return info, decoder


def _decoded(name: str, data: bytes, max_pixels: int, assume_icc: bytes | None) -> Reader:
    """A picture that another library decodes, or this package."""
    info, decoder = _looked(name, data)
    if info.frames > 1:
        return _animation(name, data, info, max_pixels, assume_icc)
    _admitted(info, max_pixels, assume_icc)
    with np.errstate(all="ignore"):  # what is no number is refused below
        image = decoder()
    if isinstance(image, bytes):
        return open(image, max_pixels=max_pixels, assume_icc=assume_icc)
    if image.pixels.dtype == np.float32:
        check_values(image.pixels)
    metadata = settled(image.metadata, (image.width, image.height), image.is_gray, assume_icc)
    pixels = upright(image.pixels, metadata.orientation)
    return of_image(Image(pixels, replace(metadata, orientation=1)))


def _animation(
    name: str, data: bytes, info: Info, max_pixels: int, assume_icc: bytes | None
) -> Reader:
    """The frames of an animation."""
    check_size(info.width, info.height, max_pixels)

    def parts(start: int) -> Iterator[Reader]:
        from upscale.image.animation import frames

        for frame in frames(name, data, start):
            m = settled(frame.metadata, (frame.width, frame.height), False, assume_icc)
            yield of_image(Image(frame.pixels, replace(m, orientation=1)))

    first = next(parts(0), None)
    if first is None:
        raise ImageError(f"the {name.upper()} holds no frame; fetch it again")
    return replace(first, count=info.frames, parts=parts)


def decode(data: Source, *, max_pixels: int = MAX_PIXELS, assume_icc: bytes | None = None) -> Image:
    """Decode a picture; arguments and errors are those of ``open``, and several are refused."""
    reader = open(data, max_pixels=max_pixels, assume_icc=assume_icc)
    if reader.count not in (1, None):
        name, frames = NAMES.get(reader.format, reader.format.upper()), reader.count
        what = f"an animated {name} of {frames} frames; give its frames as single pictures"
        if name == "TIFF":
            what = f"a TIFF of {frames} pages; split it into single pictures first"
        raise ImageError(f"this is {what}")
    return reader.read()


def probe(source: Source) -> Info:
    """What the header of a picture says, without decoding a pixel.

    Raises:
        ImageError: No picture, or damaged.
        OSError: The file cannot be read.
    """
    info = _probed(source)
    m = settled(info.metadata, (info.width, info.height), info.channels <= 2, None)
    kind = info.kind or ("palette" if m.palette else "1 bit" if m.bilevel else "")
    return replace(info, metadata=m, kind=kind)


def _probed(source: Source | Series) -> Info:
    """What the header says, its metadata as they stand in the file."""
    if not isinstance(source, SOURCES):
        source = source.first
    with data_of(source) as data:
        name = identify(data[:HEAD])
        if name == "y4m":
            info: Info = _codec(name).info(_codec(name).parse(_line(data)))
            return info
        return _stored(name, data).info if name in BY_ROWS else _looked(name, data[:])[0]


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
        _codec("jxl").plugin()
    return replace(info, metadata=_admitted(info, max_pixels, assume_icc))
