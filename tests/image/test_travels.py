"""What travels with pictures from one file to the next: kept, corrected, or named."""

from __future__ import annotations

import io
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

import upscale
from tests.pictures import XMP, exif_block, photo, sample, stamped
from tests.tools import travels_table
from tests.tools.measured import documented
from upscale.image import Image, create, decode, encode, exif, jpeg, tags
from upscale.image.fit import losses


def camera_block(size: int, *, software: str = "", thumbnail: bool = True) -> bytes:
    """An EXIF block as cameras fill it: maker note, thumbnail in the middle, data behind it."""
    note = tags.undefined(b"Maker\0" + bytes(range(34)))
    sub = {0x927C: note, exif.PIXEL_X: tags.long(33, ">"), exif.PIXEL_Y: tags.long(24, ">")}
    first = {0x010F: tags.ascii_entry("Example Maker"), exif.ORIENTATION: tags.short(1, ">")}
    if software:
        first[exif.SOFTWARE] = tags.ascii_entry(software)
    raw = bytearray(b"MM\0*\0\0\0\x08" + exif.write({exif.EXIF_IFD: sub}, first, 8, ">"))
    if thumbnail:
        picture, at = b"\xff\xd8\xff" + b"\7" * 5000 + b"\xff\xd9", len(raw)
        second = {exif.THUMBNAIL: tags.long(0, ">")}
        second[exif.THUMBNAIL_LENGTH] = tags.long(len(picture), ">")
        end = at + len(tags.write_directory(second, at, ">"))
        second[exif.THUMBNAIL] = tags.long(end, ">")
        raw += tags.write_directory(second, at, ">") + picture
        count = struct.unpack_from(">H", raw, 8)[0]
        struct.pack_into(">I", raw, 10 + 12 * count, at)
    return bytes(raw + b"\t" * (size - len(raw)))


@pytest.mark.parametrize("size", [400, 20_000, 65_526])
@pytest.mark.parametrize("software", ["", "Ver 1.0", "A longer name of a firmware 1.0"])
@pytest.mark.parametrize("thumbnail", [False, True])
def test_an_exif_block_does_not_grow_from_run_to_run(
    size: int, software: str, thumbnail: bool
) -> None:
    block = camera_block(size, software=software, thumbnail=thumbnail)
    image, sizes = decode(encode(sample(3, 8).with_metadata(exif=block), "jpeg")), []
    for run in range(10):
        image = stamped(image, {"software": "upscale 9.9.9", "run": run})
        image = decode(encode(Image(np.repeat(image.pixels, 2, 1)[:, :40], image.metadata), "jpeg"))
        found = image.metadata.exif or b""
        sizes.append(len(found))
        assert found.index(b"Maker\0") == block.index(b"Maker\0")
        if size < 65_000 or thumbnail:
            assert exif.software(found) == "upscale 9.9.9"
        with PillowImage.open(io.BytesIO(encode(image, "jpeg"))) as picture:
            assert picture.getexif()[0x010F] == "Example Maker"
            assert picture.getexif().get_ifd(exif.EXIF_IFD)[exif.PIXEL_X] == 40
    assert len(set(sizes)) == 1, sizes
    assert sizes[0] <= len(block) + 300


def test_exif_in_several_segments_comes_back() -> None:
    block = camera_block(150_000)
    plain = encode(sample(3, 8), "jpeg")
    parts = [block[i : i + 65_000] for i in range(0, len(block), 65_000)]
    more = b"".join(jpeg.segment(0xE1, exif.PREFIX + part) for part in parts)
    image = decode(plain[:20] + more + plain[20:])
    assert len(image.metadata.exif or b"") == len(block)
    assert len(decode(encode(image, "jpeg")).metadata.exif or b"") == len(block)


ORIENTED = b'<rdf:RDF><rdf:Description tiff:Orientation="6"/></rdf:RDF>'


