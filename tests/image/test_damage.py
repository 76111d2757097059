"""Damaged, lying and hostile files: one line, little memory, silence."""

from __future__ import annotations

import io
import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from PIL.PngImagePlugin import PngInfo

from tests.memory import decoded, linux_only
from tests.pictures import exif_block, one_line, sample, stamped, written
from upscale.errors import ImageError
from upscale.image import Image, decode, describe, encode, probe

PICTURES = Path(__file__).parents[1] / "data" / "pictures"
WHOLE = sorted(p for p in PICTURES.iterdir() if p.stem not in ("animated", "pages", "planar-tiles"))
QUICK = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60
)


def png(width: int, height: int, data: bytes, *, depth: int = 8, colour: int = 2) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", data), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("path", WHOLE, ids=lambda p: p.name)
def test_a_file_cut_short_anywhere_is_refused(path: Path) -> None:
    data = path.read_bytes()
    whole = decode(data)
    for i in range(1, 40):
        cut = data[: len(data) * i // 40]
        try:
            part = decode(cut)
        except ImageError as error:
            one_line(str(error))
        else:  # only what does not matter was cut off
            assert (part.pixels == whole.pixels).all(), f"{len(cut)} bytes of {len(data)}"


@pytest.mark.parametrize("name", ["camera.jpg", "cmyk.jpg"])
def test_a_jpeg_scan_that_ends_early_is_refused_although_it_is_closed(name: str) -> None:
    data = (PICTURES / name).read_bytes()
    start = data.rindex(b"\xff\xda") + 14
    for share in (0.2, 0.5, 0.9):
        cut = data[: start + int((len(data) - start) * share)].rstrip(b"\xff") + b"\xff\xd9"
        with pytest.raises(ImageError, match="cut short"):
            decode(cut)


def _scans(data: bytes) -> list[tuple[int, int]]:
    """Where the coded data of each scan begin and end."""
    found, at = [], 0
    marker = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
    while (start := data.find(b"\xff\xda", at)) >= 0:
        first = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        end = marker.search(data, first)
        assert end is not None
        found.append((first, end.start()))
        at = end.start()
    return found


@pytest.mark.parametrize("options", [{}, {"restart_marker_blocks": 3}, {"subsampling": 0}])
def test_a_progressive_jpeg_whose_first_scan_is_cut_is_refused(options: dict[str, int]) -> None:
    buffer = io.BytesIO()
    picture = PillowImage.fromarray(sample(3, 8, 60, 80).pixels)
    picture.save(buffer, "JPEG", quality=80, progressive=True, **options)
    data = buffer.getvalue()
    assert decode(data).pixels.shape == (60, 80, 3)
    first, end = _scans(data)[0]
    for share in (0, 0.3, 0.9):
        cut = data[: first + int((end - first) * share)].rstrip(b"\xff")
        with pytest.raises(ImageError, match="cut short"):
            decode(cut + data[end:])


def test_scans_of_single_components_are_read_and_checked() -> None:
    planes = sample(3, 8, 40, 48).pixels
    parts = []
    for i in range(3):
        raw = encode(Image(planes[:, :, i : i + 1].copy()), "jpeg", quality=90)
        parts.append((raw, *_scans(raw)[0]))
    whole = parts[0][0]
    frame = whole.index(b"\xff\xc0")
    tables = whole[2:frame] + whole[whole.index(b"\xff\xc4") : whole.index(b"\xff\xda")]
    components = b"".join(bytes((i + 1, 0x11, 0)) for i in range(3))
    head = b"\xff\xd8" + tables + b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, 40, 48, 3) + components
    adobe = b"\xff\xeeAdobe".replace(b"Adobe", b"\0\x0eAdobe\0d\0\0\0\0\0")  # RGB
    scans = [
        b"\xff\xda\0\x08\1" + bytes((i + 1, 0, 0, 63, 0)) + raw[first:end]
        for i, (raw, first, end) in enumerate(parts)
    ]
    data = head + adobe + b"".join(scans) + b"\xff\xd9"
    want = np.concatenate([decode(raw).pixels for raw, _, _ in parts], 2)
    assert (decode(data).pixels == want).all()
    short = scans[1][:-40].rstrip(b"\xff")
    with pytest.raises(ImageError, match="cut short"):
        decode(head + adobe + scans[0] + short + scans[2] + b"\xff\xd9")


@linux_only
def test_headers_that_promise_gigapixels_allocate_nothing(tmp_path: Path) -> None:
    tiny = zlib.compress(bytes(1000))
    lies = [
        png(60000, 60000, tiny),
        png(16000, 16000, tiny),
        b"BM"
        + struct.pack("<IHHI", 100, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 16000, 16000, 1, 24, 0, 0, 0, 0, 0, 0),
        b"P6 16000 16000 255\n" + bytes(99),
        b"P3 16000 16000 255\n1 2 3",
        b"PF\n16000 16000\n-1\n" + bytes(99),
        b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 16000 +X 16000\n" + bytes(99),
        _tiff(16000, 16000, 1),
        _tiff(16000, 16000, 8),
        _tiff(16000, 16000, 5),
        _jpeg(16000, 16000),
        _tiff(64, 64, 1, samples=2**31),
    ]
    for grown, said in decoded(tmp_path, lies):
        assert isinstance(said, str), "it was taken"
        assert "\n" not in said
        assert grown < 90, f"{grown} MiB: {said}"


