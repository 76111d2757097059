"""Pictures written by rows: read back by everyone, the same bytes however the rows come."""

from __future__ import annotations

import io
import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as PillowImage
from upscale.image.parallel import in_order

from tests.pictures import IPTC, XMP, exif_block, exposure, photo, sample
from upscale import icc
from upscale.errors import ImageError
from upscale.image import (
    CAN_WRITE_ROWS,
    Image,
    Metadata,
    decode,
    encode,
    open_rows,
    png_write,
    tags,
    tiff_write,
    write_rows,
)

KINDS = [
    (name, channels, depth)
    for name in sorted(CAN_WRITE_ROWS)
    for depth in (8, 16, 32)
    for channels in (1, 2, 3, 4)
    if (name, depth) != ("png", 32)
]
FULL = {"exif": exif_block(), "xmp": XMP, "iptc": IPTC, "dpi": (300.0, 150.0)}
SIZE = (300, 517)  # two rows of three tiles, neither whole


def written(name: str, image: Image, *heights: int) -> bytes:
    """The file of a picture whose rows come in strips of these heights, and then the rest."""
    file, pixels = io.BytesIO(), image.pixels
    ends = [0, *np.cumsum(heights).tolist(), len(pixels)]
    strips = [pixels[a:b] for a, b in pairwise(ends)]
    write_rows(file, name, pixels.shape, pixels.dtype, image.metadata, iter(strips))  # type: ignore[arg-type]
    return file.getvalue()


@pytest.mark.parametrize(("name", "channels", "depth"), KINDS)
def test_pixels_and_metadata_come_back_as_from_encode(
    tmp_path: Path, name: str, channels: int, depth: int
) -> None:
    image = sample(channels, depth, *SIZE).with_metadata(**FULL)
    if channels > 2:
        image = image.with_metadata(icc=icc.build("P3", icc.PRIMARIES["p3"]))
    data = written(name, image)
    back, want = decode(data), decode(encode(image, name))
    assert back.pixels.dtype == image.pixels.dtype
    assert (back.pixels == image.pixels).all()
    assert back.metadata == want.metadata
    (tmp_path / "a").write_bytes(data)
    reader = open_rows(tmp_path / "a")
    assert reader is not None
    assert (np.concatenate(list(reader.rows())) == image.pixels).all()
    assert reader.metadata == want.metadata


@pytest.mark.parametrize(("name", "channels", "depth"), KINDS)
def test_other_readers_agree(name: str, channels: int, depth: int) -> None:
    pixels = sample(channels, depth, *SIZE).pixels
    data = written(name, Image(pixels, Metadata(**FULL)))
    if name == "tiff" and depth < 32:  # tifffile needs another package for predicted floats
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            assert not file.is_bigtiff
            assert file.pages[0].is_tiled
            assert (file.asarray().reshape(pixels.shape) == pixels).all()
    if channels != 2 and (name, channels, depth) != ("tiff", 4, 8):  # OpenCV multiplies its alpha
        found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        rgb = found[:, :, [2, 1, 0, 3][:channels]] if channels > 1 else found
        assert (rgb.reshape(pixels.shape) == pixels).all()
    if depth == 8 or channels == 1:  # Pillow has no deep colour
        with PillowImage.open(io.BytesIO(data)) as picture:
            assert picture.info["dpi"] == pytest.approx((300, 150), abs=0.02)
            assert (np.asarray(picture).reshape(pixels.shape) == pixels).all()


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(["tiff", "png"]),
    st.tuples(st.integers(1, 600), st.integers(1, 300)),
    st.lists(st.integers(0, 200), max_size=6),
)
def test_the_same_rows_give_the_same_bytes(
    name: str, size: tuple[int, int], heights: list[int]
) -> None:
    image = sample(1, 8, *size)
    total = np.cumsum([0, *heights])
    fitting = [h for h, end in zip(heights, total[1:], strict=True) if end <= size[0]]
    whole = written(name, image)
    assert written(name, image, *fitting) == whole
    assert (decode(whole).pixels == image.pixels).all()


