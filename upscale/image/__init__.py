"""Pictures: ``decode`` bytes to an ``Image``, ``encode`` it back, numpy only."""

from upscale.image.codec import decode, encode, probe, upright
from upscale.image.describe import describe
from upscale.image.fit import check_output, losses, to_depth, to_srgb
from upscale.image.identify import identify
from upscale.image.model import (
    FORMATS,
    MAX_PIXELS,
    Format,
    Image,
    Info,
    Metadata,
    Pixels,
    check_size,
    format_of,
)
from upscale.image.provenance import provenance, strip_metadata, with_provenance

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "Format",
    "Image",
    "Info",
    "Metadata",
    "Pixels",
    "check_output",
    "check_size",
    "decode",
    "describe",
    "encode",
    "format_of",
    "identify",
    "losses",
    "probe",
    "provenance",
    "strip_metadata",
    "to_depth",
    "to_srgb",
    "upright",
    "with_provenance",
]