@linux_only
def test_what_a_picture_takes_is_measured(tmp_path: Path) -> None:
    """Else the test above could pass without measuring."""
    large = png(6000, 6000, zlib.compress(bytes(6000 * 18001)))
    ((grown, said),) = decoded(tmp_path, [large])
    assert said == [[]]
    assert grown > 100, f"{grown} MiB for 103"


def _tiff(width: int, height: int, compression: int, samples: int = 1) -> bytes:
    from upscale.image import tags

    entries = {256: width, 257: height, 258: 8, 259: compression, 262: 1, 277: samples, 278: height}
    directory = {t: tags.long(v, "<") for t, v in entries.items()}
    directory |= {273: tags.long(8, "<"), 279: tags.long(50, "<")}
    return b"II*\0" + struct.pack("<I", 64) + bytes(56) + tags.write_directory(directory, 64, "<")


def _jpeg(width: int, height: int) -> bytes:
    data = encode(Image(np.zeros((8, 8, 1), np.uint8)), "jpeg")
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def test_the_limit_of_pixels_names_the_option() -> None:
    data = encode(Image(np.zeros((20, 30, 1), np.uint8)), "png")
    with pytest.raises(ImageError, match=r"30 x 20.*--max-pixels 600"):
        decode(data, max_pixels=599)
    assert decode(data, max_pixels=600).width == 30


@pytest.mark.parametrize("shape", [(1, 1), (1, 65500), (65500, 1)])
@pytest.mark.parametrize("name", ["png", "jpeg", "tiff", "bmp", "ppm"])
def test_lines_and_points(shape: tuple[int, int], name: str) -> None:
    image = Image(np.full((*shape, 3), 128, np.uint8))
    assert decode(encode(image, name)).pixels.shape == (*shape, 3)


@pytest.mark.parametrize("size", [(65535, 1), (1, 65535)])
def test_a_jpeg_larger_than_libjpeg_reads_is_refused_in_silence(
    size: tuple[int, int], capfd: pytest.CaptureFixture[str]
) -> None:
    data = _jpeg(*size)
    at = data.index(b"\xff\xda")
    scan = data[at:-2] + bytes(20_000) + b"\xff\xd9"
    with pytest.raises(ImageError, match="65500"):
        decode(data[:at] + scan)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["avif", "tiff", "webp"])
