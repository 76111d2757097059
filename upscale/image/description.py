"""What a picture file is, in words and numbers, for ``upscale info``."""

from __future__ import annotations

from typing import Any

from upscale.errors import ImageError
from upscale.icc import parse
from upscale.image import exif
from upscale.image.metadata import Metadata, provenance
from upscale.image.reader import probe

COLOURS = {1: "gray", 2: "gray + alpha", 3: "RGB", 4: "RGB + alpha"}


def describe(data: bytes) -> dict[str, Any]:
    """Describe the bytes of a picture file without decoding its pixels.

    Returns:
        ``format, width, height`` (upright), ``depth`` (bits per channel; 32: floating point),
        ``colour, kind, frames, orientation, profile, dpi, metadata`` (kinds that it carries),
        ``software, notes, provenance`` (what ``with_provenance`` wrote, else None).

    Raises:
        ImageError: No picture, or damaged.
    """
    info = probe(data)
    m = info.metadata
    width, height = (info.width, info.height)[:: -1 if m.orientation > 4 else 1]
    return {
        "format": info.format,
        "width": width,
        "height": height,
        "depth": info.depth,
        "colour": COLOURS[info.channels],
        "kind": info.kind,
        "frames": info.frames,
        "orientation": m.orientation,
        "profile": _profile(m),
        "dpi": [round(v, 2) for v in m.dpi] if m.dpi else None,
        "metadata": [
            k
            for k in ("icc", "exif", "xmp", "iptc", "photoshop", "text", "native")
            if getattr(m, k)
        ],
        "software": exif.software(m.exif) if m.exif else "",
        "notes": list(m.notes),
        "provenance": provenance(m),
    }


def _profile(m: Metadata) -> str:
    """The name of the profile; sRGB where there is none."""
    data = m.icc or m.cmyk
    if data is None:
        return "none (sRGB)"
    try:
        profile = parse(data)
    except ImageError:
        return "damaged"
    return profile.description or f"unnamed {profile.space}"
