"""Pillow's decoders, called one by one: whatever they raise becomes an ``ImageError``."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageFile

from upscale.errors import ImageError
from upscale.image.model import Pixels

for _kind in (UserWarning, RuntimeWarning):  # Pillow's warnings would go to the terminal
    warnings.filterwarnings("ignore", category=_kind, module=r"PIL\.")

# What Pillow's decoders have been seen to raise over damaged files.
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    ZeroDivisionError,
    MemoryError,
    RuntimeError,
    struct.error,
    PillowImage.DecompressionBombError,
)


def load(opened: Callable[[], ImageFile.ImageFile], name: str) -> PillowImage.Image:
    """Open and decode a picture.

    Args:
        opened: Makes the opened file; a decoder's own class, so that no other decoder sees the
            bytes.
        name: Of the format, for the message.

    Raises:
        ImageError: The file is damaged or cut short.
    """
    try:
        picture = opened()
        picture.load()
        return picture
    except DAMAGE as error:
        raise ImageError(f"the {name} is damaged or cut short; fetch it again") from error


def save(picture: PillowImage.Image, name: str, **options: Any) -> bytes:
    """Encode a picture by Pillow's encoder of that name.

    Raises:
        ImageError: The encoder refuses it.
    """
    buffer = io.BytesIO()
    try:
        picture.save(buffer, name, **options)
    except (OSError, ValueError, MemoryError, RuntimeError) as error:
        width, height = picture.size
        raise ImageError(
            f"{width} x {height} cannot be written as {name} ({error}); choose -f png"
        ) from error
    return buffer.getvalue()


def array_of(picture: PillowImage.Image) -> Pixels:
    """The pixels (H, W, C) of a decoded picture: palette and 1 bit expanded."""
    if picture.mode == "1":
        picture = picture.convert("L")
    elif picture.mode in ("P", "PA"):
        alpha = picture.mode == "PA" or "transparency" in picture.info
        picture = picture.convert("RGBA" if alpha else "RGB")
    elif picture.mode in ("RGBX", "YCbCr"):
        picture = picture.convert("RGB")
    elif picture.mode.startswith("I;16"):
        pixels = np.array(picture)
        return pixels.astype(np.uint16)[:, :, None]
    if picture.mode not in ("L", "LA", "RGB", "RGBA"):
        raise ImageError(f"pixels of kind {picture.mode!r} are not known; save the picture as PNG")
    pixels = np.array(picture)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]