def test_sides_that_no_library_takes_are_refused_in_silence(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    data, far = encode(sample(3, 8, 40, 48), name), 0x7F000018
    if name == "avif":
        at = data.index(b"ispe") + 8
        data = data[:at] + struct.pack(">I", far) + data[at + 4 :]
    elif name == "tiff":
        whole, lie = (struct.pack("<HHI", 256, kind, 1) for kind in (3, 4))
        at = data.index(whole)
        data = data[:at] + lie + struct.pack("<I", far) + data[at + 12 :]
    else:
        data = data[:12] + b"VP8X" + struct.pack("<II", 10, 0) + bytes((255,) * 6) + data[12:]
        data = data[:4] + struct.pack("<I", len(data) - 8) + data[8:]
    with pytest.raises(ImageError) as caught:
        decode(data)
    one_line(str(caught.value))
    assert capfd.readouterr() == ("", "")


def test_a_wrong_checksum_is_an_error_where_pixels_depend_on_it() -> None:
    data = bytearray(encode(sample(3, 8), "png"))
    at = data.index(b"IDAT") + 20
    data[at] ^= 1
    with pytest.raises(ImageError, match="PNG is damaged"):
        decode(bytes(data))


def test_a_wrong_checksum_elsewhere_is_a_warning() -> None:
    data = bytearray(encode(sample(3, 8).with_metadata(dpi=(72, 72)), "png"))
    data[data.index(b"pHYs") + 5] ^= 1
    image = decode(bytes(data))
    assert image.metadata.dpi is None
    assert image.metadata.notes == ("damaged pHYs chunk left out",)


@pytest.mark.parametrize("garbage", [b"", b"x", b"garbage" * 40, bytes(200)])
@pytest.mark.parametrize("name", ["png", "jpeg", "webp", "tiff"])
def test_garbage_as_profile_exif_and_xmp_is_left_out_with_a_warning(
    name: str, garbage: bytes
) -> None:
    picture = PillowImage.fromarray(sample(3, 8).pixels)
    for kind in ("icc_profile", "xmp", "exif"):
        options: dict[str, object] = {kind: garbage}
        if (name, kind) == ("png", "xmp"):
            options = {"pnginfo": PngInfo()}
            options["pnginfo"].add_itxt("XML:com.adobe.xmp", garbage)  # type: ignore[attr-defined]
        elif (name, kind) == ("jpeg", "exif"):
            options = {kind: b"Exif\0\0" + garbage}
        elif name == "tiff" and kind != "icc_profile":
            options = {"tiffinfo": {700: garbage}}
        buffer = io.BytesIO()
        picture.save(buffer, name.upper(), **options)
        image = decode(buffer.getvalue())
        assert (image.metadata.icc, image.metadata.exif or None) == (None, None)
        said = {"icc_profile": "ICC", "exif": "EXIF"}.get(kind)
        if said and len(garbage) > 3 and (name, kind) != ("tiff", "exif"):
            assert any(said in note for note in image.metadata.notes)
        encode(image, "png")


def test_names_of_chunks_and_boxes_are_printable() -> None:
    whole = png(4, 4, zlib.compress(bytes(52)))
    with pytest.raises(ImageError, match=r"in chunk \\n\\xc4ab; fetch"):
        decode(whole[:33] + b"\x7f\0\0\0\n\xc4ab")
    noted = decode(whole[:33] + bytes(4) + b"\n\xc4ab" + bytes(4) + whole[33:])
    assert noted.metadata.notes == (r"damaged \n\xc4ab chunk left out",)
    box = b"\0\0\0\x10ftypavif\0\0\0\0" + b"\0\0\0\x04\n\xc4ab"
    with pytest.raises(ImageError, match=r"in box \\n\\xc4ab; fetch"):
        decode(box)


@linux_only
def test_compressed_text_does_not_explode(tmp_path: Path) -> None:
    bomb = zlib.compress(bytes(200 << 20), 1)
    body = b"Comment\0\0" + bomb
    chunk = (
        struct.pack(">I", len(body))
        + b"zTXt"
        + body
        + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    )
    data = encode(sample(1, 8), "png")
    ((grown, said),) = decoded(tmp_path, [data[:33] + chunk + data[33:]])
    assert isinstance(said[0], str)
    assert "zTXt" in said[0]
    assert said[1:] == [[]]
    assert grown < 150, f"{grown} MiB"


@pytest.mark.parametrize(
    "part",
    [" ", "<xmp:Thumbnails>", "<rdf:Description ", "tiff:Orientation=", "</rdf:RDF", "<rdf:RDF"],
)
def test_packets_that_would_keep_a_regular_expression_busy(part: str) -> None:
    packet = (part * (3_000_000 // len(part)) + "</rdf:RDF>").encode()
    start = sample(1, 8).with_metadata(xmp=packet)
    image = decode(encode(start, "png"))
    data = encode(stamped(image, {"software": "upscale"}), "jpeg")
    assert decode(data).pixels.shape == start.pixels.shape  # within the time that a test has


@QUICK
@given(st.binary(max_size=300), st.sampled_from([p.name for p in WHOLE] + ["pages.tif"]))
def test_any_bytes_after_a_true_beginning(tail: bytes, name: str) -> None:
    start = (PICTURES / name).read_bytes()
    for keep in (4, 16, 60):
        for action in (lambda d: decode(d, max_pixels=1 << 20), probe, describe):
            try:
                action(start[:keep] + tail)
            except ImageError as error:
                one_line(str(error))


@QUICK
@given(st.data())
def test_one_byte_changed_in_a_small_file(data: st.DataObject) -> None:
    format_ = data.draw(st.sampled_from([f.name for f in written()]))
    image = sample(3, 8, 5, 7).with_metadata(exif=exif_block(), dpi=(72, 72))
    raw = bytearray(encode(image, format_))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] = data.draw(st.integers(0, 255))
    try:
        decode(bytes(raw), max_pixels=1 << 20)
    except ImageError as error:
        one_line(str(error))


def test_mutated_files_in_processes_of_their_own() -> None:
    command = [
        sys.executable,
        "-m",
        "tests.tools.fuzz_decode",
        "--count",
        "100",
        "--seed",
        "1000000",
        "--jobs",
        "1",
    ]
    environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONSAFEPATH="")
    root = Path(__file__).parents[2]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=root, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 findings" in done.stdout


def test_directories_that_overlap_are_refused() -> None:
    """A small file of many pages, each of 4096 entries, would take minutes."""
    pages, far = 2000, 2 + 4096 * 12
    raw = bytearray(b"\x00\x10" * ((far + 4 * pages) // 2 + 8))
    raw[:8] = b"II*\0" + struct.pack("<I", 8)
    for k in range(pages):
        struct.pack_into("<I", raw, 8 + 4 * k + far, 12 + 4 * k if k + 1 < pages else 0)
    with pytest.raises(ImageError, match="directories overlap"):
        probe(bytes(raw))
