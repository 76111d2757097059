"""WebP and BMP read, WebP, AVIF and (with a plugin) JPEG XL written by Pillow.

libvips decodes a WebP in threads that are missing in a forked process, where it would wait for them
for ever; what it writes would depend on the number of threads (AVIF), and its EXIF blocks be made
anew. BMP it does not know.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from upscale.errors import ImageError
from upscale.image.model import Image, Info
from upscale.metadata import Metadata

if TYPE_CHECKING:
    from PIL import ImageFile

for _kind in (UserWarning, RuntimeWarning):  # they would go to the terminal
    warnings.filterwarnings("ignore", category=_kind, module=r"PIL\.")

FULL_COLOUR = 90  # quality from which colour is not subsampled
THREADS = 4  # of libavif, whatever the machine has: the bytes depend on it
CODED = (1, 2)  # compressions of BMP that are run lengths
DAMAGE = (  # what Pillow's decoders have been seen to raise over damaged files
    *(OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, AttributeError),
    *(OverflowError, ZeroDivisionError, MemoryError, RuntimeError, struct.error),
)


def look(name: str, data: bytes) -> tuple[Info, Callable[[], Image]]:
    """What the header of a WebP or BMP says, and what decodes the picture.

    Raises:
        ImageError: Damaged or cut short; so does the decoder.
    """
    from PIL import BmpImagePlugin, WebPImagePlugin
    from PIL.Image import DecompressionBombError

    if name == "webp" and len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise ImageError("the WebP is cut short; fetch it again")
    kinds = {"webp": WebPImagePlugin.WebPImageFile, "bmp": BmpImagePlugin.BmpImageFile}
    damaged = f"the {name.upper()} is damaged or cut short; fetch it again"
    try:
        opened = kinds[name](io.BytesIO(data))
    except (*DAMAGE, DecompressionBombError) as error:
        raise ImageError(damaged) from error
    info = _info(name, data, opened)

    def decode() -> Image:
        try:
            opened.load()
            found = opened.convert({1: "L", 3: "RGB", 4: "RGBA"}[info.channels])
        except DAMAGE as error:
            raise ImageError(damaged) from error
        return Image(np.array(found).reshape(info.height, info.width, -1), info.metadata)

    return info, decode


def _info(name: str, data: bytes, opened: ImageFile.ImageFile) -> Info:
    """What the header says, unless it promises more pixels than the file can hold."""
    (width, height), mode, info = opened.size, opened.mode, opened.info
    most = len(data) * 8 // {"RGB": 16, "RGBA": 32}.get(mode, 1)
    if name == "bmp" and width * height > most and info.get("compression") not in CODED:
        raise ImageError(f"the BMP is cut short: it cannot hold {width} x {height}; fetch it again")
    metadata = Metadata(
        name,
        icc=info.get("icc_profile"),
        exif=info.get("exif"),
        xmp=info.get("xmp"),
        dpi=info.get("dpi"),
        palette=mode in ("1", "P"),
        bilevel=mode == "1",
    )
    channels = {"1": 1, "L": 1, "RGBA": 4}.get(mode, 3)
    frames = getattr(opened, "n_frames", 1)
    return Info(name, width, height, 8, channels, frames, metadata=metadata)


def save(image: Image, name: str, **options: Any) -> bytes:
    """Encode a picture (8 bit) with its profile, EXIF and XMP.

    Raises:
        ImageError: The encoder refuses it.
    """
    from PIL import Image as PillowImage

    m, buffer = image.metadata, io.BytesIO()
    metadata = {"icc_profile": m.icc or b"", "exif": m.exif or b"", "xmp": m.xmp or b""}
    try:
        pixels = image.pixels[:, :, 0] if image.pixels.shape[2] == 1 else image.pixels
        PillowImage.fromarray(pixels).save(buffer, name, **metadata, **options)
    except (OSError, ValueError, MemoryError, RuntimeError) as error:
        raise ImageError(
            f"{image.width} x {image.height} cannot be written as {name} ({error}); choose -f png"
        ) from error
    return buffer.getvalue()


def encode_webp(image: Image, *, quality: int, lossless: bool) -> bytes:
    """The bytes of a WebP; colour under alpha 0 is kept."""
    return save(image, "WEBP", quality=quality, lossless=lossless, exact=True, method=4)


def encode_avif(image: Image, *, quality: int) -> bytes:
    """The bytes of an AVIF; full colour resolution from 90 on."""
    subsampling = "4:4:4" if quality >= FULL_COLOUR else "4:2:0"
    return save(image, "AVIF", quality=quality, max_threads=THREADS, subsampling=subsampling)
