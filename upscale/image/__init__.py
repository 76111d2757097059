"""Pictures: ``decode`` bytes to an ``Image``, ``encode`` it back, numpy only."""

from upscale.image.codec import decode, encode, identify, probe, to_depth
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

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "Format",
    "Image",
    "Info",
    "Metadata",
    "Pixels",
    "check_size",
    "decode",
    "encode",
    "format_of",
    "identify",
    "probe",
    "to_depth",
]
