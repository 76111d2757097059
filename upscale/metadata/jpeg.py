"""The segments of a JPEG that hold metadata: EXIF, XMP and its extension, ICC, IPTC, comments."""

from __future__ import annotations

import hashlib
import re
import struct

from upscale.errors import ImageError
from upscale.metadata.exif import PREFIX as EXIF
from upscale.metadata.fields import Metadata
from upscale.metadata.photoshop import iptc_of, resources

XMP = b"http://ns.adobe.com/xap/1.0/\0"
XMP_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
ICC = b"ICC_PROFILE\0"
PHOTOSHOP = b"Photoshop 3.0\0"
LARGEST = 65533  # bytes of content that one segment holds
HAS_EXTENSION = re.compile(r'xmpNote:HasExtendedXMP\s*=\s*"([0-9A-Fa-f]{32})"')

Segment = tuple[int, bytes]  # marker, content


def segment(marker: int, body: bytes) -> bytes:
    """A segment with its marker and length."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def read(app: list[Segment]) -> Metadata:
    """Profile, EXIF, XMP, IPTC, resolution and comment."""
    notes: list[str] = []
    exif = next((b for m, b in app if m == 0xE1 and b.startswith(EXIF)), None)
    photoshop = b"".join(
        b[len(PHOTOSHOP) :] for m, b in app if m == 0xED and b.startswith(PHOTOSHOP)
    )
    text = tuple(
        ("Comment", b.rstrip(b"\0").decode("utf-8", "replace")) for m, b in app if m == 0xFE
    )
    if any(m == 0xE2 and b.startswith(b"MPF\0") for m, b in app):
        notes.append("further pictures in the file (gain map, preview or stereo) left out")
    if any(m == 0xEB and b[:2] == b"JP" for m, b in app):
        notes.append("content credentials (C2PA) left out: they vouch for other pixels")
    return Metadata(
        format="jpeg",
        icc=_icc(app, notes),
        exif=exif,
        xmp=_xmp(app),
        iptc=iptc_of(photoshop),
        dpi=_density(app),
        text=text,
        notes=tuple(notes),
    )


def _density(app: list[Segment]) -> tuple[float, float] | None:
    for marker, body in app:
        if marker == 0xE0 and body[:5] == b"JFIF\0" and len(body) >= 12:
            unit, x, y = struct.unpack(">BHH", body[7:12])
            factor = {1: 1.0, 2: 2.54}.get(unit)
            if factor and x and y:
                return (x * factor, y * factor)
    return None


def _icc(app: list[Segment], notes: list[str]) -> bytes | None:
    parts: dict[int, bytes] = {}
    total = 0
    for marker, body in app:
        if marker == 0xE2 and body.startswith(ICC) and len(body) > len(ICC) + 2:
            number, total = body[len(ICC)], body[len(ICC) + 1]
            parts[number] = body[len(ICC) + 2 :]
    if not parts:
        return None
    if sorted(parts) != list(range(1, total + 1)):
        notes.append("damaged ICC profile left out; sRGB taken")
        return None
    return b"".join(parts[i] for i in sorted(parts))


def _xmp(app: list[Segment]) -> bytes | None:
    """The packet; where an extension belongs to it, the properties of both in one packet."""
    packet = next((b[len(XMP) :] for m, b in app if m == 0xE1 and b.startswith(XMP)), None)
    if packet is None:
        return None
    text = packet.decode("utf-8", "replace")
    match = HAS_EXTENSION.search(text)
    if match is None:
        return packet
    extension = _extension(app, match[1].encode()).decode("utf-8", "replace")
    start = extension.find(">", extension.find("<rdf:RDF")) + 1
    inner = extension[start : max(start, extension.rfind("</rdf:RDF"))] if start else ""
    end = text.rfind("</rdf:RDF")
    text = text[:end] + inner + text[end:] if end >= 0 else text
    return HAS_EXTENSION.sub("", text).encode()


def _extension(app: list[Segment], digest: bytes) -> bytes:
    parts = {}
    for marker, body in app:
        if marker != 0xE1 or not body.startswith(XMP_EXTENSION):
            continue
        rest = body[len(XMP_EXTENSION) :]
        if len(rest) > 40 and rest[:32].upper() == digest.upper():
            parts[int.from_bytes(rest[36:40], "big")] = rest[40:]
    return b"".join(parts[offset] for offset in sorted(parts))


def write(metadata: Metadata) -> bytes:
    """The segments of the metadata.

    Raises:
        ImageError: The EXIF block is larger than a JPEG can hold.
    """
    out: list[Segment] = []
    if metadata.exif:
        if len(metadata.exif) + len(EXIF) > LARGEST:
            raise ImageError(
                f"the EXIF block of {len(metadata.exif)} bytes does not fit in a JPEG (65 kB); "
                "choose -f png, or --strip-metadata"
            )
        out.append((0xE1, EXIF + metadata.exif))
    out += _write_xmp(metadata.xmp) if metadata.xmp else []
    if metadata.icc:
        step = LARGEST - len(ICC) - 2
        parts = [metadata.icc[i : i + step] for i in range(0, len(metadata.icc), step)]
        if len(parts) > 255:
            raise ImageError(
                f"the ICC profile of {len(metadata.icc)} bytes does not fit in a "
                "JPEG; choose -f png"
            )
        out += [(0xE2, ICC + bytes([i + 1, len(parts)]) + part) for i, part in enumerate(parts)]
    if metadata.iptc:
        body = PHOTOSHOP + resources(metadata.iptc)
        out += [(0xED, body)] if len(body) <= LARGEST else []
    out += [(0xFE, v.encode()[:LARGEST]) for k, v in metadata.text if k == "Comment"]
    return b"".join(segment(marker, body) for marker, body in out)


def _write_xmp(packet: bytes) -> list[Segment]:
    if len(XMP) + len(packet) <= LARGEST:
        return [(0xE1, XMP + packet)]
    digest = hashlib.md5(packet, usedforsecurity=False).hexdigest().upper().encode()
    stub = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
        b'syntax-ns#"><rdf:Description rdf:about="" xmlns:xmpNote="http://ns.adobe.com/xmp/note/" '
        b'xmpNote:HasExtendedXMP="' + digest + b'"/></rdf:RDF></x:xmpmeta>'
    )
    step = 65000
    parts: list[Segment] = [(0xE1, XMP + stub)]
    for at in range(0, len(packet), step):
        head = XMP_EXTENSION + digest + struct.pack(">II", len(packet), at)
        parts.append((0xE1, head + packet[at : at + step]))
    return parts
