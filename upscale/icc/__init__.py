"""ICC profiles: read, built, and applied to and from sRGB; numpy only."""

from upscale.icc.builder import D50, D65, PRIMARIES, SRGB_CURVE, build, build_gray
from upscale.icc.cms import transform
from upscale.icc.parser import hdr_curve, parse
from upscale.icc.profile import Curve, Profile, srgb_decode, srgb_encode, to_linear_srgb

__all__ = [
    "D50",
    "D65",
    "PRIMARIES",
    "SRGB_CURVE",
    "Curve",
    "Profile",
    "build",
    "build_gray",
    "hdr_curve",
    "parse",
    "srgb_decode",
    "srgb_encode",
    "to_linear_srgb",
    "transform",
]
