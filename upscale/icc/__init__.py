"""ICC profiles: bytes to a ``Profile`` (``parse``), which goes to sRGB and back; numpy only.

Comes in: the bytes of a profile, pixels (..., C) in [0, 1]. Goes out: pixels in sRGB, or in the
profile. First to open: ``profile.py``; tables and CMYK go through littleCMS there, loaded where
it is needed. ``builder.py`` writes profiles.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from upscale.icc.builder import (
        CODED_CURVES,
        CODED_PRIMARIES,
        D50,
        D65,
        PRIMARIES,
        SRGB_CURVE,
        build,
    )
    from upscale.icc.profile import (
        Curve,
        Profile,
        cmyk_profile,
        hdr_curve,
        inks_to_rgb,
        parse,
        rgb_to_inks,
        srgb_decode,
        srgb_encode,
        to_linear_srgb,
    )

BUILDER = {"CODED_CURVES", "CODED_PRIMARIES", "D50", "D65", "PRIMARIES", "SRGB_CURVE", "build"}

__all__ = [
    "CODED_CURVES",
    "CODED_PRIMARIES",
    "D50",
    "D65",
    "PRIMARIES",
    "SRGB_CURVE",
    "Curve",
    "Profile",
    "build",
    "cmyk_profile",
    "hdr_curve",
    "inks_to_rgb",
    "parse",
    "rgb_to_inks",
    "srgb_decode",
    "srgb_encode",
    "to_linear_srgb",
]


def __getattr__(name: str) -> Any:
    """A name from its module, which pictures without a profile do without (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    home = "builder" if name in BUILDER else "profile"
    return getattr(import_module(f"{__name__}.{home}"), name)