@pytest.mark.parametrize("name", ["tiff", "png"])
@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([np.zeros((9, 8, 3), np.uint8)], "9 rows, and not 10"),
        ([np.zeros((9, 8, 3), np.uint8)] * 2, "18 rows, and not 10"),
        ([np.zeros((10, 7, 3), np.uint8)], r"\(10, 7, 3\)"),
        ([np.zeros((10, 8), np.uint8)], r"\(10, 8\)"),
        ([np.zeros((10, 8, 3), np.uint16)], "uint16"),
        ([], "0 rows"),
    ],
)
def test_rows_that_do_not_fit_are_an_error(name: str, rows: list[NDArray[Any]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        write_rows(io.BytesIO(), name, (10, 8, 3), np.dtype(np.uint8), Metadata(), rows)


@pytest.mark.parametrize(
    ("name", "dtype"), [("jpeg", np.uint8), ("png", np.float32), ("tiff", np.float64)]
)
def test_what_is_not_written_by_rows_is_named(name: str, dtype: type) -> None:
    with pytest.raises(ImageError, match=name.upper()):
        write_rows(io.BytesIO(), name, (1, 1, 1), np.dtype(dtype), Metadata(), [])


def test_an_error_of_the_rows_ends_the_writing() -> None:
    def rows() -> Iterator[NDArray[Any]]:
        yield np.zeros((400, 8, 1), np.uint8)
        raise ImageError("cut short")

    for name in ("tiff", "png"):
        with pytest.raises(ImageError, match="cut short"):
            write_rows(io.BytesIO(), name, (800, 8, 1), np.dtype(np.uint8), Metadata(), rows())


def test_premultiplied_alpha_becomes_straight_in_png() -> None:
    image = sample(4, 8, *SIZE)
    alpha = image.pixels[:, :, 3:].astype(int)
    pixels = np.concatenate([image.pixels[:, :, :3] * alpha // 255, alpha], 2).astype(np.uint8)
    start = Image(pixels, Metadata(premultiplied=True))
    assert (decode(written("png", start, 7)).pixels == decode(encode(start, "png")).pixels).all()
    tiff = decode(written("tiff", start))
    assert tiff.metadata.premultiplied
    assert (tiff.pixels == pixels).all()


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
@pytest.mark.parametrize("name", ["tiff", "png"])
def test_exiftool_reads_the_same_as_from_encode(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiff_write, "CLASSIC", 0)  # of a BigTIFF it reads less
    image = sample(3, 8, *SIZE).with_metadata(**FULL, icc=icc.build("P3", icc.PRIMARIES["p3"]))
    for stem, data in (("rows", written(name, image)), ("whole", encode(image, name))):
        (tmp_path / f"{stem}.{name}").write_bytes(data)
    command = ["exiftool", "-j", "-G1", "-n", "-a", "-validate", "-warning", "-all"]
    done = subprocess.run(
        [*command, *sorted(map(str, tmp_path.iterdir()))], capture_output=True, check=True
    )
    rows, whole = json.loads(done.stdout)
    layout = ("Strip", "Tile", "File", "Directory", "SourceFile", "Compression", "Filter")
    for key in rows.keys() | whole.keys():
        if not any(word in key for word in (*layout, "ExifByteOrder")):
            assert rows.get(key) == whole.get(key), key
    assert rows["IFD0:Make"] == "Example"
    assert rows["ICC_Profile:ProfileDescription"] == "P3"


def test_what_may_exceed_four_gigabytes_is_a_bigtiff(monkeypatch: pytest.MonkeyPatch) -> None:
    image = sample(3, 16, *SIZE).with_metadata(**FULL)
    classic = written("tiff", image)
    monkeypatch.setattr(tiff_write, "CLASSIC", image.pixels.nbytes)
    big = written("tiff", image)
    assert (classic[2], big[2]) == (42, 43)
    assert np.array_equal(decode(classic).pixels, decode(big).pixels)
    assert decode(classic).metadata == decode(big).metadata
    with tifffile.TiffFile(io.BytesIO(big)) as file:
        assert np.array_equal(file.asarray(), image.pixels)


def test_directories_beyond_four_gigabytes(tmp_path: Path) -> None:
    pixels, at = np.full((3, 4, 1), 7, np.uint8), 2**33
    tile = tiff_write.deflated(np.pad(pixels, ((0, 253), (0, 252), (0, 0))), 1)
    metadata = Metadata(exif=exif_block(), xmp=XMP)
    directory = tiff_write.directory_of(pixels.shape, pixels.dtype, metadata, 1)
    directory |= {322: tags.short(256, "<"), 323: tags.short(256, "<")}
    directory |= {324: tags.long8([at - 4096], "<"), 325: tags.longs([len(tile)], "<")}
    path = tmp_path / "sparse.tif"
    with path.open("wb") as file:
        file.write(tiff_write.header(at, big=True))
        file.seek(at - 4096)
        file.write(tile)
        file.seek(at)
        file.write(tiff_write.with_exif(directory, metadata, at, big=True))
    reader = open_rows(path)
    assert reader is not None
    assert (np.concatenate(list(reader.rows())) == pixels).all()
    assert exposure(reader.metadata.exif or b"")
    assert reader.metadata.xmp == XMP


@pytest.mark.parametrize("depth", [8, 16])
def test_a_photograph_is_no_larger_than_from_opencv(depth: int) -> None:
    part = cv2.resize(photo(200, 267), (1068, 800), interpolation=cv2.INTER_CUBIC)
    pixels = part if depth == 8 else part.astype(np.uint16) * 257
    noise = np.random.default_rng(0).integers(0, 3, pixels.shape, dtype=pixels.dtype)
    image = Image(np.minimum(pixels, np.iinfo(pixels.dtype).max - 3) + noise)
    own, other = len(written("png", image)), len(encode(image, "png"))
    assert own <= 1.02 * other, f"{own} bytes, and {other} by OpenCV"


@pytest.mark.parametrize("channels", [1, 3])
def test_the_filter_of_rows_is_that_of_the_specification(channels: int) -> None:
    rows = np.random.default_rng(1).integers(0, 256, (6, 7, channels), np.uint8)
    found = png_write.paeth(rows[1:], rows[0])
    assert (found[:, 0] == 4).all()
    flat = rows.reshape(6, -1).astype(int)
    for y in range(1, 6):
        for x in range(flat.shape[1]):
            a = flat[y, x - channels] if x >= channels else 0
            c = flat[y - 1, x - channels] if x >= channels else 0
            b = flat[y - 1, x]
            p = a + b - c
            nearest = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            assert found[y - 1, 1 + x] == (flat[y, x] - nearest) % 256


def test_chunks_of_png_are_of_a_sane_size() -> None:
    image = Image(np.random.default_rng(0).integers(0, 256, (900, 1500, 3), np.uint8))
    data = written("png", image)
    sizes, at = [], 8
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        sizes += [length] if kind == b"IDAT" else []
        at += 12 + length
    assert len(sizes) > 3
    assert max(sizes) < 1 << 21


def test_results_come_in_order_and_items_only_when_there_is_room() -> None:
    taken = []

    def items() -> Iterator[int]:
        for i in range(100):
            taken.append(i)
            yield i

    results = in_order(lambda i: i * i, items())
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    assert len(taken) < 20
    results.close()  # type: ignore[attr-defined]


MEMORY = """
import io, re, sys, zlib
import numpy as np
from upscale.image import Metadata, open_rows, tags, write_rows
folder, name = sys.argv[1:]
height, width = 6000, 20000
path, zeros = f"{folder}/a", np.zeros((1000, width, 1), np.uint8)

def peak():  # MiB; that of getrusage counts the process that started this one too
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) >> 10

def one_strip(file):
    pack = zlib.compressobj(1)
    parts = [pack.compress(zeros) for _ in range(height // 1000)] + [pack.flush()]
    entries = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 277: 1, 278: height}
    directory = {tag: tags.long(value, "<") for tag, value in entries.items()}
    size = sum(map(len, parts))
    directory |= {273: tags.long(8, "<"), 279: tags.long(size, "<")}
    file.write(b"II*\\0" + (8 + size).to_bytes(4, "little") + b"".join(parts))
    file.write(tags.write_directory(directory, 8 + size, "<"))

with open(f"{folder}/small", "w+b") as file:  # what is loaded once
    write_rows(file, "png", (300, 300, 1), np.dtype("u1"), Metadata(), [zeros[:300, :300]])
list(open_rows(f"{folder}/small").rows())
before = peak()
with open(path, "w+b") as file:
    if name == "strip":
        one_strip(file)
    else:
        rows = (zeros for _ in range(height // 1000))
        write_rows(file, name, (height, width, 1), np.dtype("u1"), Metadata(), rows)
wrote = peak() - before
count = sum(len(rows) for rows in open_rows(path).rows())
print(count, wrote, peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("name", ["tiff", "png", "strip"])
def test_memory_does_not_grow_with_the_picture(tmp_path: Path, name: str) -> None:
    command = [sys.executable, "-c", MEMORY, str(tmp_path), name]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True)
    count, wrote, grown = map(int, done.stdout.split())
    assert count == 6000
    assert wrote < 60, f"{wrote} MiB while 114 MiB were written"
    assert grown < 60, f"{grown} MiB while 114 MiB were read"
