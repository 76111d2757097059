"""The segments of a JPEG (ITU-T T.81): metadata read and written here, the pixels by libvips.

libvips is given the segments that make pixels and Adobe's, which tells the colours. A scan that
ends too early is a warning of libjpeg, and so an error here. libvips looks for warnings before it
decodes a strip of 8 rows, and not behind the last one. So a picture of such strips seems to go on
for one more, which is asked for at the end.
"""

from __future__ import annotations

import re
import struct

from upscale.errors import ImageError
from upscale.image.model import FORMATS
from upscale.image.source import Header
from upscale.metadata import Metadata
from upscale.metadata import jpeg as segments
from upscale.metadata.data import Data
from upscale.metadata.jpeg import LARGEST, Segment, segment

FRAMES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}  # baseline, extended, progressive, arithmetic
TABLES = {0xC4, 0xDB, 0xDD, 0xCC}  # DHT, DQT, DRI, DAC
PROGRESSIVE, SCAN, END = 0xC2, 0xDA, 0xD9
MAX_SIDE = FORMATS["jpeg"].max_side


def header(data: Data) -> Header:
    """Sort the segments before the first scan.

    Raises:
        ImageError: Cut short, or of a process that is not supported.
    """
    app: list[Segment] = []
    pieces: list[bytes | slice] = []
    frame, process, at, marker = b"", 0, 2, 0
    while marker != SCAN:
        at, marker = _marker(data, at)
        length = int.from_bytes(data[at : at + 2], "big")
        body = data[at + 2 : at + length]
        if marker == END or length < 2 or len(body) < length - 2:
            raise ImageError("the JPEG is cut short inside its header; fetch it again")
        if marker in TABLES:
            pieces.append(slice(at - 2, at + length))
        if marker in FRAMES:
            frame, process = body, marker
        elif 0xC0 <= marker <= 0xCF and marker not in TABLES and marker != 0xC8:
            raise ImageError(
                f"this JPEG uses process 0x{marker:02X} (lossless or hierarchical); save it as PNG"
            )
        elif 0xE0 <= marker <= 0xEF or marker == 0xFE:
            app.append((marker, body))
        at += length
    size, kind = _frame(frame, len(data) - at)
    adobe = [segment(m, b) for m, b in app if m == 0xEE]
    spare = _spare(frame, body[0], process)
    height = int.from_bytes(frame[1:3], "big") + spare
    pieces.append(segment(process, frame[:1] + height.to_bytes(2, "big") + frame[3:]))
    rest = slice(at - length - 2, None)
    parts = (b"\xff\xd8", *adobe[:1], *pieces, rest)
    return Header(segments.read(app), size, parts, kind, spare=spare)


def _marker(data: Data, at: int) -> tuple[int, int]:
    """Where the next marker ends, and which it is; what stands before it is skipped."""
    window = data[at : at + LARGEST]
    found = re.search(rb"\xff+[^\x00\xff\x01\xd0-\xd8]", window)
    if found is None:
        raise ImageError("the JPEG is cut short: it ends before its pixels; fetch it again")
    return at + found.end(), window[found.end() - 1]


def _frame(body: bytes, room: int) -> tuple[tuple[int, int], str]:
    """Check the frame header against the bytes that follow: width and height, colours in words."""
    if len(body) < 6 or len(body) < 6 + 3 * body[5]:
        raise ImageError("the JPEG frame header is missing or cut short; fetch it again")
    depth, height, width, components = struct.unpack(">BHHB", body[:6])
    if components not in (1, 3, 4) or depth != 8:
        raise ImageError(
            f"this JPEG has {components} components of {depth} bits; save it as PNG or TIFF"
        )
    factors = [(body[7 + 3 * i] >> 4, body[7 + 3 * i] & 15) for i in range(components)]
    if not all(1 <= h <= 4 and 1 <= v <= 4 for h, v in factors):
        raise ImageError("the JPEG sampling factors are invalid; the file is damaged")
    if width * height > room * 8 * 64 * 16:  # 1 bit a block, and 16 blocks under one of colour
        raise ImageError(f"the JPEG is damaged: {room} bytes cannot hold {width} x {height} pixels")
    if components != 3:
        return (width, height), "CMYK" if components == 4 else ""
    (h, v), (ch, cv) = factors[:2]
    kinds = {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0"}
    return (width, height), kinds.get((h // ch, v // cv), "subsampled")


def _spare(frame: bytes, components: int, process: int) -> int:
    """Rows by which the picture is to seem higher: of one scan, and of strips of 8 rows."""
    height = int.from_bytes(frame[1:3], "big")
    one_scan = components == frame[5] and process != PROGRESSIVE
    if not one_scan or any(v & 15 != 1 for v in frame[7::3]) or height + 16 > MAX_SIDE:
        return 0
    return -height % 8 + 8


def with_metadata(start: bytes, metadata: Metadata) -> bytes:
    """The start of a file that libvips writes (bare) with the segments of the metadata."""
    jfif = b""
    if start[2:4] != b"\xff\xee":  # Adobe's segment, of CMYK, takes its place
        x, y = (max(1, min(round(d), 65535)) for d in metadata.dpi or (1, 1))
        body = struct.pack(">5sHBHHBB", b"JFIF\0", 0x0101, bool(metadata.dpi), x, y, 0, 0)
        jfif = segment(0xE0, body)
    return start[:2] + jfif + segments.write(metadata) + start[2:]
