"""Orientation, EXIF, XMP, IPTC, resolution and provenance; ExifTool as the judge."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from tests.pictures import IPTC, XMP, exif_block, identity, sample, stamped, written
from upscale import icc
from upscale.image import (
    Image,
    Metadata,
    decode,
    describe,
    encode,
    exif,
    metadata,
    provenance,
    tags,
)
from upscale.image.fit import losses

PICTURES = Path(__file__).parents[1] / "data" / "pictures"
RECORD = {
    "software": "upscale 9.8.7",
    "model": "esrgan",
    "weights": [
        {"name": "a-psnr-x4", "sha256": "0" * 64},
        {"name": "a-gan-x4", "sha256": "f" * 64},
    ],
    "alpha": 0.8,
    "scale": 4.0,
    "dtype": "fp32",
    "title": 'quotes " and <angles> & é',
}
needs_exiftool = pytest.mark.skipif(
    shutil.which("exiftool") is None,
    reason="exiftool is not installed (Debian: libimage-exiftool-perl)",
)


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels stored so that ``orientation`` shows them upright, by Pillow."""
    how = PillowImage.Transpose
    undo = {
        2: how.FLIP_LEFT_RIGHT,
        3: how.ROTATE_180,
        4: how.FLIP_TOP_BOTTOM,
        5: how.TRANSPOSE,
        6: how.ROTATE_90,
        7: how.TRANSVERSE,
        8: how.ROTATE_270,
    }
    if orientation == 1:
        return pixels
    return np.asarray(PillowImage.fromarray(pixels).transpose(undo[orientation]))


def block(orientation: int, order: str = ">") -> bytes:
    entries = {
        exif.ORIENTATION: tags.short(orientation, order),
        0x010F: tags.ascii_entry("Example"),
    }
    head = b"MM\0*\0\0\0\x08" if order == ">" else b"II*\0\x08\0\0\0"
    return head + tags.write_directory(entries, 8, order)


