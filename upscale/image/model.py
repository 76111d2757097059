"""What a picture is once decoded, whole and by rows, and what each file format can hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upscale.errors import ImageError
from upscale.image.metadata import Metadata
from upscale.image.source import ALL, Pieces
from upscale.strips import ranges

MAX_PIXELS = 2**28  # default limit of a decoded picture: 268 million pixels, 0.8 GB as 8-bit RGB

Pixels = NDArray[Any]  # (H, W, C) uint8, uint16 or float32
Shape = tuple[int, int, int]  # height, width, channels


@dataclass(frozen=True, eq=False)
class Image:
    """A picture: pixels in RGB order and what came with them.

    Attributes:
        pixels: (H, W, C); C is 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha; uint8, uint16, or
            float32 as stored in the file (nominal range [0, 1]). Alpha is straight unless
            ``metadata.premultiplied``.
        metadata: Profile, EXIF and the rest.

    Raises:
        ImageError: The array has another shape or dtype.
    """

    pixels: Pixels
    metadata: Metadata = field(default_factory=Metadata)

    def __post_init__(self) -> None:
        shape, dtype = self.pixels.shape, self.pixels.dtype
        if self.pixels.ndim != 3 or shape[2] not in (1, 2, 3, 4) or 0 in shape:
            raise ImageError(
                f"array of shape {shape} is no picture; give (H, W, C) with H, W >= 1 and C 1 to 4"
            )
        if dtype not in (np.uint8, np.uint16, np.float32):
            raise ImageError(f"array of {dtype} is no picture; convert to uint8, uint16 or float32")

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.pixels.shape[1])

    @property
    def has_alpha(self) -> bool:
        """Whether the last channel is alpha."""
        return self.pixels.shape[2] in (2, 4)

    @property
    def is_gray(self) -> bool:
        """Whether colour is one channel."""
        return bool(self.pixels.shape[2] <= 2)

    @property
    def depth(self) -> int:
        """Bits per channel: 8, 16, or 32 (float)."""
        return int(self.pixels.dtype.itemsize) * 8

    def with_pixels(self, pixels: Pixels) -> Image:
        """The same metadata around other pixels (H, W, C)."""
        return Image(pixels, self.metadata)

    def with_metadata(self, **changes: Any) -> Image:
        """The same pixels with some fields of ``Metadata`` changed."""
        return Image(self.pixels, replace(self.metadata, **changes))


@dataclass(frozen=True)
class Info:
    """What the header of a file says, read without decoding a pixel.

    ``width`` and ``height`` are as stored, before ``metadata.orientation`` is applied; ``channels``
    counts colour and alpha as they will be decoded.
    """

    format: str
    width: int
    height: int
    depth: int
    channels: int
    frames: int = 1
    kind: str = ""  # e.g. "palette", "1 bit", "CMYK", "4:2:0"
    metadata: Metadata = field(default_factory=Metadata)


@dataclass(frozen=True)
class Structure:
    """What was read of a file before a decoder is asked.

    Attributes:
        metadata: As they stand in the file: not yet turned upright.
        size: Width and height as the file promises them; ``None``: the decoder is asked.
        pieces: The parts of the file that make its pixels, which the decoder is given.
        kind: In words what the picture is stored as, for example "CMYK", "4:2:0".
        channels: Of the picture; 0: the decoder is asked.
        frames: How many pictures there are in the file.
        spare: Rows that the pieces promise below the last one of the picture.
        unlimited: The decoder may allocate as much as the header asks for, which was checked.
        fail_on: From which kind of trouble on libvips is to refuse the file.
    """

    metadata: Metadata
    size: tuple[int, int] | None = None
    pieces: Pieces = ALL
    kind: str = ""
    channels: int = 0
    frames: int = 1
    spare: int = 0
    unlimited: bool = False
    fail_on: str = "warning"


@dataclass(frozen=True)
class Format:
    """What a file format can hold, for pictures written by this package.

    Attributes:
        name: Key in ``FORMATS``.
        extensions: Extensions without the dot, the preferred one first.
        depths: Bits per channel that can be written: 8, 16, 32 (float).
        alpha: Whether alpha can be written.
        gray: Whether one channel can be written.
        metadata: Kinds that are written: icc, exif, xmp, iptc, dpi, text.
        max_side: Largest width and height: of the library that carries it, or of the format.
        quality: Default quality, 1 to 100; None where the format knows none.
        lossless: Whether the pixels can come back exactly.
        writable: Whether this package writes the format.
        kept: Whether a picture that came in it goes out in it, if nothing else is asked for.
        needs: Python package that reads and writes it, where that is an extra.
    """

    name: str
    extensions: tuple[str, ...]
    depths: tuple[int, ...] = (8,)
    alpha: bool = True
    gray: bool = True
    metadata: frozenset[str] = frozenset()
    max_side: int = 2**31 - 1
    quality: int | None = None
    lossless: bool = True
    writable: bool = True
    kept: bool = True
    needs: str = ""


@dataclass(frozen=True)
class Encoding:
    """How a picture is to be written.

    Attributes:
        quality: 1 to 100; None: the format's default.
        lossless: Write WebP or JPEG XL without loss.
        background: A colour ("white", "#rrggbb") to put under alpha where the format holds none.
            Without it, a pixel that is not opaque is an error.
        palette: Write a PNG of 256 colours.
    """

    quality: int | None = None
    lossless: bool = False
    background: str | None = None
    palette: bool = False


def _format(name: str, extensions: str, metadata: str = "", **more: Any) -> Format:
    return Format(name, tuple(extensions.split()), metadata=frozenset(metadata.split()), **more)


FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        _format(
            "png",
            "png apng",
            "icc exif xmp iptc photoshop dpi text",
            depths=(8, 16),
            max_side=1_000_000,
        ),
        _format(
            "jpeg",
            "jpg jpeg jpe jfif",
            "icc exif xmp iptc photoshop dpi text",
            alpha=False,
            max_side=65500,
            quality=95,
            lossless=False,
        ),
        _format("webp", "webp", "icc exif xmp", gray=False, max_side=16383, quality=90),
        _format(
            "tiff",
            "tif tiff",
            "icc exif xmp iptc photoshop dpi",
            depths=(8, 16, 32),
            max_side=10_000_000,
        ),
        _format(
            "avif", "avif", "icc exif xmp", gray=False, max_side=65536, quality=85, lossless=False
        ),
        _format("bmp", "bmp dib", "dpi"),
        _format("tga", "tga targa vda icb vst", max_side=65535),
        _format("ppm", "ppm pgm pbm pnm pam pfm", depths=(8, 16, 32)),
        _format("jxl", "jxl", "exif xmp", quality=90, needs="pillow_jxl"),
        _format("hdr", "hdr pic rgbe", depths=(32,), alpha=False, gray=False, lossless=False),
        _format("gif", "gif", gray=False, max_side=65535, lossless=False, kept=False),
        _format("y4m", "y4m", depths=(8, 16), alpha=False, lossless=False),
        _format("ico", "ico cur", writable=False),
        _format("dds", "dds", writable=False),
        _format("pcx", "pcx", writable=False),
        _format("qoi", "qoi", writable=False),
        _format("jp2", "jp2 j2k jpf jpx jpc j2c", writable=False),
        _format("heic", "heic heif hif", writable=False, needs="pillow_heif"),
    )
}
# Extensions of pictures that are not read: for those who look for pictures in folders.
_UNREAD = (
    "psd psb xcf exr svg pdf eps ai raw dng cr2 cr3 crw nef nrw arw srf sr2 raf orf rw2 pef srw x3f"
    " rwl iiq 3fr fff mrw erf kdc dcr jxr wdp hdp bpg flif djvu"
)
UNREAD = frozenset(_UNREAD.split())


def format_of(name: object) -> str:
    """The format that a path, an extension or a format name stands for.

    Args:
        name: For example ``"a/b.JPG"``, ``".tif"``, ``"webp"``, or a ``Path``.

    Raises:
        ImageError: No format has that extension.
    """
    extension = str(name).replace("\\", "/").rsplit("/", 1)[-1].rsplit(".", 1)[-1].lower()
    for format_ in FORMATS.values():
        if extension == format_.name or extension in format_.extensions:
            return format_.name
    known = ", ".join(f.extensions[0] for f in FORMATS.values() if f.writable)
    raise ImageError(f"no picture format is named {extension!r}; use one of {known}")


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse a picture without pixels or with too many, before anything is allocated.

    Raises:
        ImageError: With the size and the option that raises the limit.
    """
    if width < 1 or height < 1:
        raise ImageError(f"the header promises {width} x {height} pixels; the file is damaged")
    if width * height > max_pixels:
        raise ImageError(
            f"{width} x {height} is {width * height / 1e6:.0f} million pixels, above the limit of "
            f"{max_pixels / 1e6:.0f} million; raise it with --max-pixels {width * height}"
        )


def check_sides(name: str, size: tuple[int, int]) -> None:
    """Refuse a picture to be read whose width or height the library of its format does not take.

    Raises:
        ImageError: With the size and the limit.
    """
    most = FORMATS[name].max_side
    if max(size) > most:
        raise ImageError(
            f"this {name.upper()} is {size[0]} x {size[1]}, and at most {most} "
            "pixels a side can be read; cut it, or convert it to TIFF"
        )


LARGEST = 1e30  # of floating-point values
STRIP = 1 << 20  # bytes of a strip, about
MOST_ROWS = 1 << 15  # of a strip, that libvips takes


def strip_rows(shape: Shape, dtype: np.dtype[Any]) -> int:
    """Rows of a strip: a multiple of 16, as JPEG codes them, of about ``STRIP`` bytes."""
    row = shape[1] * shape[2] * dtype.itemsize
    return min(max(16, STRIP // row // 16 * 16), MOST_ROWS)


def strips(pixels: Pixels) -> Iterator[Pixels]:
    """The rows of a picture in memory."""
    tall = max(1, STRIP // pixels[0].nbytes)
    for first, last in ranges(len(pixels), tall):
        yield pixels[first:last]


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turn (H, W, C) as EXIF orientation 1 to 8 asks."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


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
