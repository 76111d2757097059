"""What follows the first picture in a stream of bytes: another one, which no decoder would name.

Decoders stop where a picture ends and ignore the rest. Of a picture that is piped in, the rest may
be further pictures (``ffmpeg -f image2pipe``, ``cat a.png b.png``). TIFF, Radiance and bare JPEG XL
streams do not say where they end.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable

from upscale.errors import ImageError
from upscale.image import avif, netpbm, png
from upscale.image.identify import identify
from upscale.image.reader import HEAD, probe

MARKER = re.compile(rb"\xff+([^\x00\xff\x01\xd0-\xd8])")  # but fill bytes, restarts and SOI
PADDING = re.compile(rb"[\0\t\n\r ]*")
SHORT = {"bmp", "ppm", "hdr", "jxl"}  # signatures so short that other bytes may look like them


def another(data: bytes) -> tuple[str, str, int] | None:
    """The formats of the first picture and of one behind it, and where the first ends.

    ``None`` where nothing follows that is a picture. What a JPEG itself counts among its pictures
    (Multi-Picture Format, CIPA DC-007: previews, gain maps) belongs to it.
    """
    try:
        first = identify(data[:HEAD])
        end = ENDS[first](data) if first in ENDS else len(data)
    except ImageError:
        return None
    padding = PADDING.match(data, end)
    for at in (end, padding.end() if padding is not None else end):
        with contextlib.suppress(ImageError):
            second = identify(data[at : at + HEAD])
            if second in SHORT:
                probe(data[at:])
            return first, second, end
    return None


def _jpeg(data: bytes) -> int:
    """Behind the first EOI that no segment holds."""
    at = 2
    while (found := MARKER.search(data, at)) is not None:
        marker, at = found[1], found.end()
        if marker == b"\xd9":
            return at
        if marker == b"\xe2" and data[at + 2 : at + 6] == b"MPF\0":
            break
        at += int.from_bytes(data[at : at + 2], "big")
    return len(data)


def _gif(data: bytes) -> int:
    """Behind the trailer."""
    at = 13 + _colours(data[10:11])
    while at < len(data) and data[at : at + 1] in b"!,":
        if data[at : at + 1] == b",":
            at += 10 + _colours(data[at + 9 : at + 10]) + 1
        else:
            at += 2
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1
    return at + 1


def _colours(flags: bytes) -> int:
    """Bytes of a GIF's table of colours."""
    bits = int.from_bytes(flags, "big")
    return 3 << ((bits & 7) + 1) if bits & 0x80 else 0


def _boxes(data: bytes) -> int:
    """Before the second box of the first one's kind (ISO base media), or what is no box."""
    end = 0
    with contextlib.suppress(ImageError):
        for kind, _, last in avif.boxes(data, 0, len(data)):
            if end and kind == data[4:8]:
                break
            end = last
    return end


ENDS: dict[str, Callable[[bytes], int]] = {
    "png": lambda data: max(p.stop for p in png.header(data).pieces if isinstance(p, slice)),
    "jpeg": _jpeg,
    "gif": _gif,
    "webp": lambda data: 8 + int.from_bytes(data[4:8], "little") + data[4] % 2,  # padded
    "bmp": lambda data: int.from_bytes(data[2:6], "little") or len(data),
    "avif": _boxes,
    "jxl": lambda data: _boxes(data) if data[:2] == b"\0\0" else len(data),
    "ppm": netpbm.end,
}
