"""GIF: still pictures are read, by Pillow; none is written."""

from __future__ import annotations

import io
import struct

from PIL import GifImagePlugin

from upscale.errors import ImageError
from upscale.image.model import Image, Info, Metadata, check_size
from upscale.image.pillow import array_of, load


def _blocks(data: bytes, at: int) -> int:
    """Skip the sub-blocks that begin at ``at``."""
    while at < len(data) and data[at]:
        at += 1 + data[at]
    return at + 1


def probe(data: bytes) -> Info:
    """What the blocks say; frames are counted.

    Raises:
        ImageError: The file ends before its trailer.
    """
    if len(data) < 13:
        raise ImageError("the GIF is cut short inside its header; fetch it again")
    width, height, flags = struct.unpack("<HHB", data[6:11])
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    frames = 0
    while at < len(data) and data[at] != 0x3B:
        if data[at] == 0x21:
            at = _blocks(data, at + 2)
        elif data[at] == 0x2C and at + 10 <= len(data):
            x, y, w, h, flags = struct.unpack("<4HB", data[at + 1 : at + 10])
            width, height = max(width, x + w), max(height, y + h)  # as Pillow takes it
            at = _blocks(data, at + 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0))
            frames += 1
        else:
            raise ImageError(f"the GIF is damaged at byte {at}; fetch it again")
    if at >= len(data) or not frames:
        raise ImageError("the GIF is cut short: it ends before its trailer; fetch it again")
    return Info(
        "gif", width, height, 8, 3, frames, "palette", metadata=Metadata("gif", palette=True)
    )


def decode(data: bytes, max_pixels: int, assume: bytes | None) -> Image:
    """Bytes of a still GIF to a picture.

    Raises:
        ImageError: Damaged, animated, or larger than ``max_pixels``.
    """
    info = probe(data)
    check_size(info.width, info.height, max_pixels)
    if info.frames > 1:
        raise ImageError(
            f"this is an animated GIF of {info.frames} frames; give its frames as single pictures"
        )
    picture = load(lambda: GifImagePlugin.GifImageFile(io.BytesIO(data)), "GIF")
    pixels = array_of(picture)
    check_size(pixels.shape[1], pixels.shape[0], max_pixels)
    return Image(pixels, info.metadata)
