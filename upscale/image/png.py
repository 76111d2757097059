"""PNG (W3C, third edition): chunks read and written here, pixels by OpenCV.

OpenCV's libpng reads and writes 16-bit colour, which Pillow cuts to 8 bits. It is given only the
chunks that make pixels, after their checksums and the length of the inflated data were checked
here: a truncated or lying file is refused before a picture is allocated.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from PIL import Image as PillowImage

from upscale.errors import ImageError
from upscale.image import opencv, png_meta, png_write
from upscale.image.model import Image, Info, Metadata, Pixels, check_size
from upscale.image.pillow import save
from upscale.image.png_write import SIGNATURE, chunk

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # samples per pixel of each colour type
LIBPNG_SIDE = 1_000_000  # longest side that libpng writes
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)


@dataclass
class Chunks:
    """The chunks of a file, sorted by use."""

    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool
    palette: bytes = b""
    transparency: bytes | None = None
    data: list[bytes] = field(default_factory=list)
    other: dict[bytes, list[bytes]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Type, content, and whether the checksum is right, up to IEND.

    Raises:
        ImageError: The file ends before IEND.
    """
    at = len(SIGNATURE)
    while True:
        head = data[at : at + 8]
        if len(head) < 8:
            raise ImageError("the PNG is cut short: it ends before its IEND chunk; fetch it again")
        length, kind = struct.unpack(">I4s", head)
        body = data[at + 8 : at + 8 + length]
        crc = data[at + 8 + length : at + 12 + length]
        if len(body) < length or len(crc) < 4:
            raise ImageError(f"the PNG is cut short in chunk {kind!r}; fetch it again")
        yield kind, body, zlib.crc32(body, zlib.crc32(kind)) == int.from_bytes(crc, "big")
        if kind == b"IEND":
            return
        at += 12 + length


def parse(data: bytes) -> Chunks:
    """Check the structure and sort the chunks.

    Raises:
        ImageError: Truncated, damaged, or not a still PNG.
    """
    found: Chunks | None = None
    for kind, body, intact in chunks(data):
        if not intact:
            if kind[0] & 0x20:  # ancillary: the pixels do not depend on it
                if found:
                    found.notes.append(f"damaged {kind.decode('latin-1')} chunk left out")
                continue
            raise ImageError(
                f"the PNG is damaged: wrong checksum in chunk {kind!r}; fetch it again"
            )
        if found is None:
            found = _header(kind, body)
        elif kind == b"PLTE":
            found.palette = body
        elif kind == b"tRNS":
            found.transparency = body
        elif kind == b"IDAT":
            found.data.append(body)
        else:
            found.other.setdefault(kind, []).append(body)
    if found is None or not found.data:
        raise ImageError("the PNG has no image data (IDAT); fetch it again")
    if found.colour == 3 and (not found.palette or len(found.palette) % 3):
        raise ImageError("the PNG has palette pixels and no valid palette (PLTE); fetch it again")
    return found


def _header(kind: bytes, body: bytes) -> Chunks:
    if kind != b"IHDR" or len(body) != 13:
        raise ImageError("the PNG does not begin with a valid IHDR chunk; fetch it again")
    width, height, depth, colour, method, filtering, interlace = struct.unpack(">IIBBBBB", body)
    if depth not in DEPTHS.get(colour, ()) or method or filtering or interlace > 1:
        raise ImageError(
            f"the PNG header is invalid (colour type {colour}, {depth} bits); "
            "save the picture again"
        )
    return Chunks(width, height, depth, colour, bool(interlace))


