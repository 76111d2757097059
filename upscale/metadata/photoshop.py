"""Photoshop image resources ("8BIM"), the envelope of IPTC records in JPEG and PNG."""

from __future__ import annotations

import struct

IPTC_RESOURCE = 0x0404


def iptc_of(data: bytes) -> bytes | None:
    """The IPTC-IIM records among image resources; None where there are none."""
    at = 0
    while at + 12 <= len(data) and data[at : at + 4] == b"8BIM":
        kind = int.from_bytes(data[at + 4 : at + 6], "big")
        name = 1 + data[at + 6]
        at += 6 + name + name % 2
        size = int.from_bytes(data[at : at + 4], "big")
        if kind == IPTC_RESOURCE:
            return data[at + 4 : at + 4 + size] or None
        at += 4 + size + size % 2
    return None


def resources(iptc: bytes) -> bytes:
    """IPTC-IIM records as one image resource."""
    head = b"8BIM" + struct.pack(">HHI", IPTC_RESOURCE, 0, len(iptc))
    return head + iptc + b"\0" * (len(iptc) % 2)
