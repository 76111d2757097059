"""Pictures in and out: ``open`` gives a ``Reader``, ``create`` a ``Writer``; numpy only.

Comes in: a file or its bytes, of any format in ``FORMATS``. Goes out: rows (h, W, C) from top to
bottom, and ``Metadata``; and back. First to open: ``reader.py``, beside it ``writer.py``. A format
has one file, pixels and metadata together; those that Pillow carries are in ``pillow.py``.
"""

from typing import TYPE_CHECKING, Any

from upscale.image.fit import to_depth
from upscale.image.metadata import Metadata, provenance, strip_metadata, with_provenance
from upscale.image.model import (
    FORMATS,
    MAX_PIXELS,
    UNREAD,
    Encoding,
    Image,
    Info,
    Pixels,
    format_of,
)
from upscale.image.reader import (
    Reader,
    check_input,
    decode,
    of_image,
    open,  # noqa: A004
    probe,
)
from upscale.image.writer import create, encode

if TYPE_CHECKING:
    from upscale.image.description import describe
    from upscale.image.pages import Page, Pages, create_pages
    from upscale.image.pillow import from_pillow, to_pillow
    from upscale.image.series import Series

LATER = {  # loaded where they are asked for
    "Page": "pages",
    "Pages": "pages",
    "Series": "series",
    "create_pages": "pages",
    "describe": "description",
    "from_pillow": "pillow",
    "to_pillow": "pillow",
}


def __getattr__(name: str) -> Any:
    if name not in LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{LATER[name]}"), name)


__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "UNREAD",
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
    "from_pillow",
    "of_image",
    "open",
    "probe",
    "provenance",
    "strip_metadata",
    "to_depth",
    "to_pillow",
    "with_provenance",
]
