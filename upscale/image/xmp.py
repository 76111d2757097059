"""XMP packets: changed as text, so that everything else in them stays as it was.

No XML parser runs over them (a packet comes from a stranger); what is not a packet is left out.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any

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


def read(raw: bytes) -> str | None:
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


def upright(packet: bytes) -> bytes:
    """The packet with orientation 1, without thumbnails and word of a video."""
    text = read(packet)
    if text is None:
        return packet
    for name in LIVE:
        text = _set(text, name, lambda _: "0")
    return _set(_without(text, THUMBNAILS), "tiff:Orientation", lambda _: "1").encode()


def orientation(packet: bytes | None) -> int:
    """The orientation that the packet tells, 0 where it tells none."""
    text = read(packet) if packet else None
    match = ORIENTATION.search(text) if text else None
    return int(match[1] or match[2]) if match else 0


def corrected(packet: bytes, size: tuple[int, int], ratio: tuple[float, float]) -> bytes:
    """The packet with the dimensions of the picture, where it tells them.

    Args:
        packet: As it came.
        size: Width and height.
        ratio: How many times as wide and high the picture is as the one that it came with.
    """
    text = read(packet)
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


def record(packet: bytes | None) -> dict[str, Any] | None:
    """The provenance in a packet; None where there is none that can be read."""
    text = read(packet) if packet else None
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
    packet_text = _without((read(packet) if packet else None) or EMPTY, OURS)
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
