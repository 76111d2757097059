"""What travels with the pixels of a picture: as a file holds it, upright, and as a file gets it."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from upscale import icc
from upscale.errors import ImageError
from upscale.image import exif

TURNED_BY_DECODER = {"avif", "heic", "jxl"}
HDR_CURVES = {16: "PQ (SMPTE ST 2084)", 18: "HLG (ARIB STD-B67)"}
HDR = (
    "this is an HDR picture with transfer curve {}, which the networks do not know; tone-map it to "
    "sRGB first"
)

LOOKS = (b"sRGB", b"gAMA", b"cHRM", b"pHYs", 301, 318, 319)  # native: colour, ratio of pixels
Native = tuple[str, Any, Any]  # what it is called, where in its format it stands, and its content
IPTC_RESOURCE = 0x0404
# Thumbnails, guides, slices, and copies of profile, EXIF and XMP.
OTHER_PIXELS = {1032, 1033, 1036, 1039, 1050, 1058, 1059, 1060}
# XMP packets are changed as text, so that all else in them stays; no XML parser runs over them (a
# packet comes from a stranger), and what is no packet is left out.
NAMESPACE = "urn:upscale:provenance:"
# IPTC's controlled vocabulary for the source of a digital picture.
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicallyEnhanced"
EMPTY = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
    ' <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n'
    " </rdf:RDF>\n</x:xmpmeta>\n"
    '<?xpacket end="w"?>'
)
RECORD = re.compile(
    r"""upscale:Record\s*=\s*"([^"]*)"|upscale:Record\s*=\s*'([^']*)'|<upscale:Record>([^<]*)<"""
)
END = re.compile(r"</rdf:RDF\s*>")
ORIENTATION = re.compile(r"""tiff:Orientation(?:\s*=\s*["']|>)\s*(?:([1-8])["']|([1-8])<)""")
DIMENSIONS = (
    ("tiff:ImageWidth", "exif:PixelXDimension"),
    ("tiff:ImageLength", "exif:PixelYDimension"),
)
PANORAMA = [  # of Google's Photo Sphere: in pixels of the picture
    [f"GPano:{name}Pixels" for name in (f"FullPano{a}", f"CroppedAreaImage{a}", f"CroppedArea{b}")]
    for a, b in (("Width", "Left"), ("Height", "Top"))
]
LIVE = ("GCamera:MotionPhoto", "GCamera:MicroVideo")  # whether a video stands behind the picture
THUMBNAILS = ("<xmp:Thumbnails>", "</xmp:Thumbnails>")
OURS = ('<rdf:Description rdf:about=""\n    xmlns:upscale="', "/>")


