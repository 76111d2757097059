"""CMYK separations (8 bit) to sRGB and back through their profile, by Pillow's littleCMS."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image as PillowImage

from upscale.errors import ImageError
from upscale.image import icc
from upscale.image.model import Image, Metadata
from upscale.image.profile import parse

STRIP = 512  # rows that are converted at a time


def to_rgb(picture: PillowImage.Image, metadata: Metadata, assume: bytes | None) -> Image:
    """Separations (mode CMYK) to an sRGB picture that remembers the profile.

    Raises:
        ImageError: There is no CMYK profile, neither in the file nor given.
    """
    profile = metadata.icc or assume
    if profile is None:
        raise ImageError(
            "this picture is CMYK and carries no ICC profile, so its colours are unknown; "
            "name one with --assume-icc FILE"
        )
    if parse(profile).space != "CMYK":
        raise ImageError(
            f"this picture is CMYK and its ICC profile is of {parse(profile).space}; "
            "assign the right one, or remove it and name one with --assume-icc FILE"
        )
    width, height = picture.size
    pixels = np.empty((height, width, 3), np.uint8)
    for y in range(0, height, STRIP):
        part = picture.crop((0, y, width, min(y + STRIP, height)))
        pixels[y : y + STRIP] = np.asarray(icc.transform(profile, part, "CMYK", True))
    return Image(pixels, replace(metadata, icc=None, cmyk=profile))


def from_rgb(image: Image) -> PillowImage.Image:
    """An sRGB picture (8-bit RGB) to separations by its ``metadata.cmyk``."""
    profile = image.metadata.cmyk
    if profile is None:
        raise ImageError("the picture has no CMYK profile; choose --icc srgb")
    out = PillowImage.new("CMYK", (image.width, image.height))
    for y in range(0, image.height, STRIP):
        part = PillowImage.fromarray(np.ascontiguousarray(image.pixels[y : y + STRIP]))
        out.paste(icc.transform(profile, part, "CMYK", False), (0, y))
    return out
