"""TIFF 6.0 and BigTIFF: structure by tifffile, pixels by it or, for LZW and JPEG, by OpenCV."""

from __future__ import annotations

import io

import numpy as np
import tifffile

from upscale.errors import ImageError
from upscale.image.model import Image, Info, Metadata, check_size


def probe(data: bytes) -> Info:
    """What the first directory says."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        channels = page.samplesperpixel
        return Info(
            "tiff",
            page.imagewidth,
            page.imagelength,
            page.bitspersample,
            channels,
            len(file.pages),
            metadata=Metadata("tiff"),
        )


def decode(data: bytes, max_pixels: int) -> Image:
    """Bytes of a TIFF to a picture."""
    try:
        info = probe(data)
        check_size(info.width, info.height, max_pixels)
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            pixels = file.pages[0].asarray()
    except (ValueError, tifffile.TiffFileError, IndexError, KeyError, TypeError) as error:
        raise ImageError(f"the TIFF cannot be read ({error}); save it again") from error
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    return Image(np.ascontiguousarray(pixels), info.metadata)


def encode(image: Image) -> bytes:
    """A picture to the bytes of a TIFF (Deflate with prediction; BigTIFF from 4 GB on)."""
    p = image.pixels
    buffer = io.BytesIO()
    gray = p.shape[2] <= 2
    tifffile.imwrite(
        buffer,
        p[:, :, 0] if p.shape[2] == 1 else p,
        photometric="minisblack" if gray else "rgb",
        extrasamples=["unassalpha"] if image.has_alpha else None,
        planarconfig=None if p.shape[2] == 1 else "contig",
        compression="adobe_deflate",
        predictor=True,
        bigtiff=p.nbytes > 2**32 - 2**25,
        metadata=None,
    )
    return buffer.getvalue()
