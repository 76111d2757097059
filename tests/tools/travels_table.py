"""What travels with pictures: ``python -m tests.tools.travels_table --write`` asks ExifTool.

Files that carry all that their formats can are enlarged twice as wide and high, stamped, and
written in every format. Of each thing that the file said it is asked what the result says: the same
(kept), what is true of the larger picture (corrected), or nothing, and then a warning must have
named it (named).
"""

from __future__ import annotations

import io
import json
import re
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from tests.pictures import FOLDER, exif_block, photo, sample, stamped
from tests.tools.measured import main
from upscale.image import Image, create, decode, encode, jpeg, png

PART = "what travels"
TARGETS = ("jpeg", "png", "tiff", "webp", "avif", "bmp", "tga")


@dataclass(frozen=True)
class Thing:
    """What a file says: what it is called, ExifTool's names of it, and what warnings call it."""

    label: str
    keys: tuple[str, ...]
    words: str


GENERAL = (
    Thing("EXIF: lens, exposure", ("ExifIFD:LensModel", "ExifIFD:ExposureTime"), "EXIF"),
    Thing("EXIF: GPS", ("GPS:GPSLatitude",), "EXIF"),
    Thing("EXIF: dimensions", ("ExifIFD:ExifImageWidth",), "EXIF"),
    Thing("EXIF: focal plane", ("ExifIFD:FocalPlaneXResolution",), "EXIF"),
    Thing("XMP", ("XMP-dc:Title",), "XMP"),
    Thing("XMP: dimensions", ("XMP-tiff:ImageWidth",), "XMP"),
    Thing("IPTC", ("IPTC:City",), "IPTC"),
    Thing("ICC profile", ("ICC_Profile:ProfileDescription",), "ICC profile"),
    Thing("resolution", ("IFD0:XResolution", "JFIF:XResolution", "File:PixelsPerMeterX"), "resol"),
    Thing("resources of Photoshop: URL", ("Photoshop:URL",), "Photoshop"),
)
JPEG = (
    Thing("comment", ("File:Comment", "PNG:Comment"), "comment"),
    Thing("vendor's segment (APP9)", ("raw:vendor's own",), "APP9"),
    Thing("FlashPix (APP2)", ("raw:FPXR",), "FlashPix"),
)
PNG = (
    Thing("text", ("PNG:Title",), "text"),
    Thing("text in a language", ("PNG:Author-de",), "text in"),
    Thing("time of change (tIME)", ("PNG:ModifyDate",), "tIME"),
    Thing("background (bKGD)", ("PNG:BackgroundColor",), "bKGD"),
    Thing("gamma (gAMA)", ("PNG:Gamma",), "gAMA"),
    Thing("physical scale (sCAL)", ("png:sCAL",), "sCAL"),
    Thing("private chunk, safe to copy", ("raw:prVt",), "prVt"),
)
TIFF = (
    Thing("camera's serial number", ("IFD0:CameraSerialNumber", "IFD0:SerialNumber"), "EXIF"),
    Thing("GeoTIFF: size of a pixel", ("IFD0:PixelScale",), "GeoTIFF"),
    Thing("GeoTIFF: tie point", ("IFD0:ModelTiePoint",), "GeoTIFF"),
    Thing("GeoTIFF: keys", ("GeoTiff:ProjectedCSType",), "GeoTIFF"),
    Thing("GDAL metadata", ("IFD0:GDALMetadata",), "GDAL"),
    Thing("GDAL no data", ("IFD0:GDALNoData",), "GDAL"),
)
OME = (
    Thing("OME-XML: SizeX", ("ome:SizeX",), "OME-XML"),
    Thing("OME-XML: PhysicalSizeX", ("ome:PhysicalSizeX",), "OME-XML"),
    Thing("OME-XML: channel name", ("ome:Name",), "OME-XML"),
)
IMAGEJ = (
    Thing("ImageJ: description", ("IFD0:ImageDescription",), "ImageJ"),
    Thing("ImageJ: pixels a micron", ("IFD0:XResolution",), "resolution without a unit"),
    Thing("ImageJ: info", ("raw:a note",), "ImageJ"),
)
# What is true of a picture twice as wide and high.
CORRECTED: dict[str, float] = {
    "ExifIFD:ExifImageWidth": 160 / 60,  # it is turned, too
    "ExifIFD:FocalPlaneXResolution": 2.0,
    "XMP-tiff:ImageWidth": 160 / 60,
    "png:sCAL": 0.5,
    "IFD0:PixelScale": 0.5,
    "ome:SizeX": 2.0,
    "ome:PhysicalSizeX": 0.5,
}


