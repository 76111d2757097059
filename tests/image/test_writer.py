"""Writers: read back by everyone, the same bytes however the rows come."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import threading
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

from tests.pictures import IPTC, XMP, exif_block, exposure, photo, sample
from upscale import icc, image
from upscale.errors import ImageError, UsageError
from upscale.image import Encoding, Image, Metadata, create, decode, encode, model, tags, tiffwriter

KINDS = [
    (name, channels, depth)
    for name in ("png", "tiff")
    for depth in (8, 16, 32)
    for channels in (1, 2, 3, 4)
    if (name, depth) != ("png", 32)
]
FULL = {"exif": exif_block(), "xmp": XMP, "iptc": IPTC, "dpi": (300.0, 150.0)}
SIZE = (300, 517)


def written(name: str, picture: Image, *heights: int, **options: Any) -> bytes:
    """The file of a picture whose rows come in strips of these heights, and then the rest."""
    file, pixels = io.BytesIO(), picture.pixels
    ends = [0, *np.cumsum(heights).tolist(), len(pixels)]
    made = create(file, name, pixels.shape, pixels.dtype, picture.metadata, Encoding(**options))  # type: ignore[arg-type]
    made.write(pixels[a:b] for a, b in pairwise(ends))
    return file.getvalue()


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are handed to libvips a few at a time."""
    monkeypatch.setattr(model, "STRIP", 4000)


@pytest.mark.parametrize(("name", "channels", "depth"), KINDS)
@pytest.mark.usefixtures("few")
def test_pixels_and_metadata_come_back(
    tmp_path: Path, name: str, channels: int, depth: int
) -> None:
    start = sample(channels, depth, *SIZE).with_metadata(**FULL)
    if channels > 2:
        start = start.with_metadata(icc=icc.build("P3", icc.PRIMARIES["p3"]))
    with (tmp_path / "a").open("x+b") as file:
        made = create(file, name, start.pixels.shape, start.pixels.dtype, start.metadata)  # type: ignore[arg-type]
        made.write([start.pixels[:7], start.pixels[7:]])
    back = image.open(tmp_path / "a").read()
    assert back.pixels.dtype == start.pixels.dtype
    assert (back.pixels == start.pixels).all()
    assert (back.metadata.icc, back.metadata.xmp) == (start.metadata.icc, XMP)
    assert (back.metadata.iptc, back.metadata.dpi) == (IPTC, pytest.approx((300, 150), abs=0.02))
    assert exposure(back.metadata.exif or b"")
    assert encode(start, name) == (tmp_path / "a").read_bytes()


@pytest.mark.parametrize(("name", "channels", "depth"), KINDS)
@pytest.mark.usefixtures("few")
def test_other_readers_agree(name: str, channels: int, depth: int) -> None:
    pixels = sample(channels, depth, *SIZE).pixels
    data = written(name, Image(pixels, Metadata(**FULL)))
    if name == "tiff" and depth < 32:  # tifffile needs another package for predicted floats
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            assert not file.is_bigtiff
            assert len(file.pages) == 1
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
    st.sampled_from(["tiff", "png", "jpeg", "bmp"]),
    st.tuples(st.integers(1, 600), st.integers(1, 300)),
    st.lists(st.integers(0, 200), max_size=6),
)
@pytest.mark.usefixtures("few")
def test_the_same_rows_give_the_same_bytes(
    name: str, size: tuple[int, int], heights: list[int]
) -> None:
    start = sample(1, 8, *size)
    total = np.cumsum([0, *heights])
    fitting = [h for h, end in zip(heights, total[1:], strict=True) if end <= size[0]]
    whole = written(name, start)
    assert written(name, start, *fitting) == whole
    assert decode(whole).pixels.shape == start.pixels.shape
    if name != "jpeg":
        assert (decode(whole).pixels == start.pixels).all()


@pytest.mark.parametrize("name", ["tiff", "png", "jpeg", "webp", "ppm"])
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
        create(io.BytesIO(), name, (10, 8, 3), np.uint8).write(rows)


