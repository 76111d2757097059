"""What the chunks of a PNG say of its colour and its origin, read and written."""

from __future__ import annotations

import binascii
import re
import struct
import zlib

from upscale import icc
from upscale.errors import ImageError
from upscale.metadata.fields import Metadata
from upscale.metadata.photoshop import iptc_of, resources

Chunk = tuple[bytes, bytes]

XMP_KEYWORD = "XML:com.adobe.xmp"
RAW_PROFILE = "Raw profile type "
MOST_TEXT = 64 << 20  # bytes that compressed text or a profile may inflate to
MOST_INFLATED = "a compressed chunk inflates to more than 64 MB"
PRIMARIES = {1: icc.PRIMARIES["srgb"], 9: icc.PRIMARIES["rec2020"], 12: icc.PRIMARIES["p3"]}
PRIMARIES[5] = ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06))
PRIMARIES[6] = ((0.63, 0.34), (0.31, 0.595), (0.155, 0.07))
REC709_CURVE = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
CURVES = {13: icc.SRGB_CURVE, 4: (2.2,), 5: (2.8,), 8: (1.0,)} | dict.fromkeys(
    (1, 6, 14, 15), REC709_CURVE
)
HDR_CURVES = {16: "PQ (SMPTE ST 2084)", 18: "HLG (ARIB STD-B67)"}


def inflate(data: bytes) -> bytes:
    """Inflate a zlib stream to at most ``MOST_TEXT`` bytes; ``ValueError`` where it is longer."""
    stream = zlib.decompressobj()
    try:
        out = stream.decompress(data, MOST_TEXT)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not stream.eof:
        raise ValueError(MOST_INFLATED if len(out) == MOST_TEXT else "cut short")
    return out


def read(chunks: dict[bytes, list[bytes]], gray: bool) -> Metadata:
    """Profile, resolution, EXIF, XMP, IPTC and text of a PNG.

    Raises:
        ImageError: A transfer curve that cannot be honoured.
    """
    notes: list[str] = []
    text, xmp, raw = _texts(chunks, notes)
    exif = chunks[b"eXIf"][0] if b"eXIf" in chunks else raw.get("exif") or raw.get("APP1")
    if b"caBX" in chunks:
        notes.append("content credentials (C2PA) left out: they vouch for other pixels")
    return Metadata(
        format="png",
        icc=_profile(chunks, gray, notes),
        exif=exif,
        xmp=xmp or raw.get("xmp"),
        iptc=_iptc(raw.get("iptc")),
        dpi=_dpi(chunks),
        text=text,
        notes=tuple(notes),
    )


def _dpi(chunks: dict[bytes, list[bytes]]) -> tuple[float, float] | None:
    body = chunks.get(b"pHYs", [b""])[0]
    if len(body) != 9 or body[8] != 1:
        return None
    x, y = struct.unpack(">II", body[:8])
    return (x * 0.0254, y * 0.0254) if x and y else None


def _profile(chunks: dict[bytes, list[bytes]], gray: bool, notes: list[str]) -> bytes | None:
    """The first of cICP, iCCP, sRGB, and gAMA with cHRM, as the specification ranks them."""
    if b"cICP" in chunks:
        return code_points(chunks[b"cICP"][0], "cICP chunk")
    if b"iCCP" in chunks:
        name, _, rest = chunks[b"iCCP"][0].partition(b"\0")
        try:
            return inflate(rest[1:])
        except ValueError:
            notes.append(
                f"damaged ICC profile {name[:40].decode('latin-1')!r} left out; sRGB taken"
            )
            return None
    if b"sRGB" in chunks or not {b"gAMA", b"cHRM"} & set(chunks):
        return None
    return _from_gamma(chunks.get(b"gAMA", [b""])[0], chunks.get(b"cHRM", [b""])[0], gray)


def _from_gamma(gama: bytes, chrm: bytes, gray: bool) -> bytes | None:
    """A profile of gAMA and cHRM; None where they say sRGB."""
    curve: tuple[float, ...] = icc.SRGB_CURVE
    primaries, white = icc.PRIMARIES["srgb"], icc.D65
    if len(gama) == 4:
        gamma = int.from_bytes(gama, "big") / 100000
        if not 0.1 <= gamma <= 10:
            raise ImageError(f"the PNG has gamma {gamma:g} (gAMA); remove the chunk or correct it")
        if abs(gamma - 0.45455) > 0.003:
            curve = (1 / gamma,)
    if len(chrm) == 32:
        v = [value / 100000 for value in struct.unpack(">8I", chrm)]
        given = ((v[2], v[3]), (v[4], v[5]), (v[6], v[7]))
        flat = [*given[0], *given[1], *given[2], v[0], v[1]]
        srgb = [*primaries[0], *primaries[1], *primaries[2], *white]
        if max(abs(a - b) for a, b in zip(flat, srgb, strict=True)) > 0.002:
            primaries, white = given, (v[0], v[1])
    if curve == icc.SRGB_CURVE and (gray or primaries == icc.PRIMARIES["srgb"]):
        return None
    if gray:
        return icc.build_gray("PNG gAMA", curve[0])
    return icc.build("PNG gAMA and cHRM", primaries, curve, white)


