"""The segments of a JPEG (ITU-T T.81): metadata read and written here, the pixels by libvips.

libvips is given the segments that make pixels and Adobe's, which tells the colours. A scan that
ends too early is a warning of libjpeg, and so an error here. libvips looks for warnings before it
decodes a strip of 8 rows, and not behind the last one. So a picture of such strips seems to go on
for one more, which is asked for at the end.
"""

from __future__ import annotations

import hashlib
import re
import struct

from upscale.errors import ImageError
from upscale.image.exif import PREFIX as EXIF
from upscale.image.header import Header
from upscale.image.model import Metadata
from upscale.image.photoshop import iptc_of, resources
from upscale.image.source import Data

XMP = b"http://ns.adobe.com/xap/1.0/\0"
XMP_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
ICC = b"ICC_PROFILE\0"
PHOTOSHOP = b"Photoshop 3.0\0"
LARGEST = 65533  # bytes of content that one segment holds
HAS_EXTENSION = re.compile(r'xmpNote:HasExtendedXMP\s*=\s*"([0-9A-Fa-f]{32})"')
FRAMES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}  # baseline, extended, progressive, arithmetic
TABLES = {0xC4, 0xDB, 0xDD, 0xCC}  # DHT, DQT, DRI, DAC
PROGRESSIVE, SCAN, END = 0xC2, 0xDA, 0xD9
MAX_SIDE = 65500  # of libjpeg; the format goes to 65535

Segment = tuple[int, bytes]  # marker, content


def header(data: Data) -> Header:
    """Sort the segments before the first scan.

    Raises:
        ImageError: Cut short, or of a process that is not supported.
    """
    app: list[Segment] = []
    pieces: list[bytes | slice] = []
    frame, process, at, marker = b"", 0, 2, 0
    while marker != SCAN:
        at, marker = _marker(data, at)
        length = int.from_bytes(data[at : at + 2], "big")
        body = data[at + 2 : at + length]
        if marker == END or length < 2 or len(body) < length - 2:
            raise ImageError("the JPEG is cut short inside its header; fetch it again")
        if marker in TABLES:
            pieces.append(slice(at - 2, at + length))
        if marker in FRAMES:
            frame, process = body, marker
        elif 0xC0 <= marker <= 0xCF and marker not in TABLES and marker != 0xC8:
            raise ImageError(
                f"this JPEG uses process 0x{marker:02X} (lossless or hierarchical); save it as PNG"
            )
        elif 0xE0 <= marker <= 0xEF or marker == 0xFE:
            app.append((marker, body))
        at += length
    kind = _frame(frame, len(data) - at)
    adobe = [_segment(m, b) for m, b in app if m == 0xEE]
    spare = _spare(frame, body[0], process)
    height = int.from_bytes(frame[1:3], "big") + spare
    pieces.append(_segment(process, frame[:1] + height.to_bytes(2, "big") + frame[3:]))
    rest = slice(at - length - 2, None)
    return Header(read(app), (b"\xff\xd8", *adobe[:1], *pieces, rest), kind, spare=spare)


def _marker(data: Data, at: int) -> tuple[int, int]:
    """Where the next marker ends, and which it is; what stands before it is skipped."""
    window = data[at : at + LARGEST]
    found = re.search(rb"\xff+[^\x00\xff\x01\xd0-\xd8]", window)
    if found is None:
        raise ImageError("the JPEG is cut short: it ends before its pixels; fetch it again")
    return at + found.end(), window[found.end() - 1]


def _frame(body: bytes, room: int) -> str:
    """Check the frame header against the bytes that follow; its colours in words."""
    if len(body) < 6 or len(body) < 6 + 3 * body[5]:
        raise ImageError("the JPEG frame header is missing or cut short; fetch it again")
    depth, height, width, components = struct.unpack(">BHHB", body[:6])
    if components not in (1, 3, 4) or depth != 8:
        raise ImageError(
            f"this JPEG has {components} components of {depth} bits; save it as PNG or TIFF"
        )
    if max(width, height) > MAX_SIDE:
        raise ImageError(
            f"this JPEG is {width} x {height} and libjpeg reads at most {MAX_SIDE} pixels a "
            "side; convert it to PNG"
        )
    factors = [(body[7 + 3 * i] >> 4, body[7 + 3 * i] & 15) for i in range(components)]
    if not all(1 <= h <= 4 and 1 <= v <= 4 for h, v in factors):
        raise ImageError("the JPEG sampling factors are invalid; the file is damaged")
    if width * height > room * 8 * 64 * 16:  # 1 bit a block, and 16 blocks under one of colour
        raise ImageError(f"the JPEG is damaged: {room} bytes cannot hold {width} x {height} pixels")
    if components != 3:
        return "CMYK" if components == 4 else ""
    (h, v), (ch, cv) = factors[:2]
    return {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0"}.get((h // ch, v // cv), "subsampled")


def _spare(frame: bytes, components: int, process: int) -> int:
    """Rows by which the picture is to seem higher: of one scan, and of strips of 8 rows."""
    height = int.from_bytes(frame[1:3], "big")
    one_scan = components == frame[5] and process != PROGRESSIVE
    if not one_scan or any(v & 15 != 1 for v in frame[7::3]) or height + 16 > MAX_SIDE:
        return 0
    return -height % 8 + 8


def _segment(marker: int, body: bytes) -> bytes:
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
    return b"".join(_segment(marker, body) for marker, body in out)


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


def with_metadata(start: bytes, metadata: Metadata) -> bytes:
    """The start of a file that libvips writes (bare) with the segments of the metadata."""
    jfif = b""
    if start[2:4] != b"\xff\xee":  # Adobe's segment, of CMYK, takes its place
        x, y = (max(1, min(round(d), 65535)) for d in metadata.dpi or (1, 1))
        body = struct.pack(">5sHBHHBB", b"JFIF\0", 0x0101, bool(metadata.dpi), x, y, 0, 0)
        jfif = _segment(0xE0, body)
    return start[:2] + jfif + write(metadata) + start[2:]