@pytest.mark.parametrize("name", ["png", "tiff", "webp", "jpeg"])
def test_an_orientation_that_stands_in_xmp_alone_is_applied(name: str) -> None:
    start = sample(3, 8).with_metadata(xmp=ORIENTED)
    data = encode(start, name, **({"lossless": True} if name == "webp" else {}))
    if name == "tiff":  # a tag of its own says more than the packet
        assert decode(data).pixels.shape == (24, 33, 3)
        at = data.index(struct.pack("<HHI", 274, 3, 1))
        data = data[:at] + struct.pack("<HHI", 280, 3, 1) + data[at + 8 :]
    image = decode(data)
    want = np.rot90(decode(encode(start.with_metadata(xmp=None), name, quality=None)).pixels, -1)
    if name in ("png", "tiff"):
        assert (image.pixels == want).all()
    assert image.pixels.shape == (33, 24, 3)
    assert b'tiff:Orientation="1"' in (image.metadata.xmp or b"")


def test_avif_is_turned_by_its_boxes_alone() -> None:
    data = encode(sample(3, 8).with_metadata(xmp=ORIENTED), "avif")
    assert decode(data).pixels.shape == (24, 33, 3)


def twice(image: Image) -> Image:
    return image.with_pixels(np.repeat(np.repeat(image.pixels, 2, 0), 2, 1))


@pytest.mark.parametrize("point", [False, True])
def test_geotiff_tells_the_place_of_the_new_pixels(point: bool) -> None:
    buffer = io.BytesIO()
    keys = (1, 1, 0, 1, 1025, 0, 1, 2 if point else 1)
    matrix = (10.0, 0, 0, 600.0, 0, -10.0, 0, 900.0, 0, 0, 0, 0, 0, 0, 0, 1)
    extra: list[Any] = [
        (33550, 12, 3, (10.0, 10.0, 0.0), True),
        (33922, 12, 6, (2.0, 3.0, 0.0, 620.0, 870.0, 0.0), True),
        (34735, 3, len(keys), keys, True),
        (34264, 12, 16, matrix, True),
    ]
    tifffile.imwrite(buffer, photo(), photometric="rgb", metadata=None, extratags=extra)
    data = encode(twice(decode(buffer.getvalue())), "tiff")
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        found = file.pages[0].tags  # type: ignore[union-attr]
        assert found[33550].value == (5, 5, 0)
        i, j, _, x, y, _ = found[33922].value
        new = np.array(found[34264].value).reshape(4, 4)
    middle = 0.5 if point else 0.0  # a place in pixels of the old picture is the same of the new
    assert ((i + middle) / 2 - middle, (j + middle) / 2 - middle) == (2, 3)
    assert (x, y) == (620, 870)
    old = np.array(matrix).reshape(4, 4)
    for column, row in ((0.0, 0.0), (7.0, 5.0)):
        place = [(column + middle) * 2 - middle, (row + middle) * 2 - middle, 0, 1]
        assert new @ place == pytest.approx(old @ [column, row, 0, 1])


def test_what_cover_cuts_off_counts_for_no_size(tmp_path: Path) -> None:
    source, output = tmp_path / "a.tif", tmp_path / "b.tif"
    extra: list[Any] = [(33550, 12, 3, (10.0, 10.0, 0.0), True)]
    tifffile.imwrite(
        source,
        photo(),
        photometric="rgb",
        metadata=None,
        extratags=extra,
        resolution=(100, 100),
        resolutionunit="NONE",
    )
    height, width = photo().shape[:2]
    up = upscale.load("bicubic", device="cpu")
    result = up.file(source, output, size=(2 * width, height), fit="cover")
    with tifffile.TiffFile(output) as file:
        found = file.pages[0].tags  # type: ignore[union-attr]
        for name in ("XResolution", "YResolution"):  # all of it is twice as large
            assert found[name].value[0] / found[name].value[1] == pytest.approx(200, rel=0.03)
        assert 33550 not in found
    assert "GeoTIFF left out: the picture was cut" in result.losses


