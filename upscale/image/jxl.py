"""JPEG XL, by the extra ``upscale[jxl]`` (pillow-jxl-plugin, libjxl): 8 bits, and 16 bits of gray.

The plugin embeds no profile, so that what is written is sRGB.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from upscale.errors import ImageError
from upscale.image.avif import boxes
from upscale.image.model import Image, Info
from upscale.metadata import Metadata, exif

CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"
CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "I;16": 1, "F": 1}
RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}


def plugin() -> Any:
    """The plugin.

    Raises:
        ImageError: It is not installed.
    """
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


def probe(data: bytes) -> Info:
    """What the boxes and the size header say; channels and depth are known after decoding."""
    width, height = _size(data)
    return Info("jxl", width, height, 8, 3, metadata=_boxes(data))


def decode(data: bytes) -> Image | bytes:
    """Bytes of a JPEG XL to a picture, turned upright by the decoder, or to the JPEG that it holds.

    Raises:
        ImageError: Damaged, of a kind that the plugin does not give, or the extra is missing.
    """
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
    found = _boxes(data)
    # The decoder has turned the picture, whatever the EXIF block says.
    block = exif.read(found.exif).block if found.exif else None
    return Image(pixels, replace(found, icc=profile or None, exif=block))


def encode(image: Image, *, quality: int, lossless: bool) -> bytes:
    """A picture (8 bit) to the bytes of a JPEG XL with EXIF and XMP boxes."""
    m, p = image.metadata, image.pixels
    encoder = plugin().Encoder(
        mode=("L", "LA", "RGB", "RGBA")[p.shape[2] - 1],
        lossless=lossless,
        quality=100 if lossless else quality,
        decoding_speed=0,
        effort=7,
        use_container=bool(m.exif or m.xmp),
        use_original_profile=False,
        num_threads=-1,
    )
    out = encoder(
        np.ascontiguousarray(p).tobytes(),
        image.width,
        image.height,
        jpeg_encode=False,
        exif=b"\0\0\0\0" + m.exif if m.exif else None,
        xmp=m.xmp,
        jumb=None,
        compress=False,
    )
    return bytes(out)
