"""The tables of ``docs/formats.md``, measured: ``python -m tests.tools.formats_table --write``.

Every kind of picture goes the whole way in every format: encoded, decoded, split, through a network
that changes nothing, merged, encoded, decoded; then its pixels and metadata are compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tests.pictures import IPTC, XMP, exif_block, exposure, identity, sample, stamped, written
from tests.profiles import cmyk_profile
from tests.tools.measured import main
from upscale import icc
from upscale.errors import ImageError
from upscale.image import Image, Metadata, decode, encode, provenance, to_depth
from upscale.image.model import Format

PART = "measured tables"
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
    if back.depth == 32 and format_.name == "hdr":
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
    start = stamped(start, {"software": "upscale 0", "model": "identity"})
    m = decode(encode(identity(start), format_.name)).metadata
    return {
        "icc": m.icc == profile,
        "exif": m.exif is not None and exposure(m.exif),
        "xmp": m.xmp is not None and b'dc:format="x"' in m.xmp,
        "iptc": m.iptc == IPTC,
        "dpi": m.dpi is not None and max(abs(v - 300) for v in m.dpi) < 0.01,
        "text": ("Comment", "hello") in m.text,
        "provenance": (provenance(m) or {}).get("model") == "identity",
    }


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


if __name__ == "__main__":
    main(PART, table)
