"""PNG (W3C, third edition): metadata read and written here, pixels by libvips.

Of chunks that make no pixels every checksum is looked at here, so that a damaged one is a note and
no error, and libvips sees none of them.
"""

from __future__ import annotations

import binascii
import re
import struct
import zlib
from dataclasses import replace

from upscale.errors import ImageError
from upscale.image.metadata import (
    Metadata,
    Native,
    code_points,
    joined_resources,
    ratio,
    resources,
)
from upscale.image.model import Structure
from upscale.image.source import Data

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
XMP_KEYWORD = "XML:com.adobe.xmp"
RAW_PROFILE = "Raw profile type "
TEXT = {b"tEXt", b"zTXt", b"iTXt"}
READ = TEXT | {b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"pHYs", b"eXIf", b"bKGD"}
READ |= {b"caBX", b"acTL", b"fcTL", b"fdAT"}
COLOUR = (b"sRGB", b"gAMA", b"cHRM")  # of a picture without profile
KEPT = {b"tIME", b"sTER", b"sPLT", b"pCAL", b"sCAL"}  # and private ones that are safe to copy
SPEED = {b"iDOT"}  # where Apple's decoder begins; no loss
MOST_CHUNK = 1 << 28  # bytes of a chunk of metadata
MOST_TEXT = 64 << 20  # bytes that compressed text or a profile may inflate to

Chunks = dict[bytes, list[bytes]]


