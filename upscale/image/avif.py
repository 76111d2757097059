"""AVIF: 8 bits by Pillow (libavif), which upsamples colour well; 10 and 12 by libvips (libheif).

The boxes that neither tells of are read here; both turn the pixels as they say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from upscale.errors import ImageError
from upscale.image import exif, pillow, vips
from upscale.image.metadata import Metadata, code_points
from upscale.image.model import Image, Info, Pixels, Structure, check_sides, upright
from upscale.image.source import Data
from upscale.strips import gathered

PROPERTIES = (b"meta", b"iprp", b"ipco")
SAMPLE_SIZES = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsz")
MOST_BOXES = 10_000


@dataclass(frozen=True)
class Boxes:
    """What the boxes say.

    ``full``: gray from 0 to 255 (and not 16 to 235); ``cut``: part of the coded picture is shown.
    """

    profile: bytes | None
    size: tuple[int, int]
    frames: int
    bits: int
    gray: bool
    full: bool
    cut: bool


def look(data: bytes) -> tuple[Info, Callable[[], Image]]:
    """What the boxes say, and what decodes the picture, upright.

    Raises:
        ImageError: Damaged or cut short, or an HDR curve; so does the decoder.
    """
    facts = read_boxes(data)
    check_sides("avif", facts.size)
    metadata, known = _metadata(data, Metadata("avif", icc=facts.profile))
    if facts.bits > 8 or facts.cut:
        return _look_deep(data, facts, metadata)
    file = pillow.opened("avif", data)
    block = file.info.get("exif")
    orientation = exif.read(block).orientation or 1 if block else 1
    width, height = file.size[:: -1 if orientation > 4 else 1]
    mode = pillow.mode_of(file)
    chosen = {"RGB": [0], "RGBA": [0, 3]}.get(mode) if facts.gray else None
    channels = len(chosen) if chosen else pillow.CHANNELS[mode]
    info = Info("avif", width, height, 8, channels, facts.frames, metadata=metadata)

    def decode() -> Image:
        if known:
            _check(data, metadata)
        pixels = upright(pillow.pixels_of("avif", file, mode), orientation)
        return Image(np.ascontiguousarray(pixels[:, :, chosen]) if chosen else pixels, metadata)

    return info, decode


def _check(data: bytes, m: Metadata) -> None:
    """Decode with libheif too: it refuses most damaged files that libavif takes.

    Raises:
        ImageError: It does.
    """
    with vips.opened("avif", data, Structure(m)) as picture:
        for _ in vips.rows(picture, picture.height):
            pass


def _metadata(data: bytes, m: Metadata) -> tuple[Metadata, bool]:
    """With profile, EXIF and XMP as they stand in the file: Pillow makes EXIF anew.

    Second: whether libheif knows the file.
    """
    try:
        with vips.opened("avif", data, Structure(m)) as picture:
            profile, block, packet = (
                vips.field(picture, f"{name}-data") for name in ("icc-profile", "exif", "xmp")
            )
    except ImageError:
        return m, False
    return replace(m, icc=profile or m.icc, exif=block, xmp=packet), True


def _look_deep(data: bytes, facts: Boxes, metadata: Metadata) -> tuple[Info, Callable[[], Image]]:
    """10 and 12 bits, which become 16."""
    structure = Structure(metadata)
    with vips.opened("avif", data, structure) as picture:
        size, bands, dtype = (picture.width, picture.height), picture.bands, vips.dtype_of(picture)
        bits = vips.field(picture, "bits-per-sample") or 8
    kind = f"{bits} bit" if bits > 8 else ""
    info = Info("avif", *size, dtype.itemsize * 8, bands, facts.frames, kind, metadata)

    def decode() -> Image:
        with vips.opened("avif", data, structure) as picture:
            pixels = gathered(vips.rows(picture, picture.height), picture.height)
        stretch = facts.gray and not facts.full
        return Image(_stretched(pixels, bits, stretch) if bits > 8 else pixels, metadata)

    return info, decode


def _stretched(pixels: Pixels, bits: int, video: bool) -> Pixels:
    """Samples that libvips gives in the upper bits of 16, to full scale; also gray of video."""
    value = (pixels >> (16 - bits)).astype(np.float32) * (65535 / (2**bits - 1))
    if video:
        gray = value[:, :, 0]
        value[:, :, 0] = np.maximum(gray - 16 * 257, 0) * (255 / 219)
    return np.asarray(np.minimum(value + 0.5, 65535).astype(np.uint16))


def read_boxes(data: Data) -> Boxes:
    """Read the boxes.

    Raises:
        ImageError: Cut short, or an HDR curve.
    """
    profile, frames, size, full = None, 1, (0, 0), True
    for first, _ in find(data, (*PROPERTIES, b"ispe"), 0, len(data)):
        sides = (int.from_bytes(data[first + i : first + i + 4], "big") for i in (4, 8))
        size = max(size, tuple(sides))  # type: ignore[assignment]
    for first, last in find(data, (*PROPERTIES, b"colr"), 0, len(data)):
        body = data[first:last]
        if body[:4] == b"nclx" and len(body) >= 11:
            full = bool(body[10] & 0x80)
            if body[5] != 2 and body[7] != 2:
                points = bytes((body[5], body[7], body[9], 1))  # decoders stretch video range
                profile = code_points(points, "AVIF colour box") or profile
    coded = [data[a : a + 4] for a, _ in find(data, (*PROPERTIES, b"av1C"), 0, len(data))]
    flags = [c[2] for c in coded if len(c) == 4]
    for first, _ in find(data, SAMPLE_SIZES, 0, len(data)):
        frames = max(frames, int.from_bytes(data[first + 8 : first + 12], "big"))
    cut = any(True for _ in find(data, (*PROPERTIES, b"clap"), 0, len(data)))
    deep = [8 if not f & 0x40 else 12 if f & 0x20 else 10 for f in flags]
    gray = bool(flags) and all(f & 0x10 for f in flags)
    return Boxes(profile, size, frames, max(deep, default=8), gray, full, cut)


def boxes(data: Data, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, and first and last byte of the content, of each box (ISO/IEC 14496-12).

    Raises:
        ImageError: A box reaches beyond the end.
    """
    at, count = start, 0
    while at + 8 <= end:
        start_of = data[at : at + 16]
        size, kind, head = int.from_bytes(start_of[:4], "big"), start_of[4:8], 8
        if size == 1:
            size, head = int.from_bytes(start_of[8:16], "big"), 16
        elif size == 0:
            size = end - at
        count += 1
        if size < head or at + size > end or count > MOST_BOXES:
            shown = repr(kind)[2:-1]  # printable, whatever it is
            raise ImageError(f"the file is cut short or damaged in box {shown}; fetch it again")
        yield kind, at + head, at + size
        at += size


def find(data: Data, path: tuple[bytes, ...], start: int, end: int) -> Iterator[tuple[int, int]]:
    """Where the contents of the boxes at the end of ``path`` lie; "meta" is a full box."""
    for kind, first, last in boxes(data, start, end):
        if kind != path[0]:
            continue
        inner = first + 4 if kind == b"meta" else first
        if len(path) == 1:
            yield inner, last
        else:
            yield from find(data, path[1:], inner, last)