@dataclass(frozen=True)
class Metadata:
    """What travels with the pixels.

    Attributes:
        format: Name of the format that the picture came from, or "".
        icc: ICC profile of the pixels as they stand; None means sRGB (gray: its tone curve).
        exif: EXIF block, beginning with its TIFF header ("II*" or "MM"), orientation already 1.
        exif_room: Bytes [start, end) of the EXIF block that are free: a thumbnail was there.
        xmp: XMP packet (UTF-8 XML).
        iptc: IPTC-IIM records.
        photoshop: Photoshop's image resources, without IPTC and what belongs to other pixels.
        dpi: Horizontal and vertical resolution in pixels per inch.
        text: Keyword and text of PNG text chunks and of JPEG and GIF comments ("Comment").
        native: What only ``format`` can hold; it goes into a file of that format again.
        size: Width and height of the upright picture that all this was said of.
        palette: The file held palette indices.
        bilevel: The file held one bit per pixel.
        premultiplied: Colour is multiplied by alpha (associated alpha of TIFF).
        orientation: EXIF orientation, 1 to 8, of the pixels as they are stored; 0: unknown, 1 once
            decoded.
        cmyk: CMYK profile of the separations that the file held; the pixels are sRGB.
        delay: Seconds that the picture is shown, where it is one of an animation.
        loop: How often the animation is shown, 0 for ever; None where it is none.
        video: The header of a y4m stream, word by word, without the size.
        notes: What the file held and the picture does not, one sentence each.
    """

    format: str = ""
    icc: bytes | None = field(default=None, repr=False)
    exif: bytes | None = field(default=None, repr=False)
    exif_room: tuple[int, int] = (0, 0)
    xmp: bytes | None = field(default=None, repr=False)
    iptc: bytes | None = field(default=None, repr=False)
    photoshop: bytes | None = field(default=None, repr=False)
    dpi: tuple[float, float] | None = None
    text: tuple[tuple[str, str], ...] = ()
    native: tuple[Native, ...] = field(default=(), repr=False)
    size: tuple[int, int] | None = None
    palette: bool = False
    bilevel: bool = False
    premultiplied: bool = False
    orientation: int = 1
    cmyk: bytes | None = field(default=None, repr=False)
    delay: float | None = None
    loop: int | None = None
    video: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def settled(m: Metadata, size: tuple[int, int], gray: bool, assume_icc: bytes | None) -> Metadata:
    """Metadata of a file to those of an upright picture; ``orientation`` says what is to be done.

    Args:
        m: As they stand in the file.
        size: Width and height as stored.
        gray: The picture has no colour.
        assume_icc: The profile of a picture that carries none.

    Raises:
        ImageError: A profile with an HDR curve.
    """
    notes = list(m.notes)
    block = exif.read(m.exif) if m.exif else exif.Exif(None)
    notes += [block.note] if block.note else []
    # The container's word counts more than EXIF's, and that more than XMP's.
    orientation = m.orientation if m.orientation > 1 else block.orientation
    orientation = orientation or m.orientation * (m.format == "tiff") or xmp_orientation(m.xmp) or 1
    if m.format in TURNED_BY_DECODER:
        orientation = 1
    turned = orientation > 4
    dpi = m.dpi or block.dpi
    profile = m.icc or (None if m.cmyk else assume_icc)
    if profile:
        profile = _checked(profile, gray, notes)
    elif block.adobe_rgb and not m.cmyk and not gray:
        profile = icc.build("Adobe RGB (1998)", icc.PRIMARIES["adobe"], (563 / 256,))
    return replace(
        m,
        icc=profile,
        exif=block.block,
        exif_room=block.room,
        xmp=upright_xmp(m.xmp) if m.xmp else None,
        dpi=(dpi[1], dpi[0]) if dpi and turned else dpi,
        size=(size[1], size[0]) if turned else size,
        orientation=orientation,
        notes=tuple(notes),
    )


def _checked(profile: bytes, gray: bool, notes: list[str]) -> bytes | None:
    """The profile, or None and a note where it is damaged or of another colour space."""
    curve = HDR_CURVES.get(icc.hdr_curve(profile))
    if curve:
        raise ImageError(HDR.format(curve))
    try:
        parsed = icc.parse(profile)
        if parsed.space != "CMYK":
            parsed.is_srgb  # noqa: B018 - look-up tables are tried once
    except ImageError:
        notes.append("damaged ICC profile left out; sRGB taken")
        return None
    if parsed.space == "CMYK" or (parsed.space == "GRAY" and not gray):
        notes.append(f"ICC profile of {parsed.space} left out, the picture is not; sRGB taken")
        return None
    return profile


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
        raise ImageError(HDR.format(HDR_CURVES[curve]))
    if primaries not in icc.CODED_PRIMARIES or curve not in icc.CODED_CURVES or not full:
        raise ImageError(
            f"the {where} asks for primaries {primaries}, transfer curve {curve}, "
            f"{'full' if full else 'video'} range; convert the picture to sRGB first"
        )
    triangle = icc.CODED_PRIMARIES[primaries]
    if triangle == icc.PRIMARIES["srgb"] and curve == 13:
        return None
    return icc.build(f"H.273 {primaries}/{curve}", triangle, icc.CODED_CURVES[curve])


def ratio(m: Metadata, size: tuple[int, int]) -> tuple[float, float]:
    """How many times as wide and high a picture of ``size`` is as the one they were said of."""
    width, height = m.size or size
    return size[0] / width, size[1] / height