@pytest.mark.parametrize(
    ("shape", "dtype", "words"),
    [
        ((4, 4, 3), np.float64, "float64"),
        ((4, 4, 5), np.uint8, "shape"),
        ((4, 0, 1), "u1", "0 x 4"),
    ],
)
def test_what_is_no_picture_is_refused_before_the_work(
    shape: tuple[int, int, int], dtype: Any, words: str
) -> None:
    with pytest.raises(ImageError, match=words):
        create(io.BytesIO(), "tiff", shape, dtype)


def test_what_the_format_cannot_hold_is_said_before_the_work() -> None:
    with pytest.raises(ImageError, match="65 kB"):
        create(io.BytesIO(), "jpeg", (4, 4, 3), np.uint8, Metadata(exif=_long_exif()))
    with pytest.raises(ImageError, match="PFM holds no alpha"):
        create(io.BytesIO(), "ppm", (4, 4, 4), np.float32)
    with pytest.raises(UsageError, match="lossless"):
        create(io.BytesIO(), "jpeg", (4, 4, 3), np.uint8, encoding=Encoding(lossless=True))
    made = create(io.BytesIO(), "bmp", (4, 4, 3), np.uint16, Metadata(xmp=XMP))
    assert made.losses == (
        "BMP holds no XMP (with the provenance): left out",
        "BMP holds no 16 bits a channel: written with 8",
    )


def _long_exif() -> bytes:
    entry = tags.TagValue(tags.UNDEFINED, 70_000, bytes(70_000))
    return b"II*\0\x08\0\0\0" + tags.write_directory({0x927C: entry}, 8, "<")


@pytest.mark.parametrize("name", ["tiff", "png", "jpeg", "webp"])
@pytest.mark.parametrize("error", [ImageError("cut short"), KeyboardInterrupt(), RuntimeError("x")])
@pytest.mark.usefixtures("few")
def test_an_error_of_the_rows_comes_out_as_it_is(name: str, error: BaseException) -> None:
    def rows() -> Iterator[NDArray[Any]]:
        yield np.zeros((400, 8, 1), np.uint8)
        raise error

    with pytest.raises(type(error)) as caught:
        create(io.BytesIO(), name, (800, 8, 1), np.uint8).write(rows())
    assert caught.value is error


@pytest.mark.parametrize("name", ["tiff", "png", "jpeg"])
@pytest.mark.usefixtures("few")
def test_an_error_of_the_file_comes_out_as_it_is(name: str) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            if self.tell() > 20_000:
                raise OSError(28, "No space left on device")
            return super().write(data)

    noise = np.random.default_rng(0).integers(0, 256, (900, 200, 3), np.uint8)
    with pytest.raises(OSError, match="No space left"):
        create(Full(), name, noise.shape, np.uint8).write([noise])  # type: ignore[arg-type]


