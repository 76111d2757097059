"""EXIF, XMP, IPTC and the rest that travels with pixels, and how each kind of file holds it."""

from upscale.metadata.fields import Metadata
from upscale.metadata.provenance import provenance, strip_metadata, with_provenance

__all__ = ["Metadata", "provenance", "strip_metadata", "with_provenance"]
