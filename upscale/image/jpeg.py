"""JPEG (ITU-T T.81): the segments read and written here, the pixels by libvips.

libvips is given the segments that make pixels and Adobe's, which tells the colours. A scan that
ends too early is a warning of libjpeg, and so an error here. libvips looks for warnings before it
decodes a strip of 8 rows, and not behind the last one. So a picture of such strips seems to go on
for one more, which is asked for at the end.
"""

from __future__ import annotations

import re
import struct
from dataclasses import replace

from upscale.errors import ImageError
from upscale.image.exif import PREFIX as EXIF
from upscale.image.metadata import Metadata, Native, joined_resources, resources
from upscale.image.model import FORMATS, Structure
from upscale.image.source import Data

FRAMES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}  # baseline, extended, progressive, arithmetic
TABLES = {0xC4, 0xDB, 0xDD, 0xCC}  # DHT, DQT, DRI, DAC
PROGRESSIVE, SCAN, END = {0xC2, 0xCA}, 0xDA, 0xD9
WHOLE_SPECTRUM = b"\0\x3f\0"  # the end of a scan header, where the process is sequential
XMP = b"http://ns.adobe.com/xap/1.0/\0"
XMP_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
HAS_EXTENSION = re.compile(rb"""\s*xmpNote:HasExtendedXMP\s*=\s*["'][0-9A-Fa-f]{32}["']""")
ICC = b"ICC_PROFILE\0"
PHOTOSHOP = b"Photoshop 3.0\0"
LARGEST = 65533  # bytes of content that one segment holds
OTHER_PIXELS = (  # segments that belong to other pixels, or to the old encoding, and what is said
    (0xE2, b"MPF\0", "further pictures in the file (gain map, preview or stereo) left out"),
    (0xE2, b"urn:iso:std:iso:ts:21496", "the gain map left out: it belongs to other pixels"),
    (0xEB, b"JP", "content credentials (C2PA) left out: they vouch for other pixels"),
    (0xEC, b"Ducky", "Photoshop's note of the old quality (Ducky) left out"),
    (0xE1, XMP_EXTENSION, "extended XMP left out"),
)
BEHIND = "what stands behind the picture (a phone's video or depth) left out"
READ = {0xE0: (b"JFIF\0", b"JFXX\0"), 0xE1: (EXIF, XMP), 0xE2: (ICC,), 0xED: (PHOTOSHOP,)}
READ[0xEE] = (b"Adobe",)

Segment = tuple[int, bytes]  # marker, content


def structure(data: Data) -> Structure:
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
    size, kind = _frame(frame, len(data) - at)
    adobe = [segment(0xEE, _known_transform(b, frame[5])) for m, b in app if m == 0xEE]
    spare = _spare(frame, body[0], process)
    height = int.from_bytes(frame[1:3], "big") + spare
    pieces.append(segment(process, frame[:1] + height.to_bytes(2, "big") + frame[3:]))
    if process not in PROGRESSIVE:  # phones write zeros there, of which libjpeg warns
        body = body[:-3] + WHOLE_SPECTRUM
    parts = (b"\xff\xd8", *adobe[:1], *pieces, segment(SCAN, body), slice(at, None))
    metadata = _metadata(app)
    last = data[max(0, len(data) - 64) :].rstrip(b"\0\r\n ")
    if not last.endswith(b"\xff\xd9"):
        metadata = replace(metadata, notes=(*metadata.notes, BEHIND))
    return Structure(metadata, size, parts, kind, spare=spare)


def _marker(data: Data, at: int) -> tuple[int, int]:
    """Where the next marker ends, and which it is; what stands before it is skipped."""
    window = data[at : at + LARGEST]
    match = re.search(rb"\xff+[^\x00\xff\x01\xd0-\xd8]", window)
    if match is None:
        raise ImageError("the JPEG is cut short: it ends before its pixels; fetch it again")
    return at + match.end(), window[match.end() - 1]


