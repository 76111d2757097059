"""WebP and AVIF encoded by Pillow: EXIF stays as it is, and the bytes do not depend on threads."""

from __future__ import annotations

import io
from typing import Any

from upscale.errors import ImageError
from upscale.image.model import Image

FULL_COLOUR = 90  # quality from which colour is not subsampled
THREADS = 4  # of libavif, whatever the machine has: the bytes depend on it


def _save(image: Image, name: str, **options: Any) -> bytes:
    """Encode a picture (8-bit RGB or RGBA) with its profile, EXIF and XMP.

    Raises:
        ImageError: The encoder refuses it.
    """
    from PIL import Image as PillowImage

    m, buffer = image.metadata, io.BytesIO()
    metadata = {"icc_profile": m.icc or b"", "exif": m.exif or b"", "xmp": m.xmp or b""}
    try:
        PillowImage.fromarray(image.pixels).save(buffer, name, **metadata, **options)
    except (OSError, ValueError, MemoryError, RuntimeError) as error:
        raise ImageError(
            f"{image.width} x {image.height} cannot be written as {name} ({error}); choose -f png"
        ) from error
    return buffer.getvalue()


def webp(image: Image, *, quality: int, lossless: bool) -> bytes:
    """The bytes of a WebP; colour under alpha 0 is kept."""
    return _save(image, "WEBP", quality=quality, lossless=lossless, exact=True, method=4)


def avif(image: Image, *, quality: int) -> bytes:
    """The bytes of an AVIF; full colour resolution from 90 on."""
    subsampling = "4:4:4" if quality >= FULL_COLOUR else "4:2:0"
    return _save(image, "AVIF", quality=quality, max_threads=THREADS, subsampling=subsampling)
