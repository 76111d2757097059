"""PNG: chunks in ``png_chunks``, pixels by OpenCV.

OpenCV's libpng reads and writes 16-bit colour, which Pillow cuts to 8 bits. It is given only the
chunks that make pixels, after their checksums and the length of the inflated data were checked: a
truncated or lying file is refused before a picture is allocated.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import cv2
import numpy as np
from PIL import Image as PillowImage

from upscale.errors import ImageError
from upscale.image import opencv, png_meta
from upscale.image.model import Image, Info, Metadata, Pixels, check_size
from upscale.image.pillow import save
from upscale.image.png_chunks import Chunks, inflated, parse
from upscale.image.png_write import SIGNATURE, chunk, file_of, header, header_of, idat, rows_of

LIBPNG_SIDE = 1_000_000  # longest side that libpng reads and writes


def probe(data: bytes) -> Info:
    """What the chunks say, without inflating the pixels."""
    c = parse(data)
    alpha = c.transparency is not None and c.colour in (0, 2, 3)
    colour = 3 if c.colour == 3 else c.channels
    kind = "palette" if c.colour == 3 else "1 bit" if c.depth == 1 else ""
    depth = max(8, c.depth)
    return Info(
        "png", c.width, c.height, depth, colour + alpha, c.frames, kind, metadata=metadata_of(c)
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
            f"this is an animated PNG of {c.frames} frames; give its frames as single pictures"
        )
    if max(c.width, c.height) > LIBPNG_SIDE:
        raise ImageError(
            f"this PNG is {c.width} x {c.height} and libpng reads at most 1 million pixels a side; "
            "cut it, or convert it to TIFF"
        )
    for _ in inflated(c, data):
        pass  # checked before anything is allocated
    return Image(pixels_of(c, [data[place] for place in c.data]), metadata_of(c))


def pixels_of(c: Chunks, data: Iterable[bytes]) -> Pixels:
    """The pixels (H, W, C) of a picture.

    Args:
        c: Its header, palette and transparency.
        data: The content of its IDAT chunks.

    Raises:
        ImageError: The decoder refuses it.
    """
    head = header(c.width, c.height, c.depth, c.colour, interlaced=c.interlaced)
    parts = []
    if c.colour == 3:
        parts.append(chunk(b"PLTE", c.palette))
    if c.transparency is not None and c.colour in (2, 3):
        parts.append(chunk(b"tRNS", c.transparency))
    parts += [chunk(b"IDAT", body) for body in data]
    return _arrange(opencv.decode(file_of(head, parts), c.height, c.width, "PNG"), c)


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


def metadata_of(c: Chunks) -> Metadata:
    """What the other chunks say."""
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
    step = rows_of(p.shape, p.dtype)
    strips = (p[y : y + step] for y in range(0, len(p), step))
    return file_of(header_of(p.shape, p.dtype), idat(strips, compression))


def _with_metadata(png: bytes, metadata: Metadata) -> bytes:
    """Insert the chunks of the metadata after IHDR."""
    extra = b"".join(chunk(kind, body) for kind, body in png_meta.write(metadata))
    at = len(SIGNATURE) + 25
    return png[:at] + extra + png[at:] if extra else png
