"""WebP (RFC 9649): the container read here, pixels by Pillow's libwebp, silent and strict."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator

from PIL import Image as PillowImage
from PIL import WebPImagePlugin

from upscale.errors import ImageError
from upscale.image.model import Image, Info, Metadata, check_size
from upscale.image.pillow import array_of, load, save


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The RIFF chunks of the file.

    Raises:
        ImageError: The file is shorter than its header says.
    """
    size = int.from_bytes(data[4:8], "little")
    if len(data) < 8 + size:
        raise ImageError(f"the WebP is cut short: {len(data)} bytes of {8 + size}; fetch it again")
    at, end = 12, 8 + size
    while at + 8 <= end:
        kind, length = struct.unpack("<4sI", data[at : at + 8])
        if at + 8 + length > end:
            raise ImageError(f"the WebP is damaged in chunk {kind!r}; fetch it again")
        yield kind, data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def probe(data: bytes) -> Info:
    """What the container says."""
    found: dict[bytes, bytes] = {}
    frames = 0
    for kind, body in chunks(data):
        frames += kind == b"ANMF"
        found.setdefault(kind, body)
    metadata = Metadata(
        "webp", icc=found.get(b"ICCP"), exif=found.get(b"EXIF"), xmp=found.get(b"XMP ")
    )
    width, height, alpha = _header(found)
    name = "lossless" if b"VP8L" in found else ""
    return Info("webp", width, height, 8, 3 + alpha, max(1, frames), name, metadata=metadata)


def _header(found: dict[bytes, bytes]) -> tuple[int, int, bool]:
    """Width, height, and whether there is alpha."""
    extended, lossless, lossy = (found.get(k, b"") for k in (b"VP8X", b"VP8L", b"VP8 "))
    if len(extended) >= 10:
        width = 1 + int.from_bytes(extended[4:7], "little")
        height = 1 + int.from_bytes(extended[7:10], "little")
        return width, height, bool(extended[0] & 0x10)
    if len(lossless) >= 5:
        bits = int.from_bytes(lossless[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), bool(bits >> 28 & 1)
    if len(lossy) >= 10:
        width, height = struct.unpack("<HH", lossy[6:10])
        return width & 0x3FFF, height & 0x3FFF, False
    raise ImageError("the WebP has no picture in it; fetch it again")


def decode(data: bytes, max_pixels: int, assume: bytes | None) -> Image:
    """Bytes of a WebP to a picture.

    Raises:
        ImageError: Damaged, truncated, animated, or larger than ``max_pixels``.
    """
    info = probe(data)
    check_size(info.width, info.height, max_pixels)
    if info.frames > 1:
        raise ImageError(
            f"this is an animated WebP of {info.frames} frames; give its frames as single pictures"
        )
    picture = load(lambda: WebPImagePlugin.WebPImageFile(io.BytesIO(data)), "WebP")
    return Image(array_of(picture), info.metadata)


def encode(image: Image, *, quality: int, lossless: bool) -> bytes:
    """A picture (8-bit RGB or RGBA) to the bytes of a WebP; colour under alpha 0 is kept."""
    m = image.metadata
    return save(
        PillowImage.fromarray(image.pixels),
        "WEBP",
        quality=quality,
        lossless=lossless,
        exact=True,
        method=4,
        icc_profile=m.icc or b"",
        exif=m.exif or b"",
        xmp=m.xmp or b"",
    )