def structure(data: Data) -> Structure:
    """Sort the chunks.

    Raises:
        ImageError: Cut short, no PNG, or in a transfer curve that cannot be honoured.
    """
    pieces: list[bytes | slice] = [SIGNATURE]
    other: Chunks = {}
    notes: list[str] = []
    at, kind, palette, coded = len(SIGNATURE), b"", b"", False
    while kind != b"IEND":
        head = data[at : at + 8]
        if len(head) < 8:
            raise ImageError("the PNG is cut short: it ends before its IEND chunk; fetch it again")
        length, kind = struct.unpack(">I4s", head)
        end, shown = at + 12 + length, repr(kind)[2:-1]  # printable, whatever it is
        if end > len(data):
            raise ImageError(f"the PNG is cut short in chunk {shown}; fetch it again")
        palette = data[at + 8 : end - 4] if kind == b"PLTE" and length <= 768 else palette
        coded = coded or kind == b"IDAT"
        if kind == b"tRNS" and not _fits(data, length, len(palette) // 3, coded):
            notes.append("misplaced or damaged tRNS chunk left out: transparency is lost")
        elif kind in PIXELS:
            _join(pieces, slice(at, end))
        elif length <= MOST_CHUNK:
            body = data[at + 8 : end - 4]
            if zlib.crc32(body, zlib.crc32(kind)) == int.from_bytes(data[end - 4 : end], "big"):
                other.setdefault(kind, []).append(body)
            else:
                notes.append(f"damaged {shown} chunk left out")
        at = end
    head = data[8:33]
    if head[4:8] != b"IHDR" or len(head) < 25:
        raise ImageError("the PNG does not begin with a valid IHDR chunk; fetch it again")
    width, height, depth, colour = struct.unpack(">IIBB", head[8:18])
    metadata = _metadata(other, notes, _background(other, depth, colour, palette))
    metadata = replace(metadata, palette=colour == 3, bilevel=depth == 1)
    frames = int.from_bytes(other[b"acTL"][0][:4], "big") if b"acTL" in other else 1
    return Structure(metadata, (width, height), tuple(pieces), frames=max(1, frames))


def _fits(data: Data, length: int, colours: int, coded: bool) -> bool:
    """Whether a tRNS chunk of ``length`` bytes may stand there: libpng passes over others."""
    colour = data[25:26][:1]
    most = {b"\0": 2, b"\2": 6}.get(colour, 0)
    return not coded and (0 < length <= colours if colour == b"\3" else length == most)


def _join(pieces: list[bytes | slice], part: slice) -> None:
    """Add a part of the file, to the last one where it follows on it."""
    last = pieces[-1]
    if isinstance(last, slice) and last.stop == part.start:
        pieces[-1] = slice(last.start, part.stop)
    else:
        pieces.append(part)


def inflate(data: bytes) -> bytes:
    """Inflate a zlib stream to at most ``MOST_TEXT`` bytes; ``ValueError`` where it is longer."""
    stream = zlib.decompressobj()
    try:
        out = stream.decompress(data, MOST_TEXT)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not stream.eof:
        raise ValueError("longer than 64 MB" if len(out) == MOST_TEXT else "cut short")
    return out


def _metadata(chunks: Chunks, notes: list[str], native: list[Native]) -> Metadata:
    """Profile, resolution, EXIF, XMP, IPTC, text, and what only a PNG can hold.

    Raises:
        ImageError: A transfer curve that cannot be honoured.
    """
    text, xmp, raw = _texts(chunks, notes, native)
    app1 = raw.get("APP1", b"")
    exif = chunks[b"eXIf"][0] if b"eXIf" in chunks else raw.get("exif")
    if app1[:4] == b"http":
        xmp = xmp or app1.partition(b"\0")[2]
    elif app1:
        exif = exif or app1
    iptc, photoshop = resources(raw.get("8bim", b""))
    wrapped = raw.get("iptc", b"")
    if wrapped[:4] == b"8BIM":
        iptc, photoshop = resources(wrapped)
    profile = _profile(chunks, raw, notes)
    if not profile and b"cICP" not in chunks:
        native += [
            (_named(kind, chunks), kind, chunks[kind][0]) for kind in COLOUR if kind in chunks
        ]
    body, dpi = chunks.get(b"pHYs", [b""])[0], None
    if len(body) == 9:
        x, y, unit = struct.unpack(">IIB", body)
        dpi = (x * 0.0254, y * 0.0254) if x and y and unit == 1 else None
        native += [("pixel aspect ratio", b"pHYs", body)] if x != y and not unit else []
    if b"caBX" in chunks:
        notes.append("content credentials (C2PA) left out: they vouch for other pixels")
    for kind, bodies in chunks.items():
        if kind in KEPT or (kind not in READ and kind[3:].islower() and kind.isalpha()):
            native += [(f"PNG chunk {kind.decode()}", kind, body) for body in bodies]
        elif kind not in READ | SPEED:
            notes.append(f"{repr(kind)[2:-1]} chunk left out: it belongs to other pixels")
    return Metadata(
        format="png",
        icc=profile,
        exif=exif,
        xmp=xmp or raw.get("xmp"),
        iptc=iptc or (wrapped if wrapped[:1] == b"\x1c" else None),
        photoshop=photoshop,
        dpi=dpi,
        text=text,
        native=tuple(native),
        notes=tuple(notes),
    )


def _named(kind: bytes, chunks: Chunks) -> str:
    """What a colour chunk is called where it gets lost; "" where it says sRGB."""
    body = chunks[kind][0]
    if kind == b"gAMA":
        return "" if abs(int.from_bytes(body[:4], "big") - 45455) < 300 else "gamma (gAMA)"
    srgb = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
    return "" if kind == b"sRGB" or body == srgb or b"sRGB" in chunks else "primaries (cHRM)"


def _background(chunks: Chunks, depth: int, colour: int, palette: bytes) -> list[Native]:
    """The colour of bKGD as shares of white, one or three."""
    body = chunks.get(b"bKGD", [b""])[0]
    if colour == 3 and len(body) == 1:
        values = [v / 255 for v in palette[3 * body[0] : 3 * body[0] + 3]]
    elif depth in (1, 2, 4, 8, 16) and len(body) in (2, 6):
        values = [v / (2**depth - 1) for v in struct.unpack(f">{len(body) // 2}H", body)]
    else:
        return []
    return [("background colour (bKGD)", b"bKGD", values)]


def _profile(chunks: Chunks, raw: dict[str, bytes], notes: list[str]) -> bytes | None:
    """That of cICP or iCCP, in this order, as the specification ranks them; or of a raw profile."""
    if b"cICP" in chunks:
        return code_points(chunks[b"cICP"][0], "cICP chunk")
    if b"iCCP" not in chunks:
        return None if b"sRGB" in chunks else raw.get("icc") or raw.get("icm")
    name, _, rest = chunks[b"iCCP"][0].partition(b"\0")
    try:
        return inflate(rest[1:])
    except ValueError:
        notes.append(f"damaged ICC profile {name[:40].decode('latin-1')!r} left out; sRGB taken")
        return None


def _texts(
    chunks: Chunks, notes: list[str], native: list[Native]
) -> tuple[tuple[tuple[str, str], ...], bytes | None, dict[str, bytes]]:
    """Plain text, the XMP packet, and raw profiles (ImageMagick's hexadecimal convention)."""
    text: list[tuple[str, str]] = []
    xmp: bytes | None = None
    raw: dict[str, bytes] = {}
    for kind in (b"tEXt", b"zTXt", b"iTXt"):
        for body in chunks.get(kind, ()):
            try:
                keyword, value, language = _text(kind, body)
                said = value.decode("utf-8" if kind == b"iTXt" else "latin-1", "replace")
            except (ValueError, IndexError):
                notes.append(f"damaged {kind.decode()} chunk left out")
                continue
            if keyword == XMP_KEYWORD:
                xmp = value
            elif keyword.startswith(RAW_PROFILE):
                raw[keyword[len(RAW_PROFILE) :].strip()] = _hexadecimal(value)
            elif language:
                native.append((f"text in {language!r}", kind, body))
            else:
                text.append((keyword, said))
    return tuple(text), xmp, {k: v for k, v in raw.items() if v}


def _text(kind: bytes, body: bytes) -> tuple[str, bytes, str]:
    """Keyword, text, and in which language; ``ValueError`` or ``IndexError`` where damaged."""
    keyword, _, rest = body.partition(b"\0")
    if kind == b"tEXt":
        return keyword.decode("latin-1"), rest, ""
    if kind == b"zTXt":
        return keyword.decode("latin-1"), inflate(rest[1:]), ""
    packed = rest[0]
    language, _, tail = rest[2:].partition(b"\0")
    translated, _, value = tail.partition(b"\0")
    spoken = language.decode("latin-1") or ("another language" if translated else "")
    return keyword.decode("latin-1"), inflate(value) if packed else value, spoken


def _hexadecimal(value: bytes) -> bytes:
    """The content of a raw profile: a name, a length, and hexadecimal digits."""
    match = re.match(rb"\s*\w+\s+(\d+)\s([0-9a-fA-F\s]*)", value)
    if match is None:
        return b""
    try:
        return binascii.unhexlify(b"".join(match[2].split()))[: int(match[1])]
    except binascii.Error:
        return b""


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_metadata(start: bytes, m: Metadata, size: tuple[int, int]) -> bytes:
    """The start of a file with the chunks of the metadata behind IHDR, for libvips' own (pHYs)."""
    at = len(SIGNATURE) + 25
    depth, colour = start[24], start[25]
    native = [
        chunk(kind, body)
        for _, kind, value in m.native
        if not (m.icc and kind in COLOUR)
        and (body := _native(kind, value, ratio(m, size), depth, colour))
    ]
    more = b"".join([*(chunk(*pair) for pair in _chunks(m)), *native])
    rest = start[at + 21 :] if start[at + 4 : at + 8] == b"pHYs" else start[at:]
    return start[:at] + more + rest


def _native(
    kind: bytes, value: bytes | list[float], ratio: tuple[float, float], depth: int, colour: int
) -> bytes:
    """A chunk that is kept, as it is for the new size; b"" where it cannot be."""
    if isinstance(value, list):  # bKGD
        gray = colour in (0, 4)
        if colour == 3 or (gray and len(set(value)) > 1):
            return b""
        values = value[:1] if gray else [*value, *value, *value][:3]
        return struct.pack(f">{len(values)}H", *(round(v * (2**depth - 1)) for v in values))
    if kind == b"sCAL":
        try:
            width, _, height = value[1:].partition(b"\0")
            sides = (f"{float(s) / r:.9g}" for s, r in zip((width, height), ratio, strict=True))
            return value[:1] + "\0".join(sides).encode()
        except ValueError:
            return b""
    if kind == b"pHYs" and ratio[0] != ratio[1]:
        x, y = (
            min(2**31 - 1, round(v * r))
            for v, r in zip(struct.unpack(">II", value[:8]), ratio, strict=True)
        )
        return struct.pack(">IIB", x, y, 0)
    return value


def _chunks(m: Metadata) -> list[tuple[bytes, bytes]]:
    """The chunks that stand between IHDR and the pixels."""
    out: list[tuple[bytes, bytes]] = []
    if m.icc:
        out.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(m.icc, 9)))
    if m.dpi:
        x, y = (min(round(d / 0.0254), 2**31 - 1) for d in m.dpi)
        out.append((b"pHYs", struct.pack(">IIB", x, y, 1)))
    if m.exif:
        out.append((b"eXIf", m.exif))
    if m.xmp:
        out.append((b"iTXt", XMP_KEYWORD.encode() + b"\0\0\0\0\0" + m.xmp))
    if raw := joined_resources(m):
        lines = re.findall(b".{1,72}", binascii.hexlify(raw))
        body = b"\niptc\n" + f"{len(raw):8d}\n".encode() + b"\n".join(lines) + b"\n"
        out.append((b"zTXt", RAW_PROFILE.encode() + b"iptc\0\0" + zlib.compress(body)))
    for keyword, value in m.text:
        name = keyword.encode("latin-1", "replace").strip()[:79] or b"Comment"
        out.append((b"iTXt", name + b"\0\0\0\0\0" + value.encode()))
    return out
