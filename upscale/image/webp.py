"""WebP (RFC 9649): the container read here, pixels by Pillow's libwebp, which is silent and strict."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image as PIL
from PIL import WebPImagePlugin

from upscale.errors import ImageError
from upscale.image.model import Image, Info, Metadata, check_size


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
    alpha = b"ALPH" in found
    if len(found.get(b"VP8X", b"")) >= 10:
        head = found[b"VP8X"]
        width = 1 + int.from_bytes(head[4:7], "little")
        height = 1 + int.from_bytes(head[7:10], "little")
        alpha = alpha or bool(head[0] & 0x10)
    elif len(found.get(b"VP8L", b"")) >= 5:
        bits = int.from_bytes(found[b"VP8L"][1:5], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        alpha = bool(bits >> 28 & 1)
    elif len(found.get(b"VP8 ", b"")) >= 10:
        width, height = (v & 0x3FFF for v in struct.unpack("<HH", found[b"VP8 "][6:10]))
    else:
        raise ImageError("the WebP has no picture in it; fetch it again")
    kind = "lossless" if b"VP8L" in found else ""
    metadata = Metadata(format="webp")
    return Info("webp", width, height, 8, 3 + alpha, max(1, frames), kind, metadata=metadata)


def decode(data: bytes, max_pixels: int) -> Image:
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
    try:
        with WebPImagePlugin.WebPImageFile(io.BytesIO(data)) as picture:
            picture.load()
            pixels = np.array(picture)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ImageError("the WebP is damaged; fetch it again") from error
    return Image(pixels, info.metadata)


def encode(image: Image, quality: int = 90, lossless: bool = False) -> bytes:
    """A picture (8-bit RGB or RGBA) to the bytes of a WebP."""
    buffer = io.BytesIO()
    PIL.fromarray(image.pixels).save(
        buffer, "WEBP", quality=quality, lossless=lossless, exact=True, method=4
    )
    return buffer.getvalue()
