"""Fit a picture to what a format can hold: depth, alpha, gray, profile, metadata, limits.

Pixels are fitted strip by strip: nothing here depends on more than one pixel.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from upscale import icc
from upscale.errors import ImageError, UsageError
from upscale.image import exif
from upscale.image.metadata import Metadata, fitted, record_of, with_record
from upscale.image.model import FORMATS, Encoding, Format, Image, Pixels, format_of

ROUNDING = 0.5 / 255  # what floating-point values may leave [0, 1] by
MOST_XMP = 65_000  # bytes of a packet that JPEG holds in its one segment
LINEAR = {"hdr"}  # formats of scene-linear light in the primaries of sRGB
DTYPES: dict[int, np.dtype[Any]] = {n: np.dtype(k) for n, k in ((8, "u1"), (16, "u2"), (32, "f4"))}


def full_scale(dtype: np.dtype[Any]) -> float:
    """The value that stands for 1."""
    return {8: 255.0, 16: 65535.0}.get(dtype.itemsize * 8, 1.0)


def _changed(
    pixels: Pixels, change: Callable[[Pixels], Pixels], dtype: np.dtype[Any] | None = None
) -> Pixels:
    """Apply ``change`` (float32, full scale 1, in and out); store the result as ``dtype``."""
    dtype = dtype or pixels.dtype
    with np.errstate(all="ignore"):  # floating-point values may be very large
        value = change(pixels.astype(np.float32) / np.float32(full_scale(pixels.dtype)))
        if dtype != np.float32:
            top = np.float32(full_scale(dtype))
            value = np.floor(np.clip(value, 0, 1) * top + np.float32(0.5))
        return value.astype(dtype)


def to_depth(pixels: Pixels, depth: int) -> Pixels:
    """Convert to 8, 16 or 32 (float) bits: full scale to full scale, rounded half up.

    Raises:
        ImageError: Floating-point values outside [0, 1] cannot become integers.
    """
    if pixels.dtype.itemsize * 8 == depth:
        return pixels
    if pixels.dtype == np.float32:
        low, high = float(pixels.min()), float(pixels.max())
        if low < -ROUNDING or high > 1 + ROUNDING:
            raise ImageError(
                f"floating-point values from {low:g} to {high:g} do not fit in {depth} bits; "
                "choose -f tiff"
            )
    return _changed(pixels, lambda x: x, DTYPES[depth])


def colour_of(name: str) -> tuple[float, float, float]:
    """A colour by name ("white") or as "#rrggbb", in sRGB, 0 to 1.

    Raises:
        UsageError: No such colour.
    """
    from PIL import ImageColor

    try:
        r, g, b = ImageColor.getrgb(name)[:3]
    except ValueError as error:
        raise UsageError(
            f"no colour is named {name!r}; give a name such as white, or #rrggbb"
        ) from error
    return r / 255, g / 255, b / 255


def check_output(
    format: str,  # noqa: A002 - the name of the option
    width: int,
    height: int,
    encoding: Encoding = Encoding(),  # noqa: B008 - frozen
    *,
    has_alpha: bool = False,
) -> Format:
    """Whether a picture of that size can be written so; to be asked before the work.

    ``has_alpha``: it has an alpha that is not opaque throughout.

    Raises:
        ImageError: The format cannot hold it, or its codec is not installed.
        UsageError: The options do not fit the format.
    """
    kind = FORMATS[format_of(format)]
    name = kind.name.upper()
    if not kind.writable:
        raise ImageError(f"{name} is read and not written; choose -f png")
    if kind.needs and importlib.util.find_spec(kind.needs) is None:
        raise ImageError(
            f"writing {name} needs an extra: pip install 'upscale[{kind.name}]', or choose -f png"
        )
    if max(width, height) > kind.max_side:
        others = "-f tiff" if kind.max_side >= FORMATS["png"].max_side else "-f png or -f tiff"
        raise ImageError(
            f"{width} x {height} is too large for {name} (at most {kind.max_side} pixels a side); "
            f"choose {others}, or a smaller size"
        )
    if has_alpha and not kind.alpha and encoding.background is None:
        raise ImageError(
            f"the picture is transparent and {name} holds no alpha; choose a colour to put under "
            "it with --background, or -f png"
        )
    if encoding.background is not None:
        colour_of(encoding.background)
    if encoding.quality is not None and not 1 <= encoding.quality <= 100:
        raise UsageError(f"quality {encoding.quality} is outside 1 to 100")
    if encoding.lossless and not kind.lossless:
        raise UsageError(f"{name} has no lossless form; choose -f png, -f webp or -f tiff")
    return kind


def fit_pixels(image: Image, kind: Format, background: str | None) -> Image:
    """A strip of a picture with pixels that the format holds, and the metadata that follow.

    Raises:
        ImageError: The format cannot hold it: a transparent pixel and no ``background``, or light
            beyond white that would become integers.
    """
    if image.metadata.premultiplied and (kind.name != "tiff" or not image.has_alpha):
        image = straight(image)
    if image.has_alpha and not kind.alpha:
        image = flattened(image, background)
    if kind.name in LINEAR:
        image = _to_linear(image)
    elif image.metadata.icc and ("icc" not in kind.metadata or _too_dark(image, kind)):
        image = to_srgb(image)
    pixels = to_depth(image.pixels, depth_in(kind, image.depth))
    if image.is_gray and not kind.gray:
        pixels = pixels[:, :, [0, 0, 0, 1][: 3 + image.has_alpha]]
    return image.with_pixels(pixels)


def depth_in(kind: Format, depth: int) -> int:
    """Bits of a channel that the format takes for ``depth``: the most that are no more."""
    return max((d for d in kind.depths if d <= depth), default=min(kind.depths))


def _too_dark(image: Image, kind: Format) -> bool:
    """Whether linear light in floating point would become integers, which have no room for dark."""
    profile = icc.parse(image.metadata.icc) if image.metadata.icc else None
    return bool(profile and profile.is_linear and image.depth == 32 and 32 not in kind.depths)


def divided(colour: Pixels, alpha: Pixels) -> Pixels:
    """Premultiplied colour divided by its alpha, floating; 0 where that is 0."""
    return np.where(alpha > 0, colour / np.maximum(alpha, 1e-9), 0)


def straight(image: Image) -> Image:
    """Colour divided by alpha, where it was multiplied."""

    def divide(x: Pixels) -> Pixels:
        alpha = x[:, :, -1:]
        return np.concatenate([divided(x[:, :, :-1], alpha), alpha], 2)

    pixels = _changed(image.pixels, divide) if image.has_alpha else image.pixels
    return image.with_pixels(pixels).with_metadata(premultiplied=False)


def flattened(image: Image, background: str | None) -> Image:
    """The picture over a colour, without alpha; blended in its own encoding, as viewers do.

    Raises:
        ImageError: It is transparent and no colour is given.
    """
    if background is None:
        if image.pixels[:, :, -1].min() < full_scale(image.pixels.dtype):
            raise ImageError("the picture is transparent; choose a --background, or -f png")
        return image.with_pixels(np.ascontiguousarray(image.pixels[:, :, :-1]))
    under = np.array(colour_of(background), np.float32)
    if image.is_gray and not (under == under[0]).all():
        image = image.with_pixels(image.pixels[:, :, [0, 0, 0, 1]])
    under = under[: image.pixels.shape[2] - 1]
    if image.metadata.icc:
        under = icc.parse(image.metadata.icc).from_srgb(under)

    def blend(x: Pixels) -> Pixels:
        alpha = x[:, :, -1:]
        return np.asarray(x[:, :, :-1] * alpha + under * (1 - alpha))

    return image.with_pixels(_changed(image.pixels, blend))


def _colour(image: Image, change: Callable[[Pixels], Pixels], depth: int) -> Image:
    """Change the colour channels and leave alpha."""
    colours = image.pixels.shape[2] - image.has_alpha

    def both(x: Pixels) -> Pixels:
        return np.concatenate([change(x[:, :, :colours]), x[:, :, colours:]], 2)

    return image.with_pixels(_changed(image.pixels, both, DTYPES[depth]))


def to_srgb(image: Image) -> Image:
    """The picture in sRGB and without profile; colours outside sRGB are clipped (integers)."""
    if not image.metadata.icc:
        return image
    profile = icc.parse(image.metadata.icc)
    done = image if profile.is_srgb else _colour(image, profile.to_srgb, image.depth)
    return done.with_metadata(icc=None)


def _to_linear(image: Image) -> Image:
    """Linear light in the primaries of sRGB, as floating point."""
    profile = icc.parse(image.metadata.icc) if image.metadata.icc else None

    def change(x: Pixels) -> Pixels:
        return icc.srgb_decode(x if profile is None else profile.to_srgb(x))

    return _colour(image, change, 32).with_metadata(icc=None)


def fit_metadata(m: Metadata, size: tuple[int, int], kind: Format) -> Metadata:
    """The metadata that the format holds, with the dimensions of the picture (width, height)."""
    done = fitted(m, size, kind.metadata, kind.name)
    if kind.name == "jpeg" and done.xmp and len(done.xmp) > MOST_XMP:
        record = record_of(done.xmp)
        done = replace(done, xmp=with_record(None, record) if record else None)
    return done


def losses(image: Image, format: str) -> tuple[str, ...]:  # noqa: A002
    """What ``image`` has and the format cannot hold, one sentence each, for a warning."""
    kind, m, out = FORMATS[format], image.metadata, []
    name = kind.name.upper()
    ours = {"exif": bool(m.exif) and exif.is_ours(m.exif or b"")}
    labels = (("exif", "EXIF"), ("xmp", "XMP (with the provenance)"), ("iptc", "IPTC"))
    for field, label in (*labels, ("photoshop", "resources of Photoshop")):
        if getattr(m, field) and field not in kind.metadata and not ours.get(field):
            out.append(f"{name} holds no {label}: left out")
    if m.xmp and kind.name == "jpeg" and len(m.xmp) > MOST_XMP:
        out.append(f"JPEG holds no XMP of {len(m.xmp)} bytes: left out but for the provenance")
    if m.format != kind.name:
        lost = sorted({label for label, _, _ in m.native if label})
        out += [f"{name} holds no {', '.join(lost)}: left out"] if lost else []
    if m.text and "text" not in kind.metadata:
        out.append(f"{name} holds no text or comment: left out")
    elif kind.name == "jpeg" and any(keyword != "Comment" for keyword, _ in m.text):
        out.append("JPEG holds comments and no other text: left out")
    if m.dpi and not {"dpi", "exif"} & kind.metadata:
        out.append(f"{name} holds no resolution: left out")
    if m.icc and "icc" not in kind.metadata and kind.name not in LINEAR:
        out.append(f"{name} holds no ICC profile: converted to sRGB")
    if m.cmyk and kind.name not in ("jpeg", "tiff"):
        out.append(f"{name} holds no CMYK: written as sRGB")
    if image.depth not in kind.depths:
        depth = depth_in(kind, image.depth)
        out.append(f"{name} holds no {image.depth} bits a channel: written with {depth}")
    return tuple(out)
