"""Where a picture comes from: written into EXIF and XMP, read back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol, TypeVar

from upscale.metadata import exif, xmp
from upscale.metadata.fields import Metadata


class Carrier(Protocol):
    """What has metadata: a picture."""

    @property
    def metadata(self) -> Metadata:
        """What it has."""

    def with_metadata(self, **changes: Any) -> Any:
        """The same with some fields changed."""


Picture = TypeVar("Picture", bound=Metadata | Carrier)

MOST_PREVIOUS = 8  # earlier records that are kept, each inside the next


def with_provenance(picture: Picture, record: dict[str, Any]) -> Picture:
    """The picture, or its metadata, with a record of how it was made.

    The EXIF and TIFF tag Software is set to the record's ``software`` (name and version); the
    record goes into the XMP packet as JSON. A record that was there moves into ``previous``, the
    former Software into ``previous_software``.

    Args:
        picture: The picture, or its metadata.
        record: What JSON can hold; ``software`` is expected, the rest is up to the caller.
    """
    m = _metadata_of(picture)
    values = {k: v for k, v in record.items() if v is not None}
    before = xmp.record(m.xmp)
    if before:
        values["previous"] = _shallow(before, MOST_PREVIOUS - 1)
    elif m.exif and exif.software(m.exif):
        values["previous_software"] = exif.software(m.exif)
    name = str(record.get("software", "upscale"))
    return _changed(
        picture, exif=exif.with_software(m.exif, name), xmp=xmp.with_record(m.xmp, values)
    )


def _metadata_of(picture: Metadata | Carrier) -> Metadata:
    return picture if isinstance(picture, Metadata) else picture.metadata


def _changed(picture: Picture, **changes: Any) -> Picture:
    if isinstance(picture, Metadata):
        return replace(picture, **changes)
    changed: Picture = picture.with_metadata(**changes)
    return changed


def _shallow(record: dict[str, Any], depth: int) -> dict[str, Any]:
    """The record with at most ``depth`` earlier ones inside."""
    inner = record.get("previous")
    rest = {k: v for k, v in record.items() if k != "previous"}
    if depth > 0 and isinstance(inner, dict):
        rest["previous"] = _shallow(inner, depth - 1)
    return rest


def provenance(picture: Metadata | Carrier) -> dict[str, Any] | None:
    """The record that ``with_provenance`` wrote; None where there is none."""
    return xmp.record(_metadata_of(picture).xmp)


def strip_metadata(picture: Picture) -> Picture:
    """Without EXIF, XMP (and so provenance), IPTC and text; profile and DPI stay."""
    return _changed(picture, exif=None, xmp=None, iptc=None, text=())
