"""What other people's tools write: read as independent decoders read it, or refused by name."""

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

from tests.pictures import FOLDER, photo, sample
from upscale.errors import ImageError
from upscale.image import Image, decode, encode, from_pillow, png, probe, tags, to_pillow

Directory = dict[int, tags.TagValue]


def opencv(data: bytes) -> NDArray[np.uint8]:
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return found if found.ndim == 2 else found[:, :, [2, 1, 0, 3][: found.shape[2]]]


def pillow(data: bytes, mode: str | None = None) -> NDArray[np.uint8]:
    with PillowImage.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert(mode) if mode else picture)


def saved(name: str, picture: PillowImage.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, name, **options)
    return buffer.getvalue()


def plain_tiff(
    pixels: NDArray[np.uint8], changes: Directory, *, leave: tuple[int, ...] = ()
) -> bytes:
    """An uncompressed TIFF of one strip, with tags changed and left out."""
    height, width, channels = pixels.shape
    directory: Directory = {
        256: tags.long(width, "<"),
        257: tags.long(height, "<"),
        258: tags.short([8] * channels, "<"),
        259: tags.short(1, "<"),
        262: tags.short(2 if channels > 2 else 1, "<"),
        273: tags.long(8, "<"),
        277: tags.short(channels, "<"),
        278: tags.long(height, "<"),
        279: tags.long(pixels.size, "<"),
    }
    directory = {t: e for t, e in (directory | changes).items() if t not in leave}
    at = 8 + pixels.size + pixels.size % 2
    body = pixels.tobytes() + bytes(pixels.size % 2)
    return b"II*\0" + struct.pack("<I", at) + body + tags.write_directory(directory, at, "<")


@pytest.mark.parametrize("colour", [False, True])
def test_plain_netpbm_of_255(colour: bool) -> None:
    pixels = photo(6, 8) if colour else photo(6, 8)[:, :, :1]
    text = f"P{3 if colour else 2}\n8 6\n255\n{' '.join(map(str, pixels.ravel()))}\n".encode()
    found = decode(text).pixels
    assert found.dtype == np.uint8
    assert (found.squeeze() == opencv(text)).all()


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:2:2", "4:4:4"])
@pytest.mark.parametrize("alpha", [False, True])
def test_avif_colour_is_upsampled_as_libavif_does(subsampling: str, alpha: bool) -> None:
    pixels = sample(4 if alpha else 3, 8, 60, 80).pixels
    data = saved("AVIF", PillowImage.fromarray(pixels), quality=90, subsampling=subsampling)
    assert (decode(data).pixels == pillow(data)).all()


@pytest.mark.parametrize("range_", ["full", "limited"])
def test_gray_avif_is_gray_from_black_to_white(range_: str) -> None:
    ramp = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1))
    picture = PillowImage.fromarray(ramp)
    data = saved("AVIF", picture, quality=100, subsampling="4:0:0", range=range_)
    found = decode(data).pixels
    assert found.shape == (64, 64, 1)
    assert (found[:, :, 0] == pillow(data, "L")).all()
    assert found.min() <= 1
    assert found.max() >= 254


def test_a_still_avif_of_several_items_is_no_animation() -> None:
    """A second item that is not hidden, as grids and thumbnails have: libheif counts it."""
    data = bytearray(saved("AVIF", PillowImage.fromarray(photo()), quality=80))

    def add(at: int, size: int, value: int) -> None:
        old = int.from_bytes(data[at : at + size], "big")
        data[at : at + size] = (old + value).to_bytes(size, "big")

    entry = data.index(b"infe") - 4
    second = data[entry : entry + int.from_bytes(data[entry : entry + 4], "big")]
    second[12:14] = (99).to_bytes(2, "big")
    items, meta = data.index(b"iinf") - 4, data.index(b"meta") - 4
    end = items + int.from_bytes(data[items : items + 4], "big")
    data[end:end] = second
    for at, size, more in ((items, 4, len(second)), (meta, 4, len(second)), (items + 12, 2, 1)):
        add(at, size, more)
    place = data.index(b"iloc") + 4
    assert data[place] == 0, "the layout of iloc that libavif writes"
    for item in range(int.from_bytes(data[place + 6 : place + 8], "big")):
        add(place + 8 + 14 * item + 6, 4, len(second))
    assert probe(bytes(data)).frames == 1
    assert (decode(bytes(data)).pixels == pillow(bytes(data))).all()