@pytest.mark.usefixtures("few")
def test_rows_are_pulled_in_the_thread_of_the_caller_and_not_long_before_they_are_needed() -> None:
    seen, taken = set(), []

    class Slow(io.BytesIO):
        def write(self, data: Any) -> int:
            taken.append(len(rows_taken))
            return super().write(data)

    rows_taken: list[int] = []

    def rows() -> Iterator[NDArray[Any]]:
        for y in range(400):
            seen.add(threading.current_thread())
            rows_taken.append(y)
            yield np.random.default_rng(y).integers(0, 256, (16, 500, 3), np.uint8)

    create(Slow(), "tiff", (6400, 500, 3), np.uint8).write(rows())
    assert seen == {threading.current_thread()}
    assert taken[len(taken) // 4] < 200, "a quarter is written, and more than half was taken"


@pytest.mark.usefixtures("few")
def test_premultiplied_alpha_becomes_straight_in_png() -> None:
    plain = sample(4, 8, *SIZE).pixels
    alpha = plain[:, :, 3:].astype(int)
    pixels = np.concatenate([plain[:, :, :3] * alpha // 255, alpha], 2).astype(np.uint8)
    start = Image(pixels, Metadata(premultiplied=True))
    divided = np.minimum(pixels[:, :, :3] * 255.0 / np.maximum(alpha, 1), 255)
    found = decode(written("png", start, 7)).pixels[:, :, :3]
    assert np.abs(found - divided).max() <= 0.5 + 1e-3
    tiff = decode(written("tiff", start))
    assert tiff.metadata.premultiplied
    assert (tiff.pixels == pixels).all()


@pytest.mark.skipif(
    shutil.which("exiftool") is None,
    reason="exiftool is not installed (Debian: libimage-exiftool-perl)",
)
@pytest.mark.parametrize("name", ["tiff", "png", "jpeg"])
@pytest.mark.usefixtures("few")
def test_exiftool_finds_nothing_wrong(tmp_path: Path, name: str) -> None:
    start = sample(3, 8, *SIZE).with_metadata(**FULL, icc=icc.build("P3", icc.PRIMARIES["p3"]))
    (tmp_path / f"a.{name}").write_bytes(written(name, start))
    command = ["exiftool", "-j", "-G1", "-n", "-a", "-validate", "-warning", "-all"]
    done = subprocess.run([*command, tmp_path / f"a.{name}"], capture_output=True, check=True)
    (found,) = json.loads(done.stdout)
    assert found["IFD0:Make"] == "Example"
    assert found["ICC_Profile:ProfileDescription"] == "P3"
    assert found["IPTC:City"] == "Vienna"
    said = [str(v) for k, v in found.items() if k.endswith(("Warning", "Error"))]
    allowed = ("minor", "Non-standard", "Missing required", "IPTCDigest is not current")
    assert not [w for w in said if not any(a in w for a in allowed)]


@pytest.mark.usefixtures("few")
def test_what_may_exceed_four_gigabytes_is_a_bigtiff(monkeypatch: pytest.MonkeyPatch) -> None:
    start = sample(3, 16, *SIZE).with_metadata(**FULL)
    classic = written("tiff", start)
    monkeypatch.setattr(tiffwriter, "CLASSIC", start.pixels.nbytes)
    big = written("tiff", start)
    assert (classic[2], big[2]) == (42, 43)
    assert np.array_equal(decode(classic).pixels, decode(big).pixels)
    assert decode(classic).metadata == decode(big).metadata
    with tifffile.TiffFile(io.BytesIO(big)) as file:
        assert np.array_equal(file.asarray(), start.pixels)


@pytest.mark.parametrize("depth", [8, 16])
def test_a_photograph_is_no_larger_than_from_opencv(depth: int) -> None:
    part = cv2.resize(photo(200, 267), (1068, 800), interpolation=cv2.INTER_CUBIC)
    pixels = part if depth == 8 else part.astype(np.uint16) * 257
    noise = np.random.default_rng(0).integers(0, 3, pixels.shape, dtype=pixels.dtype)
    start = np.minimum(pixels, np.iinfo(pixels.dtype).max - 3) + noise
    own = len(written("png", Image(start)))
    other = len(cv2.imencode(".png", start, [cv2.IMWRITE_PNG_COMPRESSION, 4])[1])
    assert own <= 1.02 * other, f"{own} bytes, and {other} by OpenCV"


MEMORY = """
import io, re, sys, zlib
import numpy as np
from upscale import image
from upscale.image import create
from upscale.image import tags
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
    create(file, "png", (300, 300, 1), "u1").write([zeros[:300, :300]])
list(image.open(f"{folder}/small").rows())
before = peak()
with open(path, "w+b") as file:
    if name == "strip":
        one_strip(file)
    else:
        rows = (zeros for _ in range(height // 1000))
        create(file, name, (height, width, 1), "u1").write(rows)
wrote = peak() - before
count = sum(len(rows) for rows in image.open(path, max_pixels=2**62).rows())
print(count, wrote, peak() - before)
"""


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(),
    reason="this system has no /proc, which tells the peak of memory",
)
@pytest.mark.parametrize(("name", "most"), [("tiff", 60), ("png", 60), ("strip", 60), ("jpeg", 80)])
def test_memory_does_not_grow_with_the_picture(tmp_path: Path, name: str, most: int) -> None:
    command = [sys.executable, "-c", MEMORY, str(tmp_path), name]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True)
    count, wrote, grown = map(int, done.stdout.split())
    assert count == 6000
    assert wrote < most, f"{wrote} MiB while 114 MiB were written"
    assert grown < most, f"{grown} MiB while 114 MiB were read"
