"""The tables of ``docs/formats.md``, measured: ``python -m tests.formats_table --write``.

Every kind of picture goes the whole way in every format: encoded, decoded, split, through a network
that changes nothing, merged, encoded, decoded; then its pixels and metadata are compared.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.profiles import cmyk_profile
from tests.whole import alpha_of, merge_image, split_image
from upscale.errors import ImageError
from upscale.image import (
    FORMATS,
    Format,
    Image,
    Metadata,
    decode,
    encode,
    icc,
    provenance,
    tags,
    to_depth,
    with_provenance,
)
from upscale.image import exif as exif_module

DOCS = Path(__file__).parent.parent / "docs" / "formats.md"
MARKS = ("<!-- measured tables: begin -->\n", "<!-- measured tables: end -->\n")
CHANNELS = {1: "gray", 2: "gray + alpha", 3: "RGB", 4: "RGB + alpha"}
DTYPES = {8: np.uint8, 16: np.uint16, 32: np.float32}
KINDS = ("icc", "exif", "xmp", "iptc", "dpi", "text", "provenance")
LABELS = {
    "icc": "ICC profile",
    "exif": "EXIF",
    "xmp": "XMP",
    "iptc": "IPTC",
    "dpi": "resolution",
    "text": "text, comment",
    "provenance": "provenance",
}
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
    b'syntax-ns#"><rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" '
    b'dc:format="x"/></rdf:RDF></x:xmpmeta>'
)
IPTC = b"\x1c\x02\x5a\x00\x06Vienna"


def written() -> Iterator[Format]:
    """The formats that are written here."""
    for format_ in FORMATS.values():
        if format_.writable and (not format_.needs or importlib.util.find_spec(format_.needs)):
            yield format_


def sample(channels: int, depth: int, height: int = 24, width: int = 33) -> Image:
    """Smooth colour with noise; alpha from 1 level to full, so that no colour is hidden."""
    rng = np.random.default_rng(channels * 100 + depth)
    y, x = np.mgrid[:height, :width]
    phase = np.arange(channels) * 1.7
    waves = np.sin(x[:, :, None] / 7 + phase) * np.cos(y[:, :, None] / 5 + phase)
    value = np.clip(0.5 + 0.4 * waves + 0.1 * rng.standard_normal(waves.shape), 0, 1)
    if channels in (2, 4):
        value[:, :, -1] = np.clip(value[:, :, -1], 1 / 255, 1)
    return Image(to_depth(value.astype(np.float32), depth) if depth < 32 else value.astype("f4"))


def exif_block() -> bytes:
    """Maker, a software name, an exposure time and the pixel dimensions, big-endian."""
    sub = {
        0x829A: tags.Entry(tags.RATIONAL, 1, (1).to_bytes(4, "big") + (250).to_bytes(4, "big")),
        exif_module.PIXEL_X: tags.long(33, ">"),
        exif_module.PIXEL_Y: tags.long(24, ">"),
    }
    first = {0x010F: tags.ascii_entry("Example"), 0x0131: tags.ascii_entry("Firmware")}
    body = exif_module.write({exif_module.EXIF_IFD: sub}, first, 8, ">")
    return b"MM\0*\0\0\0\x08" + body


def identity(image: Image, channels: int = 3) -> Image:
    """The picture through a network that changes nothing."""
    lr, rest = split_image(image, channels)
    return merge_image(lr, rest, alpha_of(rest))


@dataclass(frozen=True)
class Cell:
    """One kind of picture in one format: what comes back, and whether it is exact."""

    text: str
    exact: bool


def cell(format_: Format, channels: int, depth: int) -> Cell:
    """Encode, decode, identity network, encode, decode; compare with the start."""
    source = sample(channels, depth)
    try:
        lossless = bool(format_.quality) and format_.lossless  # a choice that the format has
        first = decode(encode(source, format_.name, lossless=lossless))
        data = encode(identity(first), format_.name, lossless=lossless)
    except ImageError:
        return Cell("refused", False)
    back = decode(data)
    want = source.pixels
    notes = []
    if back.depth != depth:
        notes.append(f"{back.depth} bit" if back.depth < 32 else "float")
        want = to_depth(want, back.depth)
    if back.is_gray != source.is_gray:
        notes.append("as RGB")
        want = want[:, :, [0, 0, 0, 1][: back.pixels.shape[2]]]
    if back.depth == 32 and format_.name in ("exr", "hdr"):
        return Cell(", ".join(["float, linear"]), False)
    difference = np.abs(back.pixels.astype(np.float64) - want.astype(np.float64)).max()
    if difference:
        notes.append("lossy")
    return Cell(", ".join(notes) or "exact", not difference and back.depth == depth)


def carried(format_: Format) -> dict[str, bool]:
    """Which metadata a format brings back after the whole way."""
    profile = icc.build("Display P3", icc.PRIMARIES["p3"])
    start = sample(3, 8).with_metadata(
        icc=profile,
        exif=exif_block(),
        xmp=XMP,
        iptc=IPTC,
        dpi=(300.0, 300.0),
        text=(("Comment", "hello"),),
    )
    start = with_provenance(start, {"software": "upscale 0", "model": "identity"})
    m = decode(encode(identity(start), format_.name)).metadata
    return {
        "icc": m.icc == profile,
        "exif": m.exif is not None and _exposure(m.exif),
        "xmp": m.xmp is not None and b'dc:format="x"' in m.xmp,
        "iptc": m.iptc == IPTC,
        "dpi": m.dpi is not None and max(abs(v - 300) for v in m.dpi) < 0.01,
        "text": ("Comment", "hello") in m.text,
        "provenance": (provenance(m) or {}).get("model") == "identity",
    }


def _exposure(block: bytes) -> bool:
    opened = tags.open_block(block)
    first, _ = tags.read_directory(opened, opened.first)
    where = tags.number(first, exif_module.EXIF_IFD, opened.order)
    sub, _ = tags.read_directory(opened, where)
    return tags.numbers(sub[0x829A], opened.order) == (1 / 250,)


def cmyk_difference(name: str) -> int:
    """Worst difference, in 8-bit levels of sRGB, of CMYK separated again by its profile."""
    pixels = sample(3, 8).pixels // 2 + 64
    start = Image(pixels, Metadata(cmyk=cmyk_profile()))
    once = decode(encode(start, name, quality=100 if name == "jpeg" else None))
    twice = decode(encode(identity(once), name, quality=100 if name == "jpeg" else None))
    assert twice.metadata.cmyk == cmyk_profile()
    return int(np.abs(once.pixels.astype(int) - twice.pixels.astype(int)).max())


def table() -> str:
    """Both tables as Markdown."""
    formats = list(written())
    head = "| | " + " | ".join(f.name for f in formats) + " |\n"
    rule = "|---|" + "---|" * len(formats) + "\n"
    lines = [head, rule]
    for depth in (8, 16, 32):
        for channels, name in CHANNELS.items():
            cells = " | ".join(cell(f, channels, depth).text for f in formats)
            label = f"{name}, {'float' if depth == 32 else f'{depth} bit'}"
            lines.append(f"| {label} | {cells} |\n")
    lines += ["\n", head, rule]
    found = [carried(f) for f in formats]
    for kind in KINDS:
        cells = " | ".join("yes" if c[kind] else "–" for c in found)
        lines.append(f"| {LABELS[kind]} | {cells} |\n")
    sides = " | ".join(str(f.max_side) if f.max_side < 2**31 - 1 else "–" for f in formats)
    lines.append(f"| longest side | {sides} |\n")
    qualities = " | ".join(str(f.quality or "–") for f in formats)
    lines.append(f"| default quality | {qualities} |\n")
    return "".join(lines)


def documented() -> str:
    """The tables as they stand in the docs."""
    text = DOCS.read_text(encoding="utf-8")
    return text.split(MARKS[0])[1].split(MARKS[1])[0]


def main() -> None:
    """Write the tables into the docs."""
    text = DOCS.read_text(encoding="utf-8")
    before, rest = text.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    DOCS.write_text(before + MARKS[0] + table() + MARKS[1] + after, encoding="utf-8")


if __name__ == "__main__":
    if "--write" in sys.argv:
        main()
    else:
        sys.stdout.write(table())