@pytest.mark.parametrize("channels", [2, 4])
def test_tiff_with_alpha_that_it_does_not_announce(channels: int) -> None:
    pixels = sample(channels, 8).pixels
    data = plain_tiff(pixels, {})
    image = decode(data)
    assert (image.pixels == pixels).all()
    assert "extra channel" in image.metadata.notes[0]
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        assert (file.asarray() == pixels).all()


@pytest.mark.parametrize("leave", [(262,), (279,), (278,), (258, 277)])
def test_tiff_without_a_tag_that_others_guess(leave: tuple[int, ...]) -> None:
    pixels = sample(3, 8).pixels if 277 not in leave else sample(1, 8, 16, 16).pixels
    if 277 in leave:  # bits and channels are 1 unless they are told
        packed = np.packbits(pixels[:, :, 0] > 128, axis=1)[:, :, None]
        data = plain_tiff(packed, {256: tags.long(16, "<")}, leave=leave)
        assert (decode(data).pixels == pillow(data, "L")[:, :, None]).all()
        return
    data = plain_tiff(pixels, {}, leave=leave)
    assert (decode(data).pixels == pixels).all()
    if leave != (262,):
        assert (pillow(data) == pixels).all()


def test_tiff_with_tiles_under_the_tags_of_strips() -> None:
    pixels = photo(16, 16)
    more = {322: tags.short(16, "<"), 323: tags.short(16, "<")}
    data = plain_tiff(pixels, more, leave=(278,))
    assert (decode(data).pixels == pixels).all()