def middle(m: Metadata, width: int, height: int) -> Metadata:
    """The metadata of a picture's middle: sizes are of what is left, its place on Earth goes."""
    native = tuple(item for item in m.native if item[0] != "GeoTIFF")
    lost = ("GeoTIFF left out: the picture was cut",) if len(native) < len(m.native) else ()
    return replace(m, size=(width, height), native=native, notes=(*m.notes, *lost))


def fitted(m: Metadata, size: tuple[int, int], held: AbstractSet[str], name: str) -> Metadata:
    """The metadata that a format holds, with the dimensions of the picture.

    Args:
        m: Of the picture.
        size: Width and height that it has now.
        held: The kinds that the format holds.
        name: The format's.
    """
    scale = ratio(m, size)
    block = exif.corrected(m.exif, size, scale) if m.exif and "exif" in held else None
    if m.dpi and "exif" in held and (block or "dpi" not in held):
        block = exif.edited(block, dpi=m.dpi, room=m.exif_room)
    return replace(
        m,
        icc=m.icc if "icc" in held else None,
        exif=block,
        xmp=corrected_xmp(m.xmp, size, scale) if m.xmp and "xmp" in held else None,
        iptc=m.iptc if "iptc" in held else None,
        photoshop=m.photoshop if "photoshop" in held else None,
        dpi=m.dpi if "dpi" in held else None,
        text=m.text if "text" in held else (),
        native=m.native if m.format == name else (),
    )


def with_provenance(m: Metadata, record: dict[str, Any]) -> Metadata:
    """The metadata with a record of how the picture was made.

    The EXIF and TIFF tag Software is set to the record's ``software`` (name and version); the
    record goes into the XMP packet as JSON. The record that was there becomes its ``previous``,
    else the former Software its ``previous_software``.

    Args:
        m: Of the picture.
        record: What JSON can hold; ``software`` is expected, the rest is up to the caller.
    """
    values = {k: v for k, v in record.items() if v is not None}
    before = record_of(m.xmp)
    if before:
        values["previous"] = {k: v for k, v in before.items() if k != "previous"}
    elif m.exif and exif.software(m.exif):
        values["previous_software"] = exif.software(m.exif)
    name = str(record.get("software", "upscale"))
    block = exif.edited(m.exif, software=name, dpi=m.dpi if m.exif else None, room=m.exif_room)
    return replace(m, exif=block, exif_room=(0, 0), xmp=with_record(m.xmp, values))


def provenance(m: Metadata) -> dict[str, Any] | None:
    """The record that ``with_provenance`` wrote; None where there is none."""
    return record_of(m.xmp)


def strip_metadata(m: Metadata) -> Metadata:
    """Without EXIF, XMP (and so provenance), IPTC and text; colour and resolution stay."""
    native = tuple(item for item in m.native if item[1] in LOOKS)
    return replace(m, exif=None, xmp=None, iptc=None, photoshop=None, text=(), native=native)


def resources(data: bytes) -> tuple[bytes | None, bytes | None]:
    """IPTC-IIM records, and the rest that travels, of Photoshop's image resources ("8BIM")."""
    iptc, rest, at = None, b"", 0
    while at + 12 <= len(data) and data[at : at + 4] in (b"8BIM", b"MeSa", b"PHUT"):
        start, number = at, int.from_bytes(data[at + 4 : at + 6], "big")
        name = 1 + data[at + 6]
        at += 6 + name + name % 2
        size = int.from_bytes(data[at : at + 4], "big")
        at += 4 + size + size % 2
        if number == IPTC_RESOURCE:
            iptc = iptc or data[at - size - size % 2 : at - size % 2]
        elif number not in OTHER_PIXELS and at <= len(data) + 1:
            rest += data[start:at].ljust(at - start, b"\0")
    return iptc or None, rest or None


def joined_resources(m: Metadata) -> bytes:
    """The inverse of ``resources``."""
    iptc = m.iptc or b""
    head = b"8BIM" + IPTC_RESOURCE.to_bytes(2, "big") + bytes(2) + len(iptc).to_bytes(4, "big")
    return (head + iptc + b"\0" * (len(iptc) % 2) if iptc else b"") + (m.photoshop or b"")