def test_ome_and_imagej_tell_the_size_of_the_new_pixels() -> None:
    for kind, more in (("ome", {}), ("imagej", {"resolution": (4.0, 5.0)})):
        buffer = io.BytesIO()
        metadata = {"PhysicalSizeX": 0.25, "axes": "YX"} if kind == "ome" else {"unit": "um"}
        gray = sample(1, 16).pixels[:, :, 0]
        tifffile.imwrite(buffer, gray, **{kind: True}, **more, metadata=metadata)
        image = twice(decode(buffer.getvalue()))
        (said,) = [s for s in losses(image, "png") if kind in s.lower()]
        assert "left out" in said
        with tifffile.TiffFile(io.BytesIO(encode(image, "tiff"))) as file:
            (series,) = file.series
            assert series.shape == (48, 66)
            assert (series.asarray() == image.pixels[:, :, 0]).all()
            if kind == "ome":
                assert 'PhysicalSizeX="0.125"' in (file.ome_metadata or "")
            else:
                assert file.is_imagej
                resolution = file.pages[0].tags["XResolution"].value  # type: ignore[union-attr]
                assert resolution[0] / resolution[1] == 8


def test_what_tells_of_other_pixels_is_left_out_and_named() -> None:
    buffer = io.BytesIO()
    extra: list[Any] = [(34412, 7, 8, b"LSMINFO!", True), (65000, 7, 4, b"mine", True)]
    tifffile.imwrite(buffer, photo(), photometric="rgb", metadata=None, extratags=extra)
    image = decode(buffer.getvalue())
    assert "Zeiss LSM" in image.metadata.notes[0]
    data = encode(image, "tiff")
    assert b"LSMINFO!" not in data
    assert b"mine" in data
    assert losses(image, "jpeg") == ("JPEG holds no TIFF tag 65000: left out",)


def test_a_video_behind_a_photograph_is_named() -> None:
    packet = XMP.replace(b'dc:format="x"', b'GCamera:MotionPhoto="1"')
    data = encode(sample(3, 8).with_metadata(xmp=packet), "jpeg")
    assert decode(data).metadata.notes == ()
    image = decode(data + b"\0\0\0\x18ftypmp42" + bytes(range(200)))
    assert "behind the picture" in image.metadata.notes[0]
    assert b'GCamera:MotionPhoto="0"' in (image.metadata.xmp or b"")


def test_our_own_exif_is_no_loss() -> None:
    image = stamped(sample(3, 8), {"software": "upscale 1"})
    assert not [said for said in losses(image, "bmp") if "EXIF" in said]
    named = stamped(sample(3, 8).with_metadata(exif=exif_block()), {"software": "upscale 1"})
    assert [said for said in losses(named, "bmp") if "EXIF" in said]


def test_panoramas_are_corrected() -> None:
    packet = XMP.replace(b'dc:format="x"', b'GPano:FullPanoWidthPixels="1000"')
    start = sample(3, 8).with_metadata(xmp=packet)
    image = twice(decode(encode(start, "png")))
    assert b'GPano:FullPanoWidthPixels="2000"' in (decode(encode(image, "png")).metadata.xmp or b"")


@pytest.mark.parametrize("name", ["jpeg", "avif", "webp"])
def test_maker_notes_behind_an_orientation_keep_their_place(name: str) -> None:
    block = camera_block(20_000, software="Ver 1.0")
    found = decode(encode(sample(3, 8).with_metadata(exif=block), name)).metadata.exif or b""
    assert found.index(b"Maker\0") == block.index(b"Maker\0")


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("exiftool") is None,
    reason="exiftool is not installed (Debian: libimage-exiftool-perl)",
)
def test_the_table_of_what_travels() -> None:
    said = travels_table.table()
    assert "LOST" not in said
    assert "WRONG" not in said
    now = documented(travels_table.PART)
    assert now == said, "run: python -m tests.tools.travels_table --write"


def test_losses_of_create_are_those_that_are_named() -> None:
    image = sample(3, 8).with_metadata(text=(("Title", "a"),), dpi=(300, 300))
    made = create(io.BytesIO(), "tga", (4, 4, 3), np.uint8, image.metadata)
    assert made.losses == (
        "TGA holds no text or comment: left out",
        "TGA holds no resolution: left out",
    )