def test_tiff_in_old_lzw_codes() -> None:
    """Bits of codes from the low end, as libtiff before 3.0 wrote them."""
    gray = (photo(20, 30)[:, :, :1] // 64) * 64
    codes = [256, *gray.ravel().tolist()[:200]]
    bits, width = "", 9
    table = 258
    raw, at = gray.tobytes(), 0
    codes, known = [256], {bytes([i]): i for i in range(256)}
    while at < len(raw):
        end = at + 1
        while end < len(raw) and raw[at : end + 1] in known:
            end += 1
        codes.append(known[raw[at:end]])
        if table < 511:  # one width is enough
            known[raw[at : end + 1]] = table
            table += 1
        elif table == 511:
            codes.append(256)
            known, table = {bytes([i]): i for i in range(256)}, 258
        at = end
    codes.append(257)
    bits = "".join(f"{code:09b}"[::-1] for code in codes)
    bits += "0" * (-len(bits) % 8)
    packed = bytes(int(bits[i : i + 8][::-1], 2) for i in range(0, len(bits), 8))
    body = np.frombuffer(packed, np.uint8).reshape(1, -1, 1)
    changes = {256: tags.long(30, "<"), 257: tags.long(20, "<"), 259: tags.short(5, "<")}
    data = plain_tiff(body, changes | {278: tags.long(20, "<"), 279: tags.long(len(packed), "<")})
    assert width == 9
    assert (decode(data).pixels == gray).all()
    assert (pillow(data)[:, :, None] == gray).all()
    cut = plain_tiff(
        body, changes | {278: tags.long(20, "<"), 279: tags.long(len(packed) // 2, "<")}
    )
    with pytest.raises(ImageError):
        decode(cut)


@pytest.mark.parametrize("factors", [(1, 1), (2, 1), (2, 2)])
def test_uncompressed_ycbcr_tiff_is_rgb(factors: tuple[int, int]) -> None:
    across, down = factors
    ycc = np.asarray(PillowImage.fromarray(photo(8, 16)).convert("YCbCr"))
    blocks = []
    for y in range(0, 8, down):
        for x in range(0, 16, across):
            part = ycc[y : y + down, x : x + across]
            blocks.append(part[:, :, 0].tobytes() + part[0, 0, 1:].tobytes())
    body = np.frombuffer(b"".join(blocks), np.uint8).reshape(1, -1, 1)
    changes = {
        256: tags.long(16, "<"),
        257: tags.long(8, "<"),
        258: tags.short([8, 8, 8], "<"),
        262: tags.short(6, "<"),
        277: tags.short(3, "<"),
        278: tags.long(8, "<"),
        530: tags.short([across, down], "<"),
    }
    data = plain_tiff(body, changes)
    found = decode(data).pixels
    assert found.shape == (8, 16, 3)
    held = np.repeat(np.repeat(ycc[::down, ::across, 1:], down, 0), across, 1)
    want = PillowImage.fromarray(np.dstack([ycc[:, :, :1], held]), "YCbCr").convert("RGB")
    assert np.abs(found.astype(int) - np.asarray(want)).max() <= 2


def test_a_broken_way_to_the_next_page_is_no_damage_of_the_first() -> None:
    pixels = sample(3, 8).pixels
    data = bytearray(plain_tiff(pixels, {}))
    at = struct.unpack_from("<I", data, 4)[0]
    struct.pack_into("<I", data, at + 2 + 12 * 9, bytes(data).index(b"\xe9", 8) - 1)
    assert (decode(bytes(data)).pixels == pixels).all()


def test_a_thumbnail_that_comes_first_is_no_page() -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(photo(15, 20), photometric="rgb", metadata=None, subfiletype=1)
        writer.write(photo(), photometric="rgb", metadata=None)
    assert (decode(buffer.getvalue()).pixels == photo()).all()


def test_a_jpeg_whose_scan_header_ends_in_zeros() -> None:
    """As some phones write it; libjpeg warns, and every pixel is there."""
    data = bytearray(saved("JPEG", PillowImage.fromarray(photo()), quality=90))
    at = data.index(b"\xff\xda")
    end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    assert data[end - 3 : end] == b"\0\x3f\0"
    data[end - 3 : end] = bytes(3)
    assert (decode(bytes(data)).pixels == pillow(bytes(data))).all()


SCAN, RESTART = b"\xff\xda", b"\xff\xd3"
ODD_JPEGS = {  # what libjpeg warns of, or other programs pass over, though every pixel is there
    "fill bytes": lambda data: data.replace(SCAN, b"\xff\xff" + SCAN),
    "bytes before a marker": lambda data: data.replace(SCAN, b"abc" + SCAN),
    "bytes before the end": lambda data: data[:-2] + bytes(4) + data[-2:],
    "bytes before a restart": lambda data: data.replace(RESTART, b"\x12" + RESTART, 1),
    "bytes behind the end": lambda data: data + b"abcdef" * 100,
    "Adobe's unknown transform": lambda data: (
        data[:2] + b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\x07" + data[2:]
    ),
    "JFIF of version 7": lambda data: data.replace(b"JFIF\0\1", b"JFIF\0\7"),
}


@pytest.mark.parametrize("name", ODD_JPEGS)
def test_oddities_of_jpeg_that_cost_no_pixel(name: str) -> None:
    picture = PillowImage.fromarray(photo())
    data = ODD_JPEGS[name](saved("JPEG", picture, quality=90, restart_marker_blocks=4))
    assert (decode(data).pixels == pillow(data)).all()


RAW = b"".join(b"\0" + row.tobytes() for row in photo())
ODD_PNGS: dict[str, list[tuple[bytes, bytes]]] = {
    "too much data": [(b"IDAT", zlib.compress(RAW + bytes(500)))],
    "bytes behind the data": [(b"IDAT", zlib.compress(RAW) + bytes(50))],
    "an empty part of data": [(b"IDAT", zlib.compress(RAW)), (b"IDAT", b"")],
    "a palette of no use": [(b"PLTE", bytes(7)), (b"IDAT", zlib.compress(RAW))],
    "text between the data": [
        (b"IDAT", zlib.compress(RAW)[:500]),
        (b"tEXt", b"a\0b"),
        (b"IDAT", zlib.compress(RAW)[500:]),
    ],
}


@pytest.mark.parametrize("name", ODD_PNGS)
def test_oddities_of_png_that_cost_no_pixel(name: str) -> None:
    head = (b"IHDR", struct.pack(">IIBBBBB", 80, 60, 8, 2, 0, 0, 0))
    parts = [head, *ODD_PNGS[name], (b"IEND", b"")]
    data = png.SIGNATURE + b"".join(png.chunk(*part) for part in parts)
    assert (decode(data).pixels == photo()).all()


def test_radiance_with_several_blanks_in_its_size_line() -> None:
    pixels = sample(3, 32).pixels
    data = encode(Image(pixels), "hdr")
    line = b"-Y 24 +X 33\n"
    assert line in data
    odd = data.replace(line, b"-Y   24   +X  33\n").replace(b"\n\n", b"\nEXPOSURE= 1\n\n", 1)
    assert (decode(odd).pixels == decode(data).pixels).all()
    assert (decode(data).pixels == opencv(data)).all()


MASKS = {
    "565": (16, (0xF800, 0x7E0, 0x1F, 0)),
    "1555": (16, (0x7C00, 0x3E0, 0x1F, 0x8000)),
    "4444": (16, (0xF00, 0xF0, 0xF, 0xF000)),
    "231": (16, (0x30, 0x0E, 0x01, 0)),
    "8888": (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
    "rgbx": (32, (0xFF000000, 0xFF0000, 0xFF00, 0)),
    "1010102": (32, (0x3FF00000, 0xFFC00, 0x3FF, 0xC0000000)),
}


@pytest.mark.parametrize("top_down", [False, True])
@pytest.mark.parametrize("name", MASKS)
def test_bmp_of_bit_fields(name: str, top_down: bool) -> None:
    bits, masks = MASKS[name]
    rng = np.random.default_rng(3)
    height, width = 5, 7
    values = rng.integers(0, 2**bits, (height, width), dtype=np.uint64)
    stride = -(-width * bits // 32) * 4
    rows = b"".join(
        row.astype(f"<u{bits // 8}").tobytes().ljust(stride, b"\0")
        for row in (values if top_down else values[::-1])
    )
    head = struct.pack(
        "<IiiHHIIiiII", 56, width, -height if top_down else height, 1, bits, 3, 0, 0, 0, 0, 0
    )
    head += struct.pack("<4I", *masks)
    data = (
        b"BM" + struct.pack("<IHHI", 14 + len(head) + len(rows), 0, 0, 14 + len(head)) + head + rows
    )
    want = []
    for mask in masks[: 4 if masks[3] else 3]:
        shift = (mask & -mask).bit_length() - 1
        want.append(((values & mask) >> shift) / (mask >> shift))
    found = decode(data).pixels
    full = np.iinfo(found.dtype).max
    assert (found == np.floor(np.stack(want, -1) * full + 0.5)).all()
    if name == "8888":
        assert (pillow(data, "RGBA") == found).all()


def bmp_runs(commands: bytes, width: int, height: int) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(commands), 0, 0, 256, 0)
    palette = b"".join(bytes((i, i, i, 0)) for i in range(256))
    start = 14 + len(head) + len(palette)
    return (
        b"BM" + struct.pack("<IHHI", start + len(commands), 0, 0, start) + head + palette + commands
    )


def test_bmp_of_run_lengths_whole_and_damaged() -> None:
    whole = bytes((4, 9, 0, 0, 0, 3, 1, 2, 3, 0, 1, 7, 0, 0, 4, 5, 0, 1))
    data = bmp_runs(whole, 4, 3)
    assert (decode(data).pixels[:, :, 0] == pillow(data, "L")).all()
    for bad in (whole[:4] + b"\0\0", bytes((9, 9)) + whole, whole[:6], bytes((4, 1, 0, 0)) * 5):
        with pytest.raises(ImageError, match="damaged"):
            decode(bmp_runs(bad, 4, 3))


def test_a_gif_whose_data_stop_early_but_are_closed() -> None:
    data = saved("GIF", PillowImage.fromarray(photo()).quantize(64))
    at = data.index(b",\0\0\0\0") + 11
    first = data[at]
    cut = data[: at + 1 + first] + b"\0;"
    with pytest.raises(ImageError, match="GIF is damaged"):
        decode(cut)
    assert (decode(data).pixels == pillow(data, "RGB")).all()


@pytest.mark.parametrize("where", ["late", "long"])
def test_png_transparency_that_is_lost_is_said(where: str) -> None:
    head = struct.pack(">IIBBBBB", 3, 1, 8, 0, 0, 0, 0)
    clear = (b"tRNS", b"\0\6" if where == "late" else b"\0\6\0")
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(b"\0\5\6\7")), (b"IEND", b"")]
    parts.insert(2 if where == "late" else 1, clear)
    image = decode(png.SIGNATURE + b"".join(png.chunk(*part) for part in parts))
    assert image.pixels.shape == (1, 3, 1)
    assert "transparency is lost" in image.metadata.notes[0]


def test_a_single_frame_is_no_animation() -> None:
    data = saved("PNG", PillowImage.fromarray(photo()))
    control = png.chunk(b"acTL", struct.pack(">II", 1, 0))
    assert (decode(data[:33] + control + data[33:]).pixels == photo()).all()


@pytest.mark.parametrize("name", ["TGA", "ICO", "DDS", "PCX", "JPEG2000", "QOI"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_textures_and_icons(name: str, mode: str) -> None:
    picture = PillowImage.fromarray(photo(64, 64)).convert(mode)
    if mode == "RGBA":
        picture.putalpha(PillowImage.fromarray(photo(64, 64)[:, :, 0]))
    if (name, mode) in {("PCX", "RGBA"), ("QOI", "L")}:
        return
    options = {"bitmap_format": "bmp"} if name == "ICO" else {}
    data = saved(name, picture, **options)
    image = decode(data)
    with PillowImage.open(io.BytesIO(data)) as opened:
        want = np.asarray(opened)
    assert (image.pixels == want.reshape(image.pixels.shape)).all()
    assert image.metadata.format == {"JPEG2000": "jp2"}.get(name, name.lower())
    for share in (0.3, 0.7):
        with pytest.raises(ImageError):
            decode(data[: int(len(data) * share)])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_tga_is_written_as_pillow_and_opencv_read_it(channels: int) -> None:
    pixels = sample(channels, 8).pixels
    data = encode(Image(pixels), "tga")
    assert (pillow(data).reshape(pixels.shape) == pixels).all()
    assert (decode(data).pixels == pixels).all()


def test_tga_of_all_kinds() -> None:
    picture = PillowImage.fromarray(photo())
    for kind in ("RGB", "RGBA", "L", "P"):
        for compression in (None, "tga_rle"):
            data = saved("TGA", picture.convert(kind), compression=compression)
            want = pillow(data, {"P": "RGB"}.get(kind, kind))
            assert (decode(data).pixels.squeeze() == want).all()


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_of_any_kind(kind: type) -> None:
    data = encode(Image(photo()), "png")
    assert (decode(kind(data)).pixels == photo()).all()
    assert probe(kind(data)).width == 80


def test_pictures_of_pillow() -> None:
    palette = PillowImage.fromarray(photo()).quantize(16)
    assert (from_pillow(palette).pixels == np.asarray(palette.convert("RGB"))).all()
    turned = PillowImage.open(FOLDER / "camera.jpg")
    assert (from_pillow(turned).pixels == decode((FOLDER / "camera.jpg").read_bytes()).pixels).all()
    for mode in ("L", "LA", "RGB", "RGBA"):
        picture = PillowImage.fromarray(photo()).convert(mode)
        assert (np.asarray(to_pillow(from_pillow(picture))) == np.asarray(picture)).all()
    deep = PillowImage.fromarray(sample(1, 16).pixels[:, :, 0])
    assert (np.asarray(to_pillow(from_pillow(deep))) == np.asarray(deep)).all()
    inks = PillowImage.fromarray(photo()).convert("CMYK")
    assert from_pillow(inks).pixels.shape == (60, 80, 3)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_floating_point_tiff_is_read_by_tifffile(tmp_path: Path, channels: int) -> None:
    pixels = sample(channels, 32).pixels
    (tmp_path / "a.tif").write_bytes(encode(Image(pixels), "tiff"))
    found = tifffile.imread(tmp_path / "a.tif")
    assert (found.reshape(pixels.shape) == pixels).all()


def test_heic_by_the_extra() -> None:
    heif = pytest.importorskip("pillow_heif", reason="the extra heif is not installed")
    heif.register_heif_opener()
    data = saved("HEIF", PillowImage.fromarray(photo()), quality=90)
    assert (decode(data).pixels == pillow(data)).all()
    with pytest.raises(ImageError):
        decode(data[: len(data) // 2])