def inflated_length(c: Chunks) -> int:
    """Bytes that the image data inflate to: a filter byte and the packed samples of every row."""
    bits = c.depth * CHANNELS[c.colour]
    passes = ADAM7 if c.interlaced else ((0, 0, 1, 1),)
    total = 0
    for x, y, dx, dy in passes:
        w, h = -(-(c.width - x) // dx), -(-(c.height - y) // dy)
        if w > 0 and h > 0:
            total += h * (1 + (w * bits + 7) // 8)
    return total


def check_data(c: Chunks) -> None:
    """Inflate the image data in small pieces and check their length and checksum.

    Raises:
        ImageError: Damaged, or more or less than the header promises.
    """
    want, got, inflate = inflated_length(c), 0, zlib.decompressobj()
    try:
        for body in c.data:
            piece = body
            while piece and not inflate.eof:
                got += len(inflate.decompress(piece, 1 << 20))
                piece = inflate.unconsumed_tail
            if got > want:
                break
    except zlib.error as error:
        raise ImageError(f"the PNG is damaged: {error}; fetch it again") from error
    if got != want or not inflate.eof:
        raise ImageError(
            f"the PNG is damaged: its data hold {got} bytes and its header promises {want}; "
            "fetch it again"
        )


def frames_of(c: Chunks) -> int:
    """Frames of the animation; 1 for a still picture."""
    return int.from_bytes(c.other[b"acTL"][0][:4], "big") if b"acTL" in c.other else 1


def probe(data: bytes) -> Info:
    """What the chunks say, without inflating the pixels."""
    c = parse(data)
    alpha = c.transparency is not None and c.colour in (0, 2, 3)
    colour = 3 if c.colour == 3 else CHANNELS[c.colour]
    kind = "palette" if c.colour == 3 else "1 bit" if c.depth == 1 else ""
    depth = max(8, c.depth)
    return Info(
        "png", c.width, c.height, depth, colour + alpha, frames_of(c), kind, metadata=_metadata(c)
    )


def decode(data: bytes, max_pixels: int, assume: bytes | None) -> Image:
    """Bytes of a PNG to a picture.

    Raises:
        ImageError: Damaged, animated, larger than ``max_pixels``, or in a transfer curve that
            cannot be honoured.
    """
    c = parse(data)
    check_size(c.width, c.height, max_pixels)
    if b"acTL" in c.other:
        raise ImageError(
            f"this is an animated PNG of {frames_of(c)} frames; give its frames as single pictures"
        )
    check_data(c)
    return Image(_pixels(c), _metadata(c))


def _pixels(c: Chunks) -> Pixels:
    head = struct.pack(">IIBBBBB", c.width, c.height, c.depth, c.colour, 0, 0, c.interlaced)
    parts = [SIGNATURE, chunk(b"IHDR", head)]
    if c.colour == 3:
        parts.append(chunk(b"PLTE", c.palette))
    if c.transparency is not None and c.colour in (2, 3):
        parts.append(chunk(b"tRNS", c.transparency))
    parts += [chunk(b"IDAT", body) for body in c.data]
    raw = b"".join([*parts, chunk(b"IEND", b"")])
    return _arrange(opencv.decode(raw, c.height, c.width, "PNG"), c)


def _arrange(found: Pixels, c: Chunks) -> Pixels:
    """What OpenCV gives (gray, RGB, RGBA) to the channels that the file has."""
    if found.shape[2] == 1:
        if c.transparency is None or len(c.transparency) < 2:
            return found
        key = int.from_bytes(c.transparency[:2], "big")
        key = key * (255 // (2**c.depth - 1)) if c.depth < 8 else key
        top = 65535 if c.depth == 16 else 255
        alpha = np.where(found == key, 0, top).astype(found.dtype)
        return np.concatenate([found, alpha], 2)
    return np.ascontiguousarray(found[:, :, [0, 3]]) if c.colour == 4 else found


def _metadata(c: Chunks) -> Metadata:
    found = png_meta.read(c.other, c.colour in (0, 4))
    notes = (*c.notes, *found.notes)
    return replace(found, palette=c.colour == 3, bilevel=c.depth == 1, notes=notes)


def encode(image: Image, *, compression: int = 4, palette: bool = False) -> bytes:
    """A picture (8 or 16 bit) to the bytes of a PNG.

    Args:
        image: The picture, its metadata as they are to be written.
        compression: Effort of zlib, 0 to 9; 6 takes three times as long for 7 % fewer bytes.
        palette: Write 256 colours (8 bit), the nearest where the picture has more.
    """
    if palette:
        body = _palette(image.pixels, compression)
    elif image.pixels.shape[2] == 2 or max(image.height, image.width) > LIBPNG_SIDE:
        body = _filtered(image.pixels, compression)
    else:
        options = [cv2.IMWRITE_PNG_COMPRESSION, compression]
        body = opencv.encode(image.pixels, ".png", options)
    return _with_metadata(body, image.metadata)


def _palette(p: Pixels, compression: int) -> bytes:
    rgb = p if p.shape[2] > 2 else np.concatenate([p[:, :, [0, 0, 0]], p[:, :, 1:]], 2)
    picture = PillowImage.fromarray(rgb)
    method = (
        PillowImage.Quantize.FASTOCTREE if rgb.shape[2] == 4 else PillowImage.Quantize.MEDIANCUT
    )
    return save(picture.quantize(256, method=method), "PNG", compress_level=compression)


def _filtered(p: Pixels, compression: int) -> bytes:
    """What OpenCV does not write: gray with alpha, and very long sides."""
    step = png_write.rows_of(p.shape, p.dtype)
    strips = (p[y : y + step] for y in range(0, len(p), step))
    parts = png_write.data(strips, compression)
    return b"".join([SIGNATURE, png_write.header(p.shape, p.dtype), *parts, chunk(b"IEND", b"")])


def _with_metadata(png: bytes, metadata: Metadata) -> bytes:
    """Insert the chunks of the metadata after IHDR."""
    extra = b"".join(chunk(kind, body) for kind, body in png_meta.write(metadata))
    at = len(SIGNATURE) + 25
    return png[:at] + extra + png[at:] if extra else png
