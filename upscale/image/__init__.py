"""Pictures: ``open`` gives a ``Reader``, ``create`` a ``Writer``; numpy only."""

from upscale.image.describe import describe
from upscale.image.fit import to_depth
from upscale.image.model import FORMATS, MAX_PIXELS, Encoding, Image, Info, Pixels, format_of
from upscale.image.pages import Page, Pages, create_pages
from upscale.image.reader import Reader, check_input, decode, of_image, open, probe  # noqa: A004
from upscale.image.series import Series
from upscale.image.writer import create, encode
from upscale.metadata import Metadata, provenance, strip_metadata, with_provenance

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "Encoding",
    "Image",
    "Info",
    "Metadata",
    "Page",
    "Pages",
    "Pixels",
    "Reader",
    "Series",
    "check_input",
    "create",
    "create_pages",
    "decode",
    "describe",
    "encode",
    "format_of",
    "of_image",
    "open",
    "probe",
    "provenance",
    "strip_metadata",
    "to_depth",
    "with_provenance",
]