def told(data: bytes, extension: str) -> dict[str, Any]:
    """What ExifTool says of a file, and beside it the OME-XML and some bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{extension}"
        path.write_bytes(data)
        command = ["exiftool", "-j", "-G1", "-n", "-a", "-s", path]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    (said,) = json.loads(done.stdout)
    for name in ("vendor's own", "FPXR", "prVt", "a note"):
        wide = name.encode("utf-16-le")
        if name.encode() in data or wide in data or name.encode("utf-16-be") in data:
            said[f"raw:{name}"] = True
    if (at := data.find(b"sCAL")) > 0:
        said["png:sCAL"] = data[at + 5 :].split(b"\0")[0].decode()
    for name in ("SizeX", "PhysicalSizeX", "Name"):
        match = re.search(rf'<(?:Pixels|Channel)\b[^>]*\s{name}="([^"]*)"'.encode(), data)
        if match:
            said[f"ome:{name}"] = match[1].decode()
    return said


def _exiftool(data: bytes, extension: str, *arguments: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{extension}"
        path.write_bytes(data)
        command = ["exiftool", "-q", "-m", "-overwrite_original", *arguments, str(path)]
        subprocess.run(command, check=True, capture_output=True)
        return path.read_bytes()


def _jpeg() -> bytes:
    data = (FOLDER / "camera.jpg").read_bytes()
    flags = ("-Photoshop:URL=http://example.org", "-ExifIFD:FocalPlaneXResolution=3000")
    data = _exiftool(data, "jpg", *flags, "-XMP-tiff:ImageWidth=60", "-ExifIFD:ExposureTime=0.01")
    more = jpeg.segment(0xE9, b"vendor's own\0" + bytes(40))
    more += jpeg.segment(0xE2, b"FPXR\0\0\1" + bytes(30))
    at = 4 + int.from_bytes(data[4:6], "big")  # behind the first segment
    return data[:at] + more + data[at:]


def _png() -> bytes:
    data = encode(sample(3, 8).with_metadata(exif=exif_block(), text=(("Title", "a"),)), "png")
    more = png.chunk(b"gAMA", struct.pack(">I", 55556))
    more += png.chunk(b"bKGD", struct.pack(">3H", 1, 2, 3))
    more += png.chunk(b"tIME", struct.pack(">HBBBBB", 2024, 5, 6, 7, 8, 9))
    more += png.chunk(b"sCAL", b"\x010.5\x000.5")
    more += png.chunk(b"prVt", b"something")
    more += png.chunk(b"iTXt", b"Author\0\0\0de\0Verfasser\0" + b"Jemand")
    return data[:33] + more + data[33:]


def _tiff() -> bytes:
    buffer = io.BytesIO()
    keys = (1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32633)
    items = '<Item name="AREA">x</Item>\n<Item name="STATISTICS_MEAN">3</Item>\n'
    gdal = f"<GDALMetadata>\n{items}</GDALMetadata>"
    tags = [
        (33550, 12, 3, (10.0, 10.0, 0.0), True),
        (33922, 12, 6, (4.0, 6.0, 0.0, 600000.0, 5300000.0, 0.0), True),
        (34735, 3, len(keys), keys, True),
        (42112, 2, 0, gdal, True),
        (42113, 2, 0, "-9999", True),
        (50735, 2, 0, "SN123", True),
    ]
    tifffile.imwrite(buffer, photo(), photometric="rgb", metadata=None, extratags=tags)
    return buffer.getvalue()


def _ome() -> bytes:
    buffer = io.BytesIO()
    metadata = {
        "axes": "YX",
        "PhysicalSizeX": 0.25,
        "PhysicalSizeY": 0.25,
        "Channel": {"Name": ["red"]},
    }
    tifffile.imwrite(buffer, photo()[:, :, 0], ome=True, metadata=metadata)
    return buffer.getvalue()


def _imagej() -> bytes:
    buffer = io.BytesIO()
    metadata = {"unit": "um", "Info": "a note"}
    tifffile.imwrite(
        buffer, photo()[:, :, 0], imagej=True, resolution=(4.0, 4.0), metadata=metadata
    )
    return buffer.getvalue()


SOURCES = {
    "a camera's JPEG": ("jpeg", _jpeg, (*GENERAL, *JPEG)),
    "a PNG": ("png", _png, (*GENERAL[:1], *PNG)),
    "a GeoTIFF": ("tif", _tiff, TIFF),
    "an OME-TIFF": ("tif", _ome, OME),
    "a TIFF of ImageJ": ("tif", _imagej, IMAGEJ),
}


def larger(image: Image) -> Image:
    """Twice as wide and high, with the record of a run."""
    pixels = np.repeat(np.repeat(image.pixels, 2, 0), 2, 1)
    return stamped(image.with_pixels(pixels), {"software": "upscale 1"})


def outcome(thing: Thing, before: dict[str, Any], after: dict[str, Any], warned: str) -> str:
    """What became of a thing; "LOST" where nothing was said."""
    if thing.label == "resolution" and "PNG-pHYs:PixelsPerUnitX" in after:
        return "kept"  # in other units
    first = next(key for key in thing.keys if key in before)
    found = [key for key in thing.keys if key in after]
    if not found:
        return "named" if re.search(thing.words, warned) else "LOST"
    factor, old, new = CORRECTED.get(first, 1.0), before[first], after[found[0]]
    if thing.label == "GeoTIFF: tie point":
        return "corrected" if new == "8 12 0 600000 5300000 0" else f"WRONG: {new}"
    if thing.label == "ImageJ: pixels a micron":
        return "corrected" if float(new) == 2 * float(old) else f"WRONG: {new}"
    if thing.label == "GDAL metadata":
        return "corrected" if "STATISTICS" not in str(new) and "AREA" in str(new) else "WRONG"
    if factor != 1:
        want, have = (np.array(str(v).split(), float) for v in (old, new))
        return "corrected" if np.allclose(want[:2] * factor, have[:2]) else f"WRONG: {new}"
    if thing.label == "resolution" and found[0] == "File:PixelsPerMeterX":
        return "kept"
    return "kept" if str(old) == str(new) or thing.label == "ICC profile" else f"WRONG: {new}"


@cache
def measured() -> dict[tuple[str, str, str], str]:
    """What became of each thing of each source in each format."""
    found = {}
    for name, (extension, make, things) in SOURCES.items():
        data = make()
        before, image = told(data, extension), larger(decode(data))
        for target in TARGETS:
            buffer = io.BytesIO()
            p, m = image.pixels, image.metadata
            writer = create(buffer, target, p.shape, p.dtype, m)  # type: ignore[arg-type]
            writer.write([p])
            warned = " ".join((*m.notes, *writer.losses))
            after = told(buffer.getvalue(), target)
            for thing in things:
                if any(key in before for key in thing.keys):
                    found[name, thing.label, target] = outcome(thing, before, after, warned)
    return found


def table() -> str:
    """The table as Markdown."""
    found = measured()
    lines = [f"| | {' | '.join(TARGETS)} |\n", "|---" * (len(TARGETS) + 1) + "|\n"]
    for name in SOURCES:
        lines.append(f"| *{name} to* |" + " |" * len(TARGETS) + "\n")
        for label in dict.fromkeys(label for source, label, _ in found if source == name):
            cells = " | ".join(found[name, label, target] for target in TARGETS)
            lines.append(f"| {label} | {cells} |\n")
    return "".join(lines)


if __name__ == "__main__":
    main(PART, table)