def xmp_text(raw: bytes) -> str | None:
    """The packet as text; None where it is not UTF-8 or not RDF."""
    try:
        packet = raw.decode("utf-8").rstrip("\0")
    except UnicodeDecodeError:
        return None
    return packet if END.search(packet) else None


def _without(text: str, between: tuple[str, str]) -> str:
    """The text without what stands between two marks, each time; in linear time."""
    start, end = between
    kept, at = [], 0
    while (first := text.find(start, at)) >= 0 and (last := text.find(end, first)) >= 0:
        kept.append(text[at:first].rstrip(" \n"))
        at = last + len(end)
    return "".join([*kept, text[at:]])


def upright_xmp(packet: bytes) -> bytes:
    """The packet with orientation 1, without thumbnails and word of a video."""
    text = xmp_text(packet)
    if text is None:
        return packet
    for name in LIVE:
        text = _set(text, name, lambda _: "0")
    return _set(_without(text, THUMBNAILS), "tiff:Orientation", lambda _: "1").encode()


def xmp_orientation(packet: bytes | None) -> int:
    """The orientation that the packet tells, 0 where it tells none."""
    text = xmp_text(packet) if packet else None
    match = ORIENTATION.search(text) if text else None
    return int(match[1] or match[2]) if match else 0


def corrected_xmp(packet: bytes, size: tuple[int, int], ratio: tuple[float, float]) -> bytes:
    """The packet with the dimensions of the picture, where it tells them.

    Args:
        packet: As it came.
        size: Width and height.
        ratio: How many times as wide and high the picture is as the one that it came with.
    """
    text = xmp_text(packet)
    if text is None:
        return packet
    for axis, (name, factor) in enumerate(zip(DIMENSIONS, ratio, strict=True)):
        for each in name:
            text = _set(text, each, lambda _, axis=axis: str(size[axis]))  # type: ignore[misc]
        for each in PANORAMA[axis]:
            text = _set(text, each, partial(_scaled, factor))
    return text.encode()


def _scaled(factor: float, value: str) -> str:
    try:
        return str(round(float(value) * factor))
    except ValueError:
        return value


def _set(packet: str, name: str, change: Callable[[str], str]) -> str:
    """Change a simple property, written as an attribute or as an element, where it is there."""
    if name not in packet:
        return packet
    for pattern in (
        rf'(\b{name}\s*=\s*")([^"]*)(")',
        rf"(\b{name}\s*=\s*')([^']*)(')",
        rf"(<{name}>)([^<]*)(</{name}>)",
    ):
        packet = re.sub(pattern, lambda match: match[1] + change(match[2]) + match[3], packet)
    return packet


def record_of(packet: bytes | None) -> dict[str, Any] | None:
    """The provenance in a packet; None where there is none that can be read."""
    text = xmp_text(packet) if packet else None
    match = RECORD.search(text) if text else None
    if match is None:
        return None
    try:
        value = json.loads(html.unescape(next(group for group in match.groups() if group)))
    except (ValueError, StopIteration, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def with_record(packet: bytes | None, values: dict[str, Any]) -> bytes:
    """The packet, or a new one, with the provenance set; one that was there is replaced."""
    packet_text = _without((xmp_text(packet) if packet else None) or EMPTY, OURS)
    text = json.dumps(values, separators=(",", ":"))  # ASCII: XML forbids some characters
    if RECORD.search(packet_text):  # another program has written it in its own way
        return _set(packet_text, "upscale:Record", lambda _: html.escape(text)).encode()
    attributes = [f'xmlns:upscale="{NAMESPACE}"', f'upscale:Record="{html.escape(text)}"']
    if "DigitalSourceType" not in packet_text:
        attributes += [
            'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"',
            f'Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}"',
        ]
    joined = "\n    ".join(attributes)
    ours = f'  <rdf:Description rdf:about=""\n    {joined}/>\n '
    at = END.search(packet_text)
    cut = at.start() if at else len(packet_text)
    return (packet_text[:cut].rstrip(" ") + ours + packet_text[cut:]).encode()
