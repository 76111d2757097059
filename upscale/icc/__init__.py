"""ICC profiles: bytes to a ``Profile`` (``parse``), which goes to sRGB and back; numpy only.

Comes in: the bytes of a profile, pixels (..., C) in [0, 1]. Goes out: pixels in sRGB, or in the
profile. First to open: ``profile.py``. ``builder.py`` writes profiles, ``cms.py`` (littleCMS,
loaded where it is needed) takes tables and CMYK.
"""

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
    parse,
    srgb_decode,
    srgb_encode,
    to_linear_srgb,
)

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
    "parse",
    "srgb_decode",
    "srgb_encode",
    "to_linear_srgb",
]
