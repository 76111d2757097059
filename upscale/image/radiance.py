"""Radiance HDR (RGBE): by OpenCV, in float32; scene-linear light in the primaries of sRGB."""

from __future__ import annotations

import re

import cv2
import numpy as np

from upscale.errors import ImageError
from upscale.image import icc
from upscale.image.model import Image, Info, Metadata, check_size

RESOLUTION = re.compile(rb"\n\n-Y (\d{1,9}) \+X (\d{1,9})\n")
PROFILE = icc.build("Linear sRGB", curve=(1.0,))


def _size(data: bytes) -> tuple[int, int, int]:
    """Width, height, and where the pixels begin."""
    found = RESOLUTION.search(data, 0, 65536)
    if found is None or b"FORMAT=32-bit_rle_xyze" in data[: found.start()]:
        raise ImageError(
            "the Radiance header is damaged, turned, or in XYZ; save the picture upright and in RGB"
        )
    return int(found[2]), int(found[1]), found.end()


def probe(data: bytes) -> Info:
    """What the header says."""
    width, height, _ = _size(data)
    return Info("hdr", width, height, 32, 3, metadata=Metadata("hdr", icc=PROFILE))


def decode(data: bytes, max_pixels: int, assume: bytes | None) -> Image:
    """Bytes of a Radiance picture to a picture in linear light.

    Raises:
        ImageError: Damaged, cut short, or larger than ``max_pixels``.
    """
    width, height, start = _size(data)
    check_size(width, height, max_pixels)
    if (len(data) - start) * 127 < width * height * 4:  # a run is at most 127 long
        raise ImageError(f"the Radiance picture is cut short: it cannot hold {width} x {height}")
    try:
        found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ImageError("the Radiance picture is damaged; fetch it again") from error
    if found is None or found.shape != (height, width, 3):
        raise ImageError("the Radiance picture is damaged or cut short; fetch it again")
    return Image(np.asarray(cv2.cvtColor(found, cv2.COLOR_BGR2RGB)), probe(data).metadata)


def encode(image: Image) -> bytes:
    """A linear float32 RGB picture to the bytes of a Radiance picture (8 bits of precision)."""
    done, out = cv2.imencode(".hdr", cv2.cvtColor(image.pixels, cv2.COLOR_RGB2BGR))
    if not done:
        raise ImageError(f"{image.width} x {image.height} cannot be written as HDR; choose -f tiff")
    return out.tobytes()
