"""JPEG XL, by the extra ``upscale[jxl]`` (pillow-jxl-plugin, libjxl): 8 bits, and 16 bits of gray.

The plugin embeds no profile, so that what is written is sRGB.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from upscale.errors import ImageError
from upscale.image import exif, pillow
from upscale.image.avif import boxes
from upscale.image.metadata import Metadata
from upscale.image.model import Image, Info

CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"
CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "I;16": 1, "F": 1}
RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}


def plugin() -> Any:
    """The plugin; ``ImageError`` where it is not installed."""
    try:
        import pillow_jxl
    except ImportError as error:
        raise ImageError(
            "reading JPEG XL needs an extra: pip install 'upscale[jxl]', or convert it to PNG"
        ) from error
    return pillow_jxl


def _codestream(data: bytes) -> bytes:
    """The first bytes of the code stream."""
    if data[:2] == b"\xff\x0a":
        return data[:64]
    for kind, first, last in boxes(data, 0, len(data)):
        if kind in (b"jxlc", b"jxlp"):  # a part begins with its number
            return data[first + 4 * (kind == b"jxlp") : min(first + 68, last)]
    raise ImageError("the JPEG XL file has no picture in it; fetch it again")


def _size(data: bytes) -> tuple[int, int]:
    """Width and height out of the size header (ISO/IEC 18181-1, annex D)."""
    bits = int.from_bytes(_codestream(data)[2:], "little")

    def take(count: int) -> int:
        nonlocal bits
        value = bits & ((1 << count) - 1)
        bits >>= count
        return value

    def dimension(small: int) -> int:
        return 8 * (take(5) + 1) if small else 1 + take((9, 13, 18, 30)[take(2)])

    small = take(1)
    height = dimension(small)
    ratio = take(3)
    if ratio:
        over, under = RATIOS[ratio]
        return height * over // under, height
    return dimension(small), height


def _boxes(data: bytes) -> Metadata:
    block = packet = None
    if data[:12] == CONTAINER:
        for kind, first, last in boxes(data, 0, len(data)):
            if kind == b"Exif":
                block = data[first + 4 + int.from_bytes(data[first : first + 4], "big") : last]
            elif kind == b"xml ":
                packet = data[first:last]
    return Metadata("jxl", exif=block or None, xmp=packet)


def look(data: bytes) -> tuple[Info, Callable[[], Image | bytes]]:
    """What boxes and size header say, and what decodes: channels and depth are known after it.

    The decoder gives a picture turned upright, or the JPEG that the file holds.

    Raises:
        ImageError: Damaged; the decoder: of a kind that the plugin does not give, or it is missing.
    """
    info = Info("jxl", *_size(data), 8, 3, metadata=_boxes(data))
    return info, lambda: _decode(data, info.metadata)


def _decode(data: bytes, metadata: Metadata) -> Image | bytes:
    decoder = plugin().Decoder(num_threads=1)
    try:
        is_jpeg, info, raw, profile, _ = decoder(data)
    except (ValueError, RuntimeError, OSError, OverflowError) as error:
        raise ImageError("the JPEG XL is damaged or cut short; fetch it again") from error
    if is_jpeg:
        return bytes(raw)
    if info.mode not in CHANNELS:
        raise ImageError(f"this JPEG XL has pixels of kind {info.mode}; convert it to PNG")
    dtype = {"I;16": np.uint16, "F": np.float32}.get(info.mode, np.uint8)
    pixels = np.frombuffer(raw, dtype).reshape(info.height, info.width, CHANNELS[info.mode])
    # The decoder has turned the picture, whatever the EXIF block says.
    block = exif.read(metadata.exif).block if metadata.exif else None
    return Image(pixels, replace(metadata, icc=profile or None, exif=block))


def encode(image: Image, *, quality: int, lossless: bool) -> bytes:
    """A picture (8 bit) to the bytes of a JPEG XL, with EXIF and XMP in boxes where it has any."""
    plugin()  # importing it teaches Pillow
    m = image.metadata
    if m.exif:
        image = image.with_metadata(exif=bytes(4) + m.exif)  # where the block begins: at once
    boxed = bool(m.exif or m.xmp)
    return pillow.save(image, "JXL", quality=quality, lossless=lossless, use_container=boxed)
