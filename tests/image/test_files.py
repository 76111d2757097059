"""Files from other encoders: decoded as other decoders do, or refused by name."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import TiffImagePlugin

from tests.pictures import photo
from tests.profiles import cmyk_profile
from upscale import icc
from upscale.errors import ImageError
from upscale.icc import parse, profile
from upscale.image import Image, decode, encode, png, probe, to_depth
from upscale.image.source import identify

PICTURES = Path(__file__).parents[1] / "data" / "pictures"


def load(name: str) -> Image:
    return decode((PICTURES / name).read_bytes())


def pillow(name: str, mode: str) -> NDArray[np.uint8]:
    with PillowImage.open(PICTURES / name) as picture:
        pixels = np.asarray(picture.convert(mode))
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("palette.png", "RGBA"),
        ("progressive.jpg", "RGB"),
        ("p3.webp", "RGB"),
        ("ycbcr.tif", "RGB"),
        ("fax.tif", "L"),
        ("still.gif", "RGB"),
        ("rle.bmp", "RGB"),
        ("gray-alpha.png", "LA"),
        ("disc-black.png", "RGBA"),
    ],
)
def test_as_pillow_decodes_it(name: str, mode: str) -> None:
    assert (load(name).pixels == pillow(name, mode)).all()


@pytest.mark.parametrize("name", ["lzw16.tif", "float.tif", "light.hdr"])
def test_as_opencv_decodes_it(name: str) -> None:
    raw = np.frombuffer((PICTURES / name).read_bytes(), np.uint8)
    want = cv2.imdecode(raw, cv2.IMREAD_UNCHANGED)[:, :, ::-1]
    found = load(name).pixels
    assert found.dtype == want.dtype
    assert (found == want).all()


def test_planes_and_big_endian_as_tifffile_writes_them() -> None:
    deep = photo().astype(np.uint16) * 257
    options = {"photometric": "rgb", "planarconfig": "separate", "compression": "zlib"}
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, deep.transpose(2, 0, 1), byteorder=">", bigtiff=True, **options)
    assert (decode(buffer.getvalue()).pixels == deep).all()


def test_the_camera_jpeg_is_upright_and_keeps_what_it_says() -> None:
    image = load("camera.jpg")
    with PillowImage.open(PICTURES / "camera.jpg") as picture:
        turned = np.asarray(picture.transpose(PillowImage.Transpose.ROTATE_270))
    assert (image.pixels == turned).all()
    m = image.metadata
    assert parse(m.icc or b"").description == "Display P3"
    assert m.dpi == (72, 72)
    assert m.text == (("Comment", "hello"),)
    assert b"Vienna" in (m.iptc or b"")
    assert b"Astronaut" in (m.xmp or b"")


def test_ten_bits_become_sixteen() -> None:
    image = load("ten-bit.avif")
    want = to_depth(photo(), 16)
    assert image.pixels.dtype == np.uint16
    assert np.abs(image.pixels.astype(int) - want).mean() < 300  # of 65535; the file is lossy


def test_radiance_is_linear_light() -> None:
    image = load("light.hdr")
    assert image.pixels.max() > 1
    assert parse(image.metadata.icc or b"").is_linear


@pytest.mark.parametrize("name", ["cmyk.jpg", "cmyk.tif"])
def test_cmyk_goes_through_its_profile(name: str) -> None:
    image = load(name)
    with PillowImage.open(PICTURES / name) as picture:
        inks = np.asarray(picture).astype(np.float64) / 255
    ideal = (1 - inks[:, :, :3]) * (1 - inks[:, :, 3:]) * 255
    worst = np.abs(image.pixels - ideal).max()
    assert worst <= 20, f"{worst} levels: the tables of the profile have 7 nodes a side"
    assert image.metadata.cmyk == cmyk_profile()
    assert image.metadata.icc is None


def test_cmyk_without_profile_names_the_option() -> None:
    buffer = io.BytesIO()
    PillowImage.new("CMYK", (8, 8), (10, 20, 30, 40)).save(buffer, "JPEG")
    with pytest.raises(ImageError, match="--assume-icc"):
        decode(buffer.getvalue())
    image = decode(buffer.getvalue(), assume_icc=cmyk_profile())
    assert image.pixels.shape == (8, 8, 3)
    rgb = icc.build("P3", icc.PRIMARIES["p3"])
    with pytest.raises(ImageError, match=r"CMYK.*RGB"):
        decode(buffer.getvalue(), assume_icc=rgb)


def test_an_assumed_profile_is_for_pictures_without() -> None:
    p3 = icc.build("P3", icc.PRIMARIES["p3"])
    assert decode((PICTURES / "palette.png").read_bytes(), assume_icc=p3).metadata.icc == p3
    own = load("p3.webp").metadata.icc
    adobe = icc.build("Adobe", icc.PRIMARIES["adobe"])
    assert decode((PICTURES / "p3.webp").read_bytes(), assume_icc=adobe).metadata.icc == own


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("animated.gif", "animated GIF of 3 frames"),
        ("animated.webp", "animated WebP of 3 frames"),
        ("animated.png", "animated PNG of 3 frames"),
        ("pages.tif", "2 pages"),
        ("planar-tiles.tif", "tiles of single channels"),
    ],
)
def test_what_would_be_flattened_or_is_not_read_is_refused(name: str, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        load(name)


def test_thumbnails_and_masks_are_no_pages() -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(photo(), photometric="rgb", metadata=None)
        writer.write(photo(15, 20), photometric="rgb", metadata=None, subfiletype=1)
    assert decode(buffer.getvalue()).pixels.shape == (60, 80, 3)


@pytest.mark.parametrize(
    ("tags", "words"),
    [({262: 32803}, "RAW"), ({262: 8}, r"L\*a\*b\*"), ({262: 32845}, "HDR"), ({50706: 1}, "RAW")],
)
def test_raw_and_foreign_colours_in_tiff_are_named(tags: dict[int, int], words: str) -> None:
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in tags.items():
        info[tag] = value
        info.tagtype[tag] = 3
    buffer = io.BytesIO()
    PillowImage.new("L", (8, 8)).save(buffer, "TIFF", tiffinfo=info)
    data = buffer.getvalue()
    if 262 in tags:  # Pillow writes its own
        data = data.replace(
            struct.pack("<HHIH", 262, 3, 1, 1), struct.pack("<HHIH", 262, 3, 1, tags[262])
        )
    with pytest.raises(ImageError, match=words):
        decode(data)


@pytest.mark.parametrize(
    ("dtype", "words"), [(np.int16, "signed"), (np.uint32, "32-bit"), (np.complex64, "complex")]
)
def test_numbers_that_are_no_picture_are_named(dtype: type, words: str) -> None:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((8, 8), dtype), metadata=None)
    with pytest.raises(ImageError, match=words):
        decode(buffer.getvalue())


@pytest.mark.parametrize("value", [np.nan, np.inf, -3e38])
def test_what_is_no_number_is_refused_with_its_place(value: float) -> None:
    pixels = np.zeros((8, 8), np.float32)
    pixels[3, 5] = value
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, metadata=None)
    with pytest.raises(ImageError, match="column 5, row 3"):
        decode(buffer.getvalue())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"hello", "no picture"),
        (b"8BPS\0\1", "Photoshop"),
        (b"v/1\1\2\0\0\0", "OpenEXR.*TIFF"),
        (b"%PDF-1.7", "PDF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp41", "video"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "RAW"),
        (b"FUJIFILMCCD-RAW 0201", "RAW"),
        (b"<!DOCTYPE html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1", "LFS"),
        (b"RIFF\0\0\0\0AVI LIST", "video"),
    ],
)
def test_other_files_are_named(data: bytes, words: str) -> None:
    with pytest.raises(ImageError, match=words) as caught:
        decode(data)
    assert "\n" not in str(caught.value)


def test_the_content_and_not_the_name_tells_the_format() -> None:
    assert identify((PICTURES / "camera.jpg").read_bytes()) == "jpeg"
    assert probe((PICTURES / "lzw16.tif").read_bytes()).depth == 16


@pytest.mark.parametrize(
    ("depth", "colour", "raw", "extra", "want"),
    [
        (1, 0, b"\0\xa0", b"", [[255], [0], [255]]),
        (2, 0, b"\0\x18", b"", [[0], [85], [170]]),
        (4, 0, b"\0\x0f\x80", b"", [[0], [255], [136]]),
        (4, 0, b"\0\x0f\x80", b"\0\x0f", [[0, 255], [255, 0], [136, 255]]),
        (8, 0, b"\0\5\6\7", b"\0\6", [[5, 255], [6, 0], [7, 255]]),
        (16, 0, b"\0\0\1\0\2\0\3", b"\0\2", [[1, 65535], [2, 0], [3, 65535]]),
        (16, 4, b"\0" + bytes(range(12)), b"", [[1, 515], [1029, 1543], [2057, 2571]]),
        (
            8,
            2,
            b"\0" + bytes(range(9)),
            b"\0\3\0\4\0\5",
            [[0, 1, 2, 255], [3, 4, 5, 0], [6, 7, 8, 255]],
        ),
    ],
)
def test_png_of_every_depth_and_transparency(
    depth: int, colour: int, raw: bytes, extra: bytes, want: list[list[int]]
) -> None:
    head = struct.pack(">IIBBBBB", 3, 1, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", head), (b"tRNS", extra), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    chunks = [png.chunk(kind, body) for kind, body in parts if body or kind == b"IEND"]
    assert decode(png.SIGNATURE + b"".join(chunks)).pixels.tolist() == [want]


ADAM7 = [
    "16462646",
    "77777777",
    "56565656",
    "77777777",
    "36463646",
    "77777777",
    "56565656",
    "77777777",
]  # the pass in which each pixel of a square comes


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (5, 9), (20, 17)])
def test_png_interlaced(size: tuple[int, int]) -> None:
    height, width = size
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    raw = b""
    for number in "1234567":
        for y in range(height):
            row = [pixels[y, x].tobytes() for x in range(width) if ADAM7[y % 8][x % 8] == number]
            raw += b"\0" + b"".join(row) if row else b""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    data = png.SIGNATURE + b"".join(png.chunk(kind, body) for kind, body in parts)
    assert (decode(data).pixels == pixels).all()


@pytest.mark.parametrize("top", [1, 3, 100, 255, 1000, 65535])
def test_netpbm_values_are_stretched(top: int) -> None:
    values = [0, top // 2, top]
    plain = f"P2 # comment\n3 1\n{top}\n{' '.join(map(str, values))}\n".encode()
    full = 255 if top < 256 else 65535
    want = [int(v * full / top + 0.5) for v in values]
    assert decode(plain).pixels.ravel().tolist() == want
    raw = f"P5\n3 1\n{top}\n".encode() + np.array(values, ">u2" if top > 255 else "u1").tobytes()
    assert decode(raw).pixels.ravel().tolist() == want


def test_netpbm_bitmaps() -> None:
    want = [[0, 255, 0], [255, 255, 0]]
    assert decode(b"P1\n3 2\n101001").pixels[:, :, 0].tolist() == want
    assert decode(b"P4 3 2\n\xa0\x20").pixels[:, :, 0].tolist() == want


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
@pytest.mark.parametrize("kind", ["noise", "sparse", "runs", "white"])
def test_fax_codes_as_libtiff_writes_them(compression: str, kind: str) -> None:
    rng = np.random.default_rng(1)
    page = {
        "noise": rng.random((40, 61)) < 0.5,
        "sparse": rng.random((60, 900)) < 0.02,
        "runs": np.arange(2640)[None, :] >= np.arange(0, 2640, 11)[:, None],
        "white": np.ones((9, 33), bool),
    }[kind]
    for picture in (page, ~page):
        buffer = io.BytesIO()
        PillowImage.fromarray(picture).save(buffer, "TIFF", compression=compression)
        assert ((decode(buffer.getvalue()).pixels[:, :, 0] > 127) == picture).all()


@pytest.mark.parametrize("kind", ["zeros", "noise", "few", "photo"])
def test_lzw_as_libtiff_writes_it(kind: str) -> None:
    rng = np.random.default_rng(2)
    picture = {
        "zeros": np.zeros((120, 99, 3), np.uint8),
        "noise": rng.integers(0, 256, (120, 99, 3), dtype=np.uint8),
        "few": rng.integers(0, 3, (120, 99, 3), dtype=np.uint8),
        "photo": photo(120, 99),
    }[kind]
    buffer = io.BytesIO()
    PillowImage.fromarray(picture).save(buffer, "TIFF", compression="tiff_lzw")
    assert (decode(buffer.getvalue()).pixels == picture).all()


@pytest.mark.parametrize("compression", ["packbits", "tiff_adobe_deflate"])
def test_other_tiff_compressions(compression: str) -> None:
    buffer = io.BytesIO()
    PillowImage.fromarray(photo()).save(buffer, "TIFF", compression=compression)
    with PillowImage.open(buffer) as picture:
        assert (decode(buffer.getvalue()).pixels == np.asarray(picture)).all()


@pytest.mark.parametrize(("compression", "name"), [("lzma", "LZMA"), ("zstd", "Zstandard")])
def test_tiff_compressions_that_are_not_read_are_named(compression: str, name: str) -> None:
    buffer = io.BytesIO()
    PillowImage.fromarray(photo()).save(buffer, "TIFF", compression=compression)
    with pytest.raises(ImageError, match=f"{name} is not read; save it with Deflate"):
        decode(buffer.getvalue())


def test_white_is_zero_and_reversed_bits() -> None:
    gray = photo()[:, :, 0]
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, gray, photometric="miniswhite", metadata=None)
    assert (decode(buffer.getvalue()).pixels[:, :, 0] == 255 - gray).all()
    buffer = io.BytesIO()
    PillowImage.fromarray(gray > 99).save(buffer, "TIFF", compression="group4", tiffinfo={266: 2})
    data = buffer.getvalue()
    assert ((decode(data).pixels[:, :, 0] > 0) == (gray > 99)).all()


def test_ycck_is_read_as_pillow_reads_it() -> None:
    data = (PICTURES / "cmyk.jpg").read_bytes()
    at = data.index(b"Adobe") + 11
    assert data[at] == 0
    ycck = data[:at] + b"\2" + data[at + 1 :]
    with PillowImage.open(io.BytesIO(ycck)) as picture:
        separations = picture.copy()
    assert separations.mode == "CMYK"
    want = np.asarray(profile.transform(cmyk_profile(), separations, "CMYK", True))
    assert (decode(ycck).pixels == want).all()
    assert not (want == load("cmyk.jpg").pixels).all()


@pytest.mark.parametrize(
    ("marker", "body", "words"),
    [(0xE2, b"MPF\0II*\0", "gain map"), (0xEB, b"JP\0\1", "C2PA")],
)
def test_what_belongs_to_other_pixels_is_left_out_with_a_warning(
    marker: int, body: bytes, words: str
) -> None:
    data = (PICTURES / "progressive.jpg").read_bytes()
    segment = bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body
    image = decode(data[:2] + segment + data[2:])
    assert words in image.metadata.notes[0]
    assert body not in encode(image, "jpeg")


def test_a_jpeg_with_a_thumbnail_or_a_second_picture_behind_it_is_its_first() -> None:
    data = (PICTURES / "progressive.jpg").read_bytes()
    assert (decode(data + data).pixels == decode(data).pixels).all()
