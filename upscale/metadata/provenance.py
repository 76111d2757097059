"""Where a picture comes from: written into EXIF and XMP, read back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from upscale.metadata import exif, xmp
from upscale.metadata.fields import Metadata

MOST_PREVIOUS = 8  # earlier records that are kept, each inside the next


def with_provenance(m: Metadata, record: dict[str, Any]) -> Metadata:
    """The metadata with a record of how the picture was made.

    The EXIF and TIFF tag Software is set to the record's ``software`` (name and version); the
    record goes into the XMP packet as JSON. A record that was there moves into ``previous``, the
    former Software into ``previous_software``.

    Args:
        m: Of the picture.
        record: What JSON can hold; ``software`` is expected, the rest is up to the caller.
    """
    values = {k: v for k, v in record.items() if v is not None}
    before = xmp.record(m.xmp)
    if before:
        values["previous"] = _shallow(before, MOST_PREVIOUS - 1)
    elif m.exif and exif.software(m.exif):
        values["previous_software"] = exif.software(m.exif)
    name = str(record.get("software", "upscale"))
    return replace(m, exif=exif.with_software(m.exif, name), xmp=xmp.with_record(m.xmp, values))


def _shallow(record: dict[str, Any], depth: int) -> dict[str, Any]:
    """The record with at most ``depth`` earlier ones inside."""
    inner = record.get("previous")
    rest = {k: v for k, v in record.items() if k != "previous"}
    if depth > 0 and isinstance(inner, dict):
        rest["previous"] = _shallow(inner, depth - 1)
    return rest


def provenance(m: Metadata) -> dict[str, Any] | None:
    """The record that ``with_provenance`` wrote; None where there is none."""
    return xmp.record(m.xmp)


def strip_metadata(m: Metadata) -> Metadata:
    """Without EXIF, XMP (and so provenance), IPTC and text; profile and DPI stay."""
    return replace(m, exif=None, xmp=None, iptc=None, text=())
