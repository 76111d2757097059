"""CMYK separations (8 bit) to sRGB and back through their profile, by littleCMS."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from upscale.errors import ImageError
from upscale.icc.cms import transform
from upscale.icc.parser import parse

Pixels = NDArray[Any]


def profile_of(found: bytes | None, assumed: bytes | None) -> bytes:
    """The profile of separations.

    Raises:
        ImageError: There is no CMYK profile, neither in the file nor given.
    """
    profile = found or assumed
    if profile is None:
        raise ImageError(
            "this picture is CMYK and carries no ICC profile, so its colours are unknown; "
            "name one with --assume-icc FILE"
        )
    space = parse(profile).space
    if space != "CMYK":
        raise ImageError(
            f"this picture is CMYK and its ICC profile is of {space}; "
            "assign the right one, or remove it and name one with --assume-icc FILE"
        )
    return profile


def to_rgb(separations: Pixels, profile: bytes) -> Pixels:
    """Rows of separations (h, W, 4), full ink 255, to sRGB (h, W, 3)."""
    from PIL import Image as PillowImage

    picture = PillowImage.fromarray(np.ascontiguousarray(separations), "CMYK")
    return np.asarray(transform(profile, picture, "CMYK", True))


def from_rgb(pixels: Pixels, profile: bytes) -> Pixels:
    """The inverse of ``to_rgb``."""
    from PIL import Image as PillowImage

    picture = PillowImage.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(transform(profile, picture, "CMYK", False))
