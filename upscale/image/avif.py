"""AVIF: metadata and 8 bits by Pillow's libavif, 10 and 12 bits by OpenCV's; boxes read here.

Pillow gives 8 bits alone; OpenCV gives 10 and 12 bits and neither profile nor XMP.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import AvifImagePlugin
from PIL import Image as PillowImage

from upscale.errors import ImageError
from upscale.image import iso, opencv
from upscale.image.model import Image, Info, Metadata, Pixels, check_size
from upscale.image.pillow import DAMAGE, array_of, load, save
from upscale.image.png_meta import code_points

PROPERTIES = (b"meta", b"iprp", b"ipco")
FULL_COLOUR = 90  # quality from which colour is not subsampled
THREADS = 4  # whatever the machine has: the bytes depend on it


def _size(data: bytes) -> tuple[int, int, int]:
    """Largest width and height of the items, and bits per channel."""
    width = height = 0
    depth = 8
    for first, _ in iso.find(data, (*PROPERTIES, b"ispe"), 0, len(data)):
        width = max(width, int.from_bytes(data[first + 4 : first + 8], "big"))
        height = max(height, int.from_bytes(data[first + 8 : first + 12], "big"))
    for first, last in iso.find(data, (*PROPERTIES, b"av1C"), 0, len(data)):
        if last - first >= 3:
            depth = max(
                depth, 8 + 2 * (data[first + 2] >> 6 & 1) * (1 + (data[first + 2] >> 5 & 1))
            )
    if not width or not height:
        raise ImageError("the AVIF has no picture in it; fetch it again")
    return width, height, depth


def _open(data: bytes) -> AvifImagePlugin.AvifImageFile:
    try:
        return AvifImagePlugin.AvifImageFile(io.BytesIO(data))
    except DAMAGE as error:
        raise ImageError("the AVIF is damaged or cut short; fetch it again") from error


def _metadata(data: bytes, opened: AvifImagePlugin.AvifImageFile) -> Metadata:
    """Profile, EXIF and XMP; code points become a profile where there is none."""
    icc = opened.info.get("icc_profile")
    for first, last in iso.find(data, (*PROPERTIES, b"colr"), 0, len(data)):
        if data[first : first + 4] == b"nclx" and last - first >= 11:
            primaries, curve, matrix = (data[first + i] for i in (5, 7, 9))
            if primaries != 2 and curve != 2:
                points = bytes((primaries, curve, matrix, 1))  # libavif stretches video range
                made = code_points(points, "AVIF colour box")
                icc = icc or made
    return Metadata("avif", icc=icc, exif=opened.info.get("exif"), xmp=opened.info.get("xmp"))


def probe(data: bytes) -> Info:
    """What the boxes say."""
    width, height, depth = _size(data)
    check_size(width, height, 2**28)
    opened = _open(data)
    size = opened.size
    return Info(
        "avif",
        *size,
        8 if depth == 8 else 16,
        len(opened.getbands()),
        opened.n_frames,
        f"{depth} bit" if depth > 8 else "",
        metadata=_metadata(data, opened),
    )


def decode(data: bytes, max_pixels: int, assume: bytes | None) -> Image:
    """Bytes of a still AVIF to a picture; 10 and 12 bits are stretched to 16.

    Raises:
        ImageError: Damaged, animated, an HDR curve, or larger than ``max_pixels``.
    """
    width, height, depth = _size(data)
    check_size(width, height, max_pixels)
    opened = _open(data)
    if opened.n_frames > 1:
        raise ImageError(
            f"this is an animated AVIF of {opened.n_frames} frames; give its "
            "frames as single pictures"
        )
    metadata = _metadata(data, opened)
    if depth > 8:
        return Image(_deep(data, *opened.size, depth), metadata)
    return Image(array_of(load(lambda: opened, "AVIF")), metadata)


def _deep(data: bytes, width: int, height: int, depth: int) -> Pixels:
    found = opencv.decode(data, height, width, "AVIF")
    if found.dtype != np.uint16:
        raise ImageError(f"the AVIF of {depth} bits is damaged; fetch it again")
    scaled = found.astype(np.float32) * (65535 / (2**depth - 1)) + 0.5
    return np.asarray(np.minimum(scaled, 65535), np.uint16)


def encode(image: Image, *, quality: int) -> bytes:
    """A picture (8-bit RGB or RGBA) to the bytes of an AVIF; full colour resolution from 90 on."""
    m = image.metadata
    return save(
        PillowImage.fromarray(image.pixels),
        "AVIF",
        quality=quality,
        max_threads=THREADS,
        subsampling="4:4:4" if quality >= FULL_COLOUR else "4:2:0",
        icc_profile=m.icc or b"",
        exif=m.exif or b"",
        xmp=m.xmp or b"",
    )