def code_points(body: bytes, where: str) -> bytes | None:
    """A profile of code points (ITU-T H.273); None where they say sRGB.

    Args:
        body: Primaries, transfer curve, matrix, full range: one byte each.
        where: What holds them, for the message.

    Raises:
        ImageError: An HDR curve, video range, or code points without a meaning here.
    """
    if len(body) < 4:
        raise ImageError(f"the {where} is cut short; remove it or save the picture again")
    primaries, curve, _, full = body[:4]
    if curve in HDR_CURVES:
        raise ImageError(
            f"this is an HDR picture with transfer curve {HDR_CURVES[curve]}, which the networks "
            "do not know; tone-map it to sRGB first"
        )
    if primaries not in PRIMARIES or curve not in CURVES or not full:
        raise ImageError(
            f"the {where} asks for primaries {primaries}, transfer curve {curve}, "
            f"{'full' if full else 'video'} range; convert the picture to sRGB first"
        )
    if PRIMARIES[primaries] == icc.PRIMARIES["srgb"] and curve == 13:
        return None
    return icc.build(f"H.273 {primaries}/{curve}", PRIMARIES[primaries], CURVES[curve])


def _texts(
    chunks: dict[bytes, list[bytes]], notes: list[str]
) -> tuple[tuple[tuple[str, str], ...], bytes | None, dict[str, bytes]]:
    """Plain text, the XMP packet, and raw profiles (ImageMagick's hexadecimal convention)."""
    text: list[tuple[str, str]] = []
    xmp: bytes | None = None
    raw: dict[str, bytes] = {}
    for kind in (b"tEXt", b"zTXt", b"iTXt"):
        for body in chunks.get(kind, ()):
            try:
                keyword, value = _text(kind, body)
            except (ValueError, IndexError):
                notes.append(f"damaged {kind.decode()} chunk left out")
                continue
            if keyword == XMP_KEYWORD:
                xmp = value
            elif keyword.startswith(RAW_PROFILE):
                raw[keyword[len(RAW_PROFILE) :].strip()] = _hexadecimal(value)
            else:
                text.append((keyword, value.decode("utf-8" if kind == b"iTXt" else "latin-1")))
    return tuple(text), xmp, {k: v for k, v in raw.items() if v}


def _text(kind: bytes, body: bytes) -> tuple[str, bytes]:
    keyword, _, rest = body.partition(b"\0")
    if kind == b"tEXt":
        return keyword.decode("latin-1"), rest
    if kind == b"zTXt":
        return keyword.decode("latin-1"), inflate(rest[1:])
    packed = rest[0]
    _language, _, tail = rest[2:].partition(b"\0")
    _translated, _, value = tail.partition(b"\0")
    return keyword.decode("latin-1"), inflate(value) if packed else value


def _hexadecimal(value: bytes) -> bytes:
    """The content of a raw profile: a name, a length, and hexadecimal digits."""
    match = re.match(rb"\s*\w+\s+(\d+)\s([0-9a-fA-F\s]*)", value)
    if match is None:
        return b""
    try:
        return binascii.unhexlify(b"".join(match[2].split()))[: int(match[1])]
    except binascii.Error:
        return b""


def _iptc(raw: bytes | None) -> bytes | None:
    """IPTC records out of a raw profile, which may wrap them in Photoshop's resources."""
    return None if raw is None else iptc_of(raw) if raw[:4] == b"8BIM" else raw


def write(metadata: Metadata) -> list[Chunk]:
    """The chunks that stand between IHDR and the pixels."""
    out: list[Chunk] = []
    if metadata.icc:
        out.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc, 9)))
    if metadata.dpi:
        x, y = (min(round(d / 0.0254), 2**31 - 1) for d in metadata.dpi)
        out.append((b"pHYs", struct.pack(">IIB", x, y, 1)))
    if metadata.exif:
        out.append((b"eXIf", metadata.exif))
    if metadata.xmp:
        out.append((b"iTXt", XMP_KEYWORD.encode() + b"\0\0\0\0\0" + metadata.xmp))
    if metadata.iptc:
        raw = resources(metadata.iptc)
        lines = re.findall(b".{1,72}", binascii.hexlify(raw))
        body = b"\niptc\n" + f"{len(raw):8d}\n".encode() + b"\n".join(lines) + b"\n"
        out.append((b"zTXt", RAW_PROFILE.encode() + b"iptc\0\0" + zlib.compress(body)))
    for keyword, value in metadata.text:
        name = keyword.encode("latin-1", "replace").strip()[:79] or b"Comment"
        out.append((b"iTXt", name + b"\0\0\0\0\0" + value.encode()))
    return out
