"""Bytes to a picture and back: which format it is, and what holds for every format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from upscale.errors import ImageError
from upscale.image import (
    avif,
    bmp,
    cmyk,
    exif,
    exr,
    gif,
    icc,
    jpeg,
    jxl,
    netpbm,
    png,
    radiance,
    tiff,
    tiff_write,
    webp,
    xmp,
)
from upscale.image.fit import check_output, fit_metadata, fit_pixels, transparent
from upscale.image.identify import identify
from upscale.image.model import MAX_PIXELS, Image, Info, Metadata, Pixels
from upscale.image.png_meta import HDR_CURVES
from upscale.image.profile import hdr_curve, parse

DECODERS: dict[str, Callable[[bytes, int, bytes | None], Image]] = {
    "png": png.decode,
    "jpeg": jpeg.decode,
    "webp": webp.decode,
    "tiff": tiff.decode,
    "bmp": bmp.decode,
    "gif": gif.decode,
    "ppm": netpbm.decode,
    "avif": avif.decode,
    "hdr": radiance.decode,
    "exr": exr.decode,
    "jxl": jxl.decode,
}
PROBES: dict[str, Callable[[bytes], Info]] = {
    "png": png.probe,
    "jpeg": jpeg.probe,
    "webp": webp.probe,
    "tiff": tiff.probe,
    "bmp": bmp.probe,
    "gif": gif.probe,
    "ppm": netpbm.probe,
    "avif": avif.probe,
    "hdr": radiance.probe,
    "exr": exr.probe,
    "jxl": jxl.probe,
}

LARGEST = 1e30  # of floating-point values
PLAIN: dict[str, Callable[[Image], bytes]] = {
    "tiff": tiff_write.encode,
    "bmp": bmp.encode,
    "ppm": netpbm.encode,
    "hdr": radiance.encode,
    "exr": exr.encode,
}


def probe(data: bytes) -> Info:
    """What the header of a picture says, without decoding a pixel.

    Raises:
        ImageError: No picture, or damaged.
    """
    info = PROBES[identify(data)](data)
    return replace(info, metadata=settled(info.metadata, info.channels <= 2, None))


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS, assume_icc: bytes | None = None) -> Image:
    """Decode a picture; the format is told by its content, the result is upright.

    Args:
        data: The bytes of the file.
        max_pixels: Largest width times height that is accepted.
        assume_icc: The ICC profile of a picture that carries none.

    Raises:
        ImageError: Damaged, truncated, unknown, too large, or something that would be flattened.
    """
    with np.errstate(all="ignore"):  # what is no number is refused below
        image = DECODERS[identify(data)](data, max_pixels, assume_icc)
    if image.pixels.dtype == np.float32:
        check_values(image.pixels)
    metadata = settled(image.metadata, image.is_gray, assume_icc)
    pixels = upright(image.pixels, metadata.orientation)
    return Image(pixels, replace(metadata, orientation=1))


def check_values(pixels: Pixels, top: int = 0) -> None:
    """Refuse what is no number, and numbers with which nothing can be computed.

    Args:
        pixels: Rows (h, W, C).
        top: The row of the picture that is their first.

    Raises:
        ImageError: With the place and the value.
    """
    strange = ~(np.abs(pixels) <= LARGEST)
    if strange.any():
        y, x = np.argwhere(strange.any(2))[0]
        value = pixels[y, x][strange[y, x]][0]
        raise ImageError(f"the value at column {x}, row {top + y} is {value:g}; replace it first")


def settled(m: Metadata, gray: bool, assume_icc: bytes | None) -> Metadata:
    """EXIF and XMP turned upright, the profile checked; ``orientation`` says what is to be done."""
    notes = list(m.notes)
    found = exif.read(m.exif) if m.exif else exif.Exif(None)
    notes += [found.note] if found.note else []
    orientation = m.orientation if m.orientation != 1 else found.orientation
    dpi = m.dpi or found.dpi
    profile = m.icc or (None if m.cmyk else assume_icc)
    if profile:
        profile = _checked(profile, gray, notes)
    elif found.adobe_rgb and not m.cmyk and not gray:
        profile = icc.build("Adobe RGB (1998)", icc.PRIMARIES["adobe"], (563 / 256,))
    return replace(
        m,
        icc=profile,
        exif=found.block,
        xmp=xmp.upright(m.xmp) if m.xmp else None,
        dpi=(dpi[1], dpi[0]) if dpi and orientation > 4 else dpi,
        orientation=orientation,
        notes=tuple(notes),
    )


def _checked(profile: bytes, gray: bool, notes: list[str]) -> bytes | None:
    """The profile, or None and a note where it is damaged or of another colour space."""
    if hdr_curve(profile) in HDR_CURVES:
        raise ImageError(
            f"this is an HDR picture with transfer curve {HDR_CURVES[hdr_curve(profile)]}, which "
            "the networks do not know; tone-map it to sRGB first"
        )
    try:
        space = parse(profile).space
        if parse(profile).space != "CMYK":
            parse(profile).is_srgb  # noqa: B018 - look-up tables are tried once
    except ImageError:
        notes.append("damaged ICC profile left out; sRGB taken")
        return None
    if space == "CMYK" or (space == "GRAY" and not gray):
        notes.append(f"ICC profile of {space} left out, the picture is not; sRGB taken")
        return None
    return profile


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turn (H, W, C) as EXIF orientation 1 to 8 asks."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def encode(
    image: Image,
    format: str,  # noqa: A002 - the name of the option
    *,
    quality: int | None = None,
    lossless: bool = False,
    background: str | None = None,
    palette: bool = False,
) -> bytes:
    """Encode a picture.

    Args:
        image: What to write; depth, channels and metadata are fitted to the format (``losses``
            tells what is left out).
        format: A key of ``FORMATS``, an extension, or a path.
        quality: 1 to 100; None: the format's default.
        lossless: Write WebP or JPEG XL without loss.
        background: A colour ("white", "#rrggbb") to put under alpha where the format holds none.
        palette: Write a PNG of 256 colours.

    Raises:
        ImageError: The format cannot hold the picture.
        UsageError: The options do not fit the format.
    """
    kind = check_output(
        format,
        image.width,
        image.height,
        has_alpha=transparent(image),
        background=background,
        quality=quality,
        lossless=lossless,
    )
    effort = quality or kind.quality or 0
    fitted = fit_pixels(image, kind, background)
    size = (fitted.width, fitted.height)
    ready = Image(fitted.pixels, fit_metadata(fitted.metadata, size, kind))
    if image.metadata.cmyk and kind.name in ("jpeg", "tiff") and not ready.has_alpha:
        return _encode_cmyk(ready, kind.name, effort)
    if kind.name == "png":
        return png.encode(ready, palette=palette)
    if kind.name == "jpeg":
        return jpeg.encode(ready, effort)
    if kind.name == "avif":
        return avif.encode(ready, quality=effort)
    if kind.name == "webp":
        return webp.encode(ready, quality=effort, lossless=lossless)
    if kind.name == "jxl":
        return jxl.encode(ready, quality=effort, lossless=lossless)
    return PLAIN[kind.name](ready)


def _encode_cmyk(image: Image, name: str, quality: int) -> bytes:
    """Separate again by the profile that the picture came with."""
    separations = cmyk.from_rgb(image)
    tagged = image.with_metadata(icc=image.metadata.cmyk)
    if name == "jpeg":
        return jpeg.encode_cmyk(tagged, separations, quality)
    return tiff_write.encode_cmyk(tagged, separations)
