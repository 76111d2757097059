"""Bytes to a picture and back: which format it is, and what holds for every format."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from upscale.errors import ImageError
from upscale.image import bmp, jpeg, png, tiff, webp
from upscale.image.model import FORMATS, MAX_PIXELS, Image, Info, Pixels

DECODERS: dict[str, Callable[[bytes, int], Image]] = {
    "png": png.decode,
    "jpeg": jpeg.decode,
    "webp": webp.decode,
    "tiff": tiff.decode,
    "bmp": bmp.decode,
}
PROBES: dict[str, Callable[[bytes], Info]] = {
    "png": png.probe,
    "jpeg": jpeg.probe,
    "webp": webp.probe,
    "tiff": tiff.probe,
    "bmp": bmp.probe,
}


def identify(data: bytes) -> str:
    """The format of a file by its first bytes; its name plays no part.

    Raises:
        ImageError: Empty, or no format that can be read.
    """
    if not data:
        raise ImageError("the file is empty; give a picture")
    if data[:8] == png.SIGNATURE:
        return "png"
    if data[:3] == b"\xff\xd8\xff":
        return "jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "tiff"
    if data[:2] == b"BM":
        return "bmp"
    raise ImageError("this is no picture that can be read; give PNG, JPEG, WebP, TIFF or BMP")


def probe(data: bytes) -> Info:
    """What the header of a picture says, without decoding a pixel.

    Raises:
        ImageError: No picture, or damaged.
    """
    return PROBES[identify(data)](data)


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image:
    """Decode a picture; the format is told by its content.

    Args:
        data: The bytes of the file.
        max_pixels: Largest width times height that is accepted.

    Raises:
        ImageError: Damaged, truncated, unknown, too large, or something that would be flattened.
    """
    return DECODERS[identify(data)](data, max_pixels)


def encode(
    image: Image,
    format: str,  # noqa: A002 - the name of the option
    *,
    quality: int | None = None,
    lossless: bool = False,
) -> bytes:
    """Encode a picture.

    Args:
        image: What to write; bit depth and channels are fitted to the format.
        format: A key of ``FORMATS``, an extension, or a path.
        quality: 1 to 100 for JPEG and WebP; None: 95 and 90.
        lossless: Write WebP without loss.

    Raises:
        ImageError: The format cannot hold the picture.
    """
    from upscale.image.model import format_of

    kind = FORMATS[format_of(format)]
    if max(image.width, image.height) > kind.max_side:
        raise ImageError(
            f"{image.width} x {image.height} is too large for {kind.name.upper()} (at most "
            f"{kind.max_side} pixels a side); choose -f png or -f tiff"
        )
    if image.has_alpha and not kind.alpha:
        raise ImageError(f"{kind.name.upper()} holds no alpha; choose -f png, or a --background")
    pixels = (
        image.pixels
        if image.depth in kind.depths
        else to_depth(
            image.pixels, max((d for d in kind.depths if d < image.depth), default=kind.depths[0])
        )
    )
    if image.is_gray and not kind.gray:
        pixels = np.concatenate([pixels[:, :, [0, 0, 0]], pixels[:, :, 1:]], 2)
    ready = image.with_pixels(pixels)
    if kind.name == "jpeg":
        return jpeg.encode(ready, quality or 95)
    if kind.name == "webp":
        return webp.encode(ready, quality or 90, lossless)
    return {"png": png.encode, "tiff": tiff.encode, "bmp": bmp.encode}[kind.name](ready)


def to_depth(pixels: Pixels, depth: int) -> Pixels:
    """Convert to 8, 16 or 32 (float) bits: full scale to full scale, rounded half up."""
    if pixels.dtype.itemsize * 8 == depth:
        return pixels
    top = 1.0 if pixels.dtype == np.float32 else float(np.iinfo(pixels.dtype).max)
    out = np.empty(pixels.shape, {8: np.uint8, 16: np.uint16, 32: np.float32}[depth])
    for y in range(0, len(pixels), 256):
        value = pixels[y : y + 256].astype(np.float64) / top
        if depth < 32:
            value = np.floor(np.clip(value, 0, 1) * (2**depth - 1) + 0.5)
        out[y : y + 256] = value
    return out
