"""Metadata as a file holds them to those of an upright picture with a profile that can be used."""

from __future__ import annotations

from dataclasses import replace

from upscale import icc
from upscale.errors import ImageError
from upscale.metadata import exif, xmp
from upscale.metadata.fields import Metadata
from upscale.metadata.png import HDR_CURVES

TURNED_BY_DECODER = {"avif", "jxl"}


def settled(m: Metadata, gray: bool, assume_icc: bytes | None) -> Metadata:
    """EXIF and XMP turned upright, the profile checked; ``orientation`` says what is to be done."""
    notes = list(m.notes)
    found = exif.read(m.exif) if m.exif else exif.Exif(None)
    notes += [found.note] if found.note else []
    orientation = m.orientation if m.orientation != 1 else found.orientation
    if m.format in TURNED_BY_DECODER:
        orientation = 1
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
    curve = HDR_CURVES.get(icc.hdr_curve(profile))
    if curve:
        raise ImageError(
            f"this is an HDR picture with transfer curve {curve}, which the networks do not know; "
            "tone-map it to sRGB first"
        )
    try:
        found = icc.parse(profile)
        if found.space != "CMYK":
            found.is_srgb  # noqa: B018 - look-up tables are tried once
    except ImageError:
        notes.append("damaged ICC profile left out; sRGB taken")
        return None
    if found.space == "CMYK" or (found.space == "GRAY" and not gray):
        notes.append(f"ICC profile of {found.space} left out, the picture is not; sRGB taken")
        return None
    return profile
