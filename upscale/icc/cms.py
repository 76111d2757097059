"""Profiles made of look-up tables, and CMYK (8 bits), by Pillow's littleCMS."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from upscale.errors import ImageError

if TYPE_CHECKING:
    from PIL import Image as PillowImage
    from PIL import ImageCms

Pixels = NDArray[Any]


def transform(
    profile: bytes, picture: PillowImage.Image, mode: str, forward: bool
) -> PillowImage.Image:
    """littleCMS: from the profile (Pillow mode ``mode``) to sRGB, or back where not ``forward``.

    Relative colorimetric with black point compensation, 8 bits.

    Raises:
        ImageError: littleCMS refuses the profile.
    """
    from PIL import ImageCms

    try:
        made = _made(profile, mode, forward)
        return ImageCms.applyTransform(picture, made)  # type: ignore[return-value]
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        raise ImageError(
            f"littleCMS cannot use the ICC profile ({error}); convert the picture to sRGB first"
        ) from error


@lru_cache(maxsize=4)
def _made(profile: bytes, mode: str, forward: bool) -> ImageCms.ImageCmsTransform:
    from PIL import ImageCms

    ours = (ImageCms.ImageCmsProfile(io.BytesIO(profile)), mode)
    srgb = (ImageCms.createProfile("sRGB"), "RGB")
    (source, source_mode), (target, target_mode) = (ours, srgb) if forward else (srgb, ours)
    return ImageCms.buildTransform(
        source,
        target,
        source_mode,
        target_mode,
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )


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