def _frame(body: bytes, room: int) -> tuple[tuple[int, int], str]:
    """Check the frame header against the bytes that follow: width and height, colours in words."""
    if len(body) < 6 or len(body) < 6 + 3 * body[5]:
        raise ImageError("the JPEG frame header is missing or cut short; fetch it again")
    depth, height, width, components = struct.unpack(">BHHB", body[:6])
    if components not in (1, 3, 4) or depth != 8:
        raise ImageError(
            f"this JPEG has {components} components of {depth} bits; save it as PNG or TIFF"
        )
    factors = [(body[7 + 3 * i] >> 4, body[7 + 3 * i] & 15) for i in range(components)]
    if not all(1 <= h <= 4 and 1 <= v <= 4 for h, v in factors):
        raise ImageError("the JPEG sampling factors are invalid; the file is damaged")
    if width * height > room * 8 * 64 * 16:  # 1 bit a block, and 16 blocks under one of colour
        raise ImageError(f"the JPEG is damaged: {room} bytes cannot hold {width} x {height} pixels")
    if components != 3:
        return (width, height), "CMYK" if components == 4 else ""
    (h, v), (ch, cv) = factors[:2]
    kinds = {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0"}
    return (width, height), kinds.get((h // ch, v // cv), "subsampled")


def _known_transform(adobe: bytes, components: int) -> bytes:
    """Adobe's segment, with what libjpeg takes where the transform of colour is unknown to it."""
    if len(adobe) < 12 or adobe[:5] != b"Adobe" or adobe[11] <= 2:
        return adobe
    return adobe[:11] + bytes([2 if components == 4 else 1]) + adobe[12:]


def _spare(frame: bytes, components: int, process: int) -> int:
    """Rows by which the picture is to seem higher: of one scan, and of strips of 8 rows."""
    height = int.from_bytes(frame[1:3], "big")
    single = components == frame[5] and process not in PROGRESSIVE
    tall = height + 16 > FORMATS["jpeg"].max_side
    if not single or any(v & 15 != 1 for v in frame[7::3]) or tall:
        return 0
    return -height % 8 + 8


def end(data: Data) -> int:
    """Behind the first end marker that no segment holds.

    What a JPEG itself counts among its pictures (Multi-Picture Format: previews, gain maps) belongs
    to it.
    """
    at = 2
    try:
        while True:
            at, marker = _marker(data, at)
            if marker == END:
                return at
            if marker == 0xE2 and data[at + 2 : at + 6] == b"MPF\0":
                return len(data)
            at += int.from_bytes(data[at : at + 2], "big")
    except ImageError:
        return len(data)


def segment(marker: int, body: bytes) -> bytes:
    """A segment with its marker and length."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def _metadata(app: list[Segment]) -> Metadata:
    """Profile, EXIF, XMP, IPTC, resolution, comment, and what only a JPEG can hold."""
    notes: list[str] = []
    native: list[Native] = []
    for marker, body in app:
        said = [text for m, name, text in OTHER_PIXELS if m == marker and body.startswith(name)]
        if said:
            notes += [text for text in said if text not in notes]
        elif marker != 0xFE and not body.startswith(READ.get(marker, ())):
            name = body[:16].split(b"\0")[0].decode("latin-1")
            known = "FlashPix" if name == "FPXR" else f"APP{marker - 0xE0} {name!a}"
            native.append((f"segment {known}", marker, body))
    exif = [b[len(EXIF) :] for m, b in app if m == 0xE1 and b.startswith(EXIF)]
    more = 1
    while more < len(exif) and exif[more][:4] not in (b"II*\0", b"MM\0*"):  # it goes on
        more += 1
    iptc, photoshop = resources(_joined(app, 0xED, PHOTOSHOP))
    xmp = _joined(app, 0xE1, XMP, first=True)
    return Metadata(
        format="jpeg",
        icc=_icc(app, notes),
        exif=b"".join(exif[:more]) or (b"" if exif else None),
        xmp=HAS_EXTENSION.sub(b"", xmp) or None,
        iptc=iptc,
        photoshop=photoshop,
        dpi=_density(app),
        text=tuple(
            ("Comment", b.rstrip(b"\0").decode("utf-8", "replace")) for m, b in app if m == 0xFE
        ),
        native=tuple(native),
        notes=tuple(notes),
    )


def _joined(app: list[Segment], marker: int, name: bytes, *, first: bool = False) -> bytes:
    """The contents of the segments of a name behind that, one behind the other."""
    parts = [b[len(name) :] for m, b in app if m == marker and b.startswith(name)]
    return b"".join(parts[:1] if first else parts)


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


def with_metadata(start: bytes, m: Metadata, size: tuple[int, int]) -> bytes:
    """The start of a file that libvips writes (bare) with the segments of the metadata."""
    jfif = b""
    if start[2:4] != b"\xff\xee":  # Adobe's segment, of CMYK, takes its place
        x, y = (max(1, min(round(d), 65535)) for d in m.dpi or (1, 1))
        body = struct.pack(">5sHBHHBB", b"JFIF\0", 0x0101, bool(m.dpi), x, y, 0, 0)
        jfif = segment(0xE0, body)
    return start[:2] + jfif + segments(m) + start[2:]


def segments(m: Metadata) -> bytes:
    """The segments of the metadata.

    Raises:
        ImageError: The EXIF block or the profile is larger than a JPEG can hold.
    """
    out: list[Segment] = []
    if m.exif:
        step = LARGEST - len(EXIF)
        if len(m.exif) > step and m.format != "jpeg":  # few programs read one in several segments
            raise ImageError(
                f"the EXIF block of {len(m.exif)} bytes does not fit in a JPEG (65 kB); "
                "choose -f png, or --strip-metadata"
            )
        out += [(0xE1, EXIF + m.exif[i : i + step]) for i in range(0, len(m.exif), step)]
    if m.xmp and len(XMP) + len(m.xmp) <= LARGEST:
        out.append((0xE1, XMP + m.xmp))
    if m.icc:
        step = LARGEST - len(ICC) - 2
        parts = [m.icc[i : i + step] for i in range(0, len(m.icc), step)]
        if len(parts) > 255:
            raise ImageError(
                f"the ICC profile of {len(m.icc)} bytes does not fit in a JPEG; choose -f png"
            )
        out += [(0xE2, ICC + bytes([i + 1, len(parts)]) + part) for i, part in enumerate(parts)]
    raw, step = joined_resources(m), LARGEST - len(PHOTOSHOP)
    out += [(0xED, PHOTOSHOP + raw[i : i + step]) for i in range(0, len(raw), step)]
    out += [(0xFE, v.encode()[:LARGEST]) for k, v in m.text if k == "Comment"]
    out += [(marker, body) for _, marker, body in m.native]
    return b"".join(segment(marker, body) for marker, body in out)