@pytest.mark.parametrize("name", ["png", "jpeg", "webp", "tiff", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_gives_the_same_upright_picture(name: str, orientation: int) -> None:
    upright = sample(3, 8).pixels
    stored = Image(turned(upright, orientation), Metadata(dpi=(100.0, 200.0)))
    tagged = stored.with_metadata(exif=block(orientation))
    if name == "tiff":
        data = encode(stored, name)
        plain, mark = (struct.pack("<HHIH", 274, 3, 1, v) for v in (1, orientation))
        assert data.count(plain) == 1
        data = data.replace(plain, mark)
    elif name == "webp":
        data = encode(tagged, name, lossless=True)
    else:  # Pillow writes AVIF, and says in its boxes what EXIF says
        data = encode(tagged, name, quality=100 if name in ("jpeg", "avif") else None)
    image = decode(data)
    worst = np.abs(image.pixels.astype(int) - upright).max()
    assert worst <= {"jpeg": 4, "avif": 6}.get(name, 0), (
        f"orientation {orientation}: {worst} levels"
    )
    assert image.metadata.orientation == 1
    if name in ("png", "jpeg", "tiff"):
        want = (100, 200) if orientation < 5 else (200, 100)
        assert image.metadata.dpi == pytest.approx(want, abs=0.02)
    again = decode(encode(image, "png"))
    assert (again.pixels == image.pixels).all()
    facts = describe(data)
    assert (facts["width"], facts["height"]) == (33, 24)


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_changes_in_place(order: str) -> None:
    found = exif.read(block(6, order))
    assert found.orientation == 6
    assert found.block is not None
    assert exif.read(found.block).orientation == 1
    assert len(found.block) == len(block(6, order))
    named = exif.edited(found.block, software="upscale 1")
    assert exif.software(named) == "upscale 1"
    opened = tags.open_block(named)
    assert tags.text(tags.read_directory(opened, opened.first)[0], 0x010F) == "Example"


def test_dimensions_are_corrected_even_where_they_outgrow_their_type() -> None:
    sub = {exif.PIXEL_X: tags.short(33, ">"), exif.PIXEL_Y: tags.long(24, ">")}
    body = exif.write({exif.EXIF_IFD: sub}, {256: tags.short(33, ">")}, 8, ">")
    corrected = exif.corrected(b"MM\0*\0\0\0\x08" + body, (70000, 132), (1, 1))
    opened = tags.open_block(corrected)
    first, _ = tags.read_directory(opened, opened.first)
    inner, _ = tags.read_directory(opened, tags.number(first, exif.EXIF_IFD, ">"))
    assert tags.number(first, 256, ">") == 70000
    assert [tags.number(inner, t, ">") for t in (exif.PIXEL_X, exif.PIXEL_Y)] == [70000, 132]


def test_the_thumbnail_is_gone() -> None:
    data = (PICTURES / "camera.jpg").read_bytes()
    assert data.count(b"\xff\xd8\xff") == 2
    out = encode(decode(data), "jpeg")
    assert out.count(b"\xff\xd8\xff") == 1


def test_maker_notes_keep_their_place() -> None:
    note = tags.TagValue(tags.UNDEFINED, 40, b"Maker\0" + struct.pack(">I", 12345) + bytes(30))
    body = exif.write(
        {exif.EXIF_IFD: {0x927C: note}}, {0x010F: tags.ascii_entry("Example")}, 8, ">"
    )
    raw = b"MM\0*\0\0\0\x08" + body
    image = stamped(sample(3, 8).with_metadata(exif=raw), {"software": "upscale"})
    for name in ("jpeg", "png", "webp", "avif"):
        back = decode(encode(image, name)).metadata.exif or b""
        assert back.index(b"Maker\0") == raw.index(b"Maker\0"), name
    assert b"Maker\0" in (decode(encode(image, "tiff")).metadata.exif or b"")


def test_xmp_is_corrected_as_text() -> None:
    packet = (
        b'<rdf:RDF><rdf:Description tiff:Orientation="6" tiff:ImageWidth="60" dc:x="y">'
        b"<exif:PixelXDimension>60</exif:PixelXDimension>"
        b"<xmp:Thumbnails>AAAA</xmp:Thumbnails></rdf:Description></rdf:RDF>"
    )
    out = metadata.corrected_xmp(metadata.upright_xmp(packet), (240, 320), (1, 1))
    assert b'tiff:Orientation="1"' in out
    assert b'tiff:ImageWidth="240"' in out
    assert b"<exif:PixelXDimension>240<" in out
    assert b"Thumbnails" not in out
    assert b'dc:x="y"' in out


def test_an_xmp_packet_larger_than_a_segment_is_named_and_the_provenance_stays() -> None:
    long = XMP.replace(b'dc:format="x"', b'dc:format="' + b"x" * 200_000 + b'"')
    image = stamped(sample(3, 8).with_metadata(xmp=long), RECORD)
    assert "left out but for the provenance" in losses(image, "jpeg")[0]
    assert provenance(decode(encode(image, "jpeg")).metadata) == RECORD
    assert losses(image, "png") == ()


def test_an_icc_profile_larger_than_a_segment_goes_into_jpeg_and_back() -> None:
    from tests.profiles import rgb_tables_profile

    profile = rgb_tables_profile() + bytes(100_000)
    profile = struct.pack(">I", len(profile)) + profile[4:]
    assert decode(encode(sample(3, 8).with_metadata(icc=profile), "jpeg")).metadata.icc == profile


@pytest.mark.parametrize("name", ["png", "jpeg", "webp", "tiff", "avif"])
def test_provenance_is_read_back(name: str) -> None:
    data = encode(stamped(sample(3, 8), RECORD), name)
    assert provenance(decode(data).metadata) == RECORD
    facts = describe(data)
    assert facts["provenance"] == RECORD
    assert facts["software"] == "upscale 9.8.7"


def test_an_earlier_record_stays_inside_the_next() -> None:
    image = sample(3, 8).with_metadata(exif=exif_block())
    for i in range(12):
        image = stamped(image, {"software": f"upscale {i}", "run": i})
    found: Any = provenance(image.metadata)
    runs = []
    while found:
        runs.append(found["run"])
        first, found = found, found.get("previous")
    assert runs == [11, 10]
    assert "previous_software" not in first
    once = provenance(
        stamped(sample(3, 8).with_metadata(exif=exif_block()), {"software": "u"}).metadata
    )
    assert once is not None
    assert once["previous_software"] == "Firmware"


def test_adobe_rgb_by_exif_is_believed() -> None:
    sub = {0xA001: tags.short(2, ">")}
    raw = b"MM\0*\0\0\0\x08" + exif.write({exif.EXIF_IFD: sub}, {}, 8, ">")
    image = decode(encode(sample(3, 8).with_metadata(exif=raw), "jpeg"))
    from upscale.icc import parse

    assert parse(image.metadata.icc or b"").description == "Adobe RGB (1998)"


@pytest.fixture
def exiftool(tmp_path: Path) -> Callable[[bytes, str], dict[str, Any]]:
    def read(data: bytes, name: str) -> dict[str, Any]:
        path = tmp_path / name
        path.write_bytes(data)
        command = [
            "exiftool",
            "-j",
            "-G1",
            "-n",
            "-a",
            "-struct",
            "-validate",
            "-warning",
            "-all",
            str(path),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout)[0]
        return found

    return read


@needs_exiftool
@pytest.mark.parametrize("format_", [f for f in written() if f.metadata], ids=lambda f: f.name)
def test_exiftool_agrees_with_what_the_tables_promise(
    format_: Any, exiftool: Callable[[bytes, str], dict[str, Any]]
) -> None:
    profile = icc.build("Display P3", icc.PRIMARIES["p3"])
    start = sample(3, 8).with_metadata(
        icc=profile, exif=exif_block(), xmp=XMP, iptc=IPTC, dpi=(300.0, 150.0)
    )
    image = identity(stamped(start, RECORD))
    wide = image.with_pixels(np.repeat(image.pixels, 2, 1))  # twice as wide: 66 x 24
    found = exiftool(encode(wide, format_.name), f"a.{format_.extensions[0]}")
    held = format_.metadata
    if "icc" in held:
        assert found["ICC_Profile:ProfileDescription"] == "Display P3"
    if "exif" in held:
        assert found["IFD0:Make"] == "Example"
        assert found["IFD0:Software"] == "upscale 9.8.7"
        assert found["ExifIFD:ExposureTime"] == pytest.approx(1 / 250)
        assert (found["ExifIFD:ExifImageWidth"], found["ExifIFD:ExifImageHeight"]) == (66, 24)
        assert (found["IFD0:XResolution"], found["IFD0:YResolution"]) == (300, 150)
        assert found.get("IFD0:Orientation", 1) == 1
    if "xmp" in held:
        assert json.loads(found["XMP-upscale:Record"]) == RECORD | {"previous_software": "Firmware"}
        assert found["XMP-dc:Format"] == "x"
        assert found["XMP-iptcExt:DigitalSourceType"].endswith("algorithmicallyEnhanced")
    if "iptc" in held:
        assert found["IPTC:City"] == "Vienna"
    if format_.name == "png":
        assert round(found["PNG-pHYs:PixelsPerUnitX"] * 0.0254) == 300
    if format_.name == "jpeg":
        assert (found["JFIF:XResolution"], found["JFIF:YResolution"]) == (300, 150)
    warnings = [str(v) for k, v in found.items() if k.endswith(("Warning", "Error"))]
    allowed = ("minor", "Non-standard", "Missing required", "IPTCDigest is not current")
    serious = [w for w in warnings if not any(a in w for a in allowed)]
    assert not serious, serious


@needs_exiftool
def test_a_record_that_exiftool_has_written_anew_is_read_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encode(stamped(sample(3, 8), RECORD), "jpeg"))
    command = [
        "exiftool",
        "-q",
        "-overwrite_original",
        "-XMP-dc:Title=New",
        path,
    ]
    subprocess.run(command, check=True)
    image = decode(path.read_bytes())
    assert b"New" in (image.metadata.xmp or b"")
    assert provenance(image.metadata) == RECORD
    again = stamped(image, {"software": "upscale 2"})
    assert provenance(again.metadata) == {"software": "upscale 2", "previous": RECORD}
    assert (again.metadata.xmp or b"").count(b"upscale:Record") in (1, 2)


@needs_exiftool
def test_exiftool_on_the_camera_picture(exiftool: Callable[[bytes, str], dict[str, Any]]) -> None:
    image = decode((PICTURES / "camera.jpg").read_bytes())
    wide = stamped(image.with_pixels(np.repeat(image.pixels, 2, 0)), RECORD)
    for name in ("jpeg", "png", "webp", "tiff"):
        found = exiftool(encode(wide, name), f"a.{name}")
        assert found["ExifIFD:LensModel"] == "50mm"
        assert found["GPS:GPSLatitude"] == pytest.approx(48.2)
        assert found["IFD0:Orientation"] == 1
        assert (found["ExifIFD:ExifImageWidth"], found["ExifIFD:ExifImageHeight"]) == (80, 120)
        assert found["XMP-tiff:ImageWidth"] == 80
        assert found["XMP-tiff:Orientation"] == 1
        assert found["XMP-dc:Title"] == "Astronaut"
        assert not any("Thumbnail" in key for key in found)
        if name != "webp":
            assert found["IPTC:City"] == "Vienna"
            assert found["IPTC:Keywords"] == "space"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.text(max_size=12), JSON, max_size=4), st.sampled_from([None, XMP]))
def test_any_record_comes_back_from_xmp(record: dict[str, Any], packet: bytes | None) -> None:
    found = metadata.with_record(packet, record)
    assert metadata.record_of(found) == record
    ElementTree.fromstring(metadata.xmp_text(found) or "")
    assert metadata.record_of(metadata.with_record(found, {"a": 1})) == {"a": 1}
