"""Pictures: ``open`` gives a ``Reader``, ``create`` a ``Writer``; numpy only."""

from upscale.image.describe import describe
from upscale.image.fit import check_output, losses, to_depth, to_srgb
from upscale.image.identify import identify
from upscale.image.model import (
    FORMATS,
    MAX_PIXELS,
    Format,
    Image,
    Info,
    Pixels,
    check_size,
    format_of,
)
from upscale.image.reader import (
    Reader,
    check_input,
    decode,
    of_image,
    open,  # noqa: A004 - image.open
    probe,
)
from upscale.image.trailing import another
from upscale.image.writer import Writer, create, encode
from upscale.metadata import Metadata, provenance, strip_metadata, with_provenance

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "Format",
    "Image",
    "Info",
    "Metadata",
    "Pixels",
    "Reader",
    "Writer",
    "another",
    "check_input",
    "check_output",
    "check_size",
    "create",
    "decode",
    "describe",
    "encode",
    "format_of",
    "identify",
    "losses",
    "of_image",
    "open",
    "probe",
    "provenance",
    "strip_metadata",
    "to_depth",
    "to_srgb",
    "with_provenance",
]
