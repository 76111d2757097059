"""Pillow's decoders, called one by one: whatever they raise becomes an ``ImageError``."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageFile

from upscale.errors import ImageError
from upscale.image.model import Pixels

warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # they go to stderr

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
