"""Readers: the pixels that other decoders give, from memory and from a file, whole and by rows."""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as PillowImage

from tests.memory import decoded, linux_only
from tests.pictures import FOLDER, IPTC, XMP, exif_block, one_line, sample
from tests.profiles import gray_profile
from upscale import icc, image
from upscale.errors import ImageError
from upscale.image import Image, decode, encode, png, tags, vips
from upscale.image.source import FileData, Joined

REFUSED = {"animated", "pages", "planar-tiles"}
ALL = sorted(path for path in FOLDER.iterdir() if path.stem not in REFUSED)
QUICK = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=80)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows come a few at a time."""
    monkeypatch.setattr(vips, "BAND", 700)


def by_rows(path: Path) -> Image:
    """The picture put together from its rows."""
    reader = image.open(path)
    bands = list(reader.rows())
    assert all(band.dtype == reader.dtype for band in bands)
    found = Image(np.concatenate(bands), reader.metadata)
    assert found.pixels.shape == (reader.height, reader.width, reader.channels)
    assert reader.metadata.orientation == 1
    return found


def same(path: Path, data: bytes) -> Image:
    """Check that the rows of a file are those of its bytes."""
    path.write_bytes(data)
    found, want = by_rows(path), decode(data)
    assert found.pixels.dtype == want.pixels.dtype
    assert found.pixels.shape == want.pixels.shape
    differing = np.argwhere(found.pixels != want.pixels)
    assert not len(differing), f"{len(differing)} samples differ, the first at {differing[0]}"
    assert found.metadata == want.metadata
    return found


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.name)
def test_the_pictures_of_the_tests(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    want = decode(path.read_bytes())
    monkeypatch.setattr(vips, "BAND", 700)
    assert (same(tmp_path / path.name, path.read_bytes()).pixels == want.pixels).all()
    reader = image.open(path)
    assert (reader.in_memory().read().pixels == want.pixels).all()
    info = image.probe(path)
    size = (info.height, info.width)[:: -1 if info.metadata.orientation > 4 else 1]
    assert (*size, info.channels, info.depth) == (*want.pixels.shape, want.depth)


Build = Callable[[], tuple[bytes, NDArray[Any]]]  # a file, and its samples (H, W, C)


@st.composite
def tifffiles(draw: st.DrawFn) -> tuple[bytes, NDArray[Any]]:
    """A TIFF that tifffile writes, of any layout."""
    height, width = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    channels = draw(st.sampled_from([1, 3, 4]))
    dtype = draw(st.sampled_from(["u1", "u2", "f4"]))
    planar = draw(st.booleans()) and channels > 1
    pixels = _values(draw(st.integers(0, 9)), (height, width, channels), dtype)
    shown = pixels.transpose(2, 0, 1) if planar else pixels if channels > 1 else pixels[:, :, 0]
    white = channels == 1 and dtype != "f4" and draw(st.booleans())
    photometric = "rgb" if channels > 1 else "miniswhite" if white else "minisblack"
    tiled = draw(st.booleans()) and not planar
    sides = st.sampled_from([16, 32, 48])
    compression = draw(st.sampled_from([None, "zlib"]))
    options: dict[str, Any] = {
        "tile": (draw(sides), draw(sides)) if tiled else None,
        "rowsperstrip": None if tiled else draw(st.sampled_from([1, 7, 64, 1000])),
        "compression": compression,
        "predictor": dtype != "f4" and compression is not None and draw(st.booleans()),
        "planarconfig": ("separate" if planar else "contig") if channels > 1 else None,
        "extrasamples": ["unassalpha"] if channels == 4 else None,
    }
    buffer = io.BytesIO()
    order = draw(st.sampled_from("<>"))
    with tifffile.TiffWriter(buffer, bigtiff=draw(st.booleans()), byteorder=order) as writer:
        writer.write(shown, photometric=photometric, metadata=None, **options)
    return buffer.getvalue(), np.iinfo(dtype).max - pixels if white else pixels


def _values(seed: int, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    rng = np.random.default_rng(seed)
    if dtype == "f4":
        return rng.random(shape, np.float32)
    smooth = np.cumsum(rng.integers(-2, 3, shape), 1) % np.iinfo(dtype).max
    return np.asarray(smooth.astype(dtype))


@QUICK
@given(tifffiles())
@pytest.mark.usefixtures("few")
def test_tiffs_of_any_layout(tmp_path: Path, drawn: tuple[bytes, NDArray[Any]]) -> None:
    data, pixels = drawn
    assert (same(tmp_path / "a.tif", data).pixels == pixels).all()


def packed(values: NDArray[np.uint8], bits: int) -> bytes:
    """Rows (h, w) of samples of few bits, the first in the highest bits of a byte."""
    planes = values[:, :, None] >> np.arange(bits - 1, -1, -1) & 1
    return np.packbits(planes.reshape(len(values), -1).astype(np.uint8), 1).tobytes()


def run_lengths(raw: bytes) -> bytes:
    """PackBits, of literal runs and of repeated bytes."""
    out, at = bytearray(), 0
    while at < len(raw):
        end = at + 1
        while end < len(raw) and raw[end] == raw[at] and end - at < 128:
            end += 1
        out += bytes((257 - (end - at), raw[at])) if end - at > 1 else bytes((0, raw[at]))
        at = end
    return bytes(out)


COMPRESSIONS: dict[int, Callable[[bytes], bytes]] = {
    1: bytes,
    8: zlib.compress,
    32773: run_lengths,
}


@QUICK
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 60), st.integers(1, 50)),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from(sorted(COMPRESSIONS)),
    st.sampled_from([0, 1, 3]),
    st.booleans(),
)
@pytest.mark.usefixtures("few")
def test_tiffs_of_few_bits(
    tmp_path: Path,
    size: tuple[int, int, int],
    bits: int,
    compression: int,
    photometric: int,
    turned: bool,
) -> None:
    height, width, rows = size
    values = np.random.default_rng(width).integers(0, 2**bits, (height, width), np.uint8)
    colours = np.random.default_rng(9).integers(0, 65536, (3, 2**bits))
    strips = []
    for y in range(0, height, rows):
        raw = COMPRESSIONS[compression](packed(values[y : y + rows], bits))
        strips.append(bytes(int(f"{b:08b}"[::-1], 2) for b in raw) if turned else raw)
    offsets = 8 + np.cumsum([0, *map(len, strips)])
    entries = {256: width, 257: height, 258: bits, 259: compression, 262: photometric}
    entries |= {266: 2 if turned else 1, 277: 1, 278: rows}
    directory = {tag: tags.long(value, "<") for tag, value in entries.items()}
    directory[273] = tags.long(offsets[:-1].tolist(), "<")
    directory[279] = tags.long([len(s) for s in strips], "<")
    if photometric == 3:
        raw = struct.pack(f"<{3 << bits}H", *colours.ravel())
        directory[320] = tags.TagValue(tags.SHORT, 3 << bits, raw)
    at = int(offsets[-1])
    data = b"II*\0" + struct.pack("<I", at) + b"".join(strips)
    found = same(tmp_path / "a.tif", data + tags.write_directory(directory, at, "<"))
    gray = values * (255 // (2**bits - 1))
    want = {0: 255 - gray, 1: gray, 3: (colours >> 8).T[values]}[photometric]
    assert (found.pixels == want.reshape(found.pixels.shape)).all()


def libtiff() -> Iterator[tuple[str, bytes]]:
    """TIFFs that libtiff compresses, by Pillow and OpenCV."""
    photo = PillowImage.fromarray(sample(3, 8, 61, 83).pixels)
    for mode, compression in (
        *(("RGB", c) for c in ("tiff_lzw", "packbits", "tiff_adobe_deflate", "jpeg")),
        *(("1", c) for c in ("group3", "group4", "tiff_ccitt")),
        ("L", "jpeg"),
        ("P", "tiff_lzw"),
        ("LA", "tiff_lzw"),
        ("RGBA", "tiff_lzw"),
    ):
        for rows in (None, 8):
            buffer = io.BytesIO()
            info = {278: rows} if rows else {}
            photo.convert(mode).save(buffer, "TIFF", compression=compression, tiffinfo=info)
            yield f"{mode}-{compression}-{rows}", buffer.getvalue()
    deep = sample(3, 16, 61, 83).pixels
    for predictor in (1, 2):
        options = [cv2.IMWRITE_TIFF_COMPRESSION, 5, cv2.IMWRITE_TIFF_PREDICTOR, predictor]
        yield f"deep-lzw-{predictor}", cv2.imencode(".tif", deep, options)[1].tobytes()
    for depth in (8, 16, 32):
        yield f"own-{depth}", encode(sample(4, depth, 61, 83), "tiff")


LIBTIFF = dict(libtiff())


@pytest.mark.parametrize("name", LIBTIFF)
@pytest.mark.usefixtures("few")
def test_tiffs_of_libtiff(tmp_path: Path, name: str) -> None:
    found = same(tmp_path / "a.tif", LIBTIFF[name]).pixels
    if name.startswith(("deep", "own")):
        want = cv2.imdecode(np.frombuffer(LIBTIFF[name], np.uint8), cv2.IMREAD_UNCHANGED)
        if name != "own-8":  # OpenCV multiplies its alpha
            assert (found == want[:, :, [2, 1, 0, 3][: want.shape[2]]]).all()
        return
    with PillowImage.open(tmp_path / "a.tif") as picture:
        want = np.asarray(picture.convert({"P": "RGB", "1": "L"}.get(picture.mode, picture.mode)))
    assert (found == want.reshape(found.shape)).all()


DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}


def png_of(head: tuple[int, ...], *parts: tuple[bytes, bytes]) -> bytes:
    """A PNG of width, height, depth, colour type, interlace, and chunks."""
    width, height, depth, colour, interlace = head
    ihdr = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    chunks = [(b"IHDR", ihdr), *parts, (b"IEND", b"")]
    return png.SIGNATURE + b"".join(png.chunk(kind, body) for kind, body in chunks)


PNG_KINDS = [(d, c) for c, depths in DEPTHS.items() for d in depths]
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # as stored


@QUICK
@given(
    st.sampled_from(PNG_KINDS),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.binary(max_size=6),
    st.integers(1, 99),
    st.integers(0, 99),
)
@example((16, 0), (7, 5), b"\0\5", 40, 1)
@example((8, 2), (7, 5), b"\0\3\0\4\0\5", 40, 2)
@example((1, 3), (9, 9), b"\7", 40, 3)
@pytest.mark.usefixtures("few")
def test_pngs_of_any_kind_and_filter(
    tmp_path: Path, kind: tuple[int, int], size: tuple[int, int], clear: bytes, part: int, seed: int
) -> None:
    (depth, colour), (height, width) = kind, size
    rng = np.random.default_rng(seed)
    stored = -(-width * depth * CHANNELS[colour] // 8)
    rows = rng.integers(0, 256, (height, 1 + stored), np.uint8)
    rows[:, 0] = rng.integers(0, 5, height)
    body = zlib.compress(rows.tobytes())
    parts = []
    if colour == 3:
        parts.append((b"PLTE", rng.bytes(3 * 2**depth)))
    if clear and colour in (0, 2, 3):
        sizes = {0: 2, 2: 6, 3: min(len(clear), 2**depth)}
        parts.append((b"tRNS", clear.ljust(6, b"\0")[: sizes[colour]]))
    parts += [(b"IDAT", body[at : at + part]) for at in range(0, len(body), part)]
    data = png_of((width, height, depth, colour, 0), *parts)
    found = same(tmp_path / "a.png", data).pixels
    want = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if want.ndim == 2:  # OpenCV leaves the transparency of gray out
        assert (found[:, :, 0] == want).all()
        assert (found.shape[2] == 2) == bool(clear)
        return
    rgb = want[:, :, [2, 1, 0, 3][: want.shape[2]]]
    order = {2: [0, 0, 0, 1], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[found.shape[2]]
    assert (found[:, :, order] == rgb).all()


def jpegs() -> Iterator[tuple[str, bytes]]:
    """JPEGs of one scan in every subsampling."""
    rgb = np.ascontiguousarray(sample(3, 8, 61, 83).pixels)
    factors = [n for n in dir(cv2) if n.startswith("IMWRITE_JPEG_SAMPLING_FACTOR_")]
    for name in factors:
        options = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, getattr(cv2, name)]
        yield name[-3:], cv2.imencode(".jpg", rgb, options)[1].tobytes()
    for name, options in {
        "gray": {},
        "restarts": {"restart_marker_blocks": 3},
        "poor": {"quality": 10},
        "as-rgb": {"keep_rgb": True},
    }.items():
        buffer = io.BytesIO()
        picture = PillowImage.fromarray(rgb[:, :, 0] if name == "gray" else rgb)
        picture.save(buffer, "JPEG", **options)  # type: ignore[arg-type]
        yield name, buffer.getvalue()


JPEGS = dict(jpegs())


@pytest.mark.parametrize("name", JPEGS)
@pytest.mark.usefixtures("few")
def test_jpegs_are_the_same_in_every_sample(tmp_path: Path, name: str) -> None:
    found = same(tmp_path / "a.jpg", JPEGS[name]).pixels
    with PillowImage.open(tmp_path / "a.jpg") as picture:
        assert (found == np.asarray(picture).reshape(found.shape)).all()


def test_a_name_may_look_like_options_of_libvips(tmp_path: Path) -> None:
    same(tmp_path / "a[shrink=2]\udcff.jpg", JPEGS["poor"])


@pytest.mark.parametrize("name", ["png", "tiff", "jpeg"])
def test_metadata_are_those_of_the_whole_picture(tmp_path: Path, name: str) -> None:
    p3 = icc.build("P3", icc.PRIMARIES["p3"])
    start = sample(3, 8).with_metadata(
        exif=exif_block(), xmp=XMP, iptc=IPTC, dpi=(300, 150), text=(("Comment", "x"),)
    )
    found = same(tmp_path / "a", encode(start.with_metadata(icc=p3), name)).metadata
    assert (found.icc, found.iptc, found.format) == (p3, IPTC, name)
    assert found.exif
    assert found.xmp
    (tmp_path / "a").write_bytes(encode(start, name))
    reader = image.open(tmp_path / "a", assume_icc=p3)
    assert reader.metadata.icc == p3


def test_a_gray_profile_of_rgb_is_left_out_with_a_note(tmp_path: Path) -> None:
    odd = sample(3, 8).with_metadata(icc=gray_profile("g", 2.2))
    found = same(tmp_path / "a.png", encode(odd, "png"))
    assert "left out" in found.metadata.notes[0]


def test_each_call_reads_the_file_again(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(LIBTIFF["own-8"])
    reader = image.open(path)
    first, second = reader.rows(), reader.rows()
    assert (next(first) == next(second)).all()
    path.write_bytes(LIBTIFF["own-8"][:200])
    with pytest.raises(ImageError):
        list(reader.rows())


@pytest.mark.parametrize("name", ["png", "tiff", "jpeg"])
@pytest.mark.usefixtures("few")
def test_a_file_that_gets_shorter_meanwhile_is_an_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(encode(sample(3, 8, 1000, 900), name))
    reader = image.open(path)
    rows = reader.rows()
    next(rows)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(ImageError, match="shorter"):
        list(rows)


@pytest.mark.parametrize("name", ["png", "tiff", "jpeg"])
def test_a_reader_can_be_sent_to_another_process(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(encode(sample(3, 8), name))
    reader = image.open(path)
    again = pickle.loads(pickle.dumps(reader))
    assert again == reader
    assert (np.concatenate(list(again.rows())) == decode(path.read_bytes()).pixels).all()


def test_rows_of_a_jpeg_that_are_left_unread_leave_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encode(sample(3, 8, 900, 900), "jpeg"))
    code = "import sys; from upscale import image; held = [image.open(sys.argv[1]).rows()"
    code += " for _ in range(3)]; [next(rows) for rows in held]; held[1].close()"
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.usefixtures("few")
def test_a_turned_picture_gives_upright_rows(tmp_path: Path) -> None:
    entry = tags.write_directory({274: tags.short(6, "<")}, 8, "<")
    block = b"II*\0\x08\0\0\0" + entry
    start = sample(3, 8)
    found = same(tmp_path / "a.png", encode(start.with_metadata(exif=block), "png"))
    assert (found.pixels == np.rot90(start.pixels, -1)).all()


def test_what_is_no_number_is_refused_with_its_place(tmp_path: Path, few: None) -> None:
    pixels = np.zeros((30, 20), np.float32)
    pixels[23, 5] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", pixels, metadata=None)
    reader = image.open(tmp_path / "a.tif")
    with pytest.raises(ImageError, match="column 5, row 23"):
        list(reader.rows())


CUT = {name: data for name, data in LIBTIFF.items() if not name.endswith("None")}
CUT |= {"png": encode(sample(4, 16), "png"), "restarts": JPEGS["restarts"]}
CUT |= {name: JPEGS[name] for name in ("420", "444", "gray", "as-rgb")}


@QUICK
@given(st.sampled_from(sorted(CUT)), st.floats(0, 1), st.booleans())
@pytest.mark.usefixtures("few")
def test_files_cut_short_are_refused(tmp_path: Path, name: str, share: float, closed: bool) -> None:
    path, data = tmp_path / "a", CUT[name]
    part = data[: int(share * (len(data) - 1))]
    if closed and name in JPEGS:
        part = part.rstrip(b"\xff") + b"\xff\xd9"
    path.write_bytes(part)
    try:
        found = by_rows(path)
    except ImageError as error:
        one_line(str(error))
    else:  # only what does not matter was cut off
        want = decode(data).pixels
        assert (found.pixels == want).all(), f"{len(part)} of {len(data)}"


@pytest.mark.parametrize(
    "change", [lambda raw: raw[:-1], lambda raw: b"\7" + raw[1:]], ids=["short", "filter"]
)
def test_png_data_that_lie_are_refused_in_silence(
    tmp_path: Path, change: Callable[[bytes], bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    raw = change(bytes(30 * (1 + 12)))
    path = tmp_path / "a.png"
    path.write_bytes(png_of((4, 30, 8, 2, 0), (b"IDAT", zlib.compress(raw))))
    for read in (by_rows, lambda p: decode(p.read_bytes())):
        with pytest.raises(ImageError, match="PNG is damaged"):
            read(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("where", ["data", "checksum"])
def test_a_png_with_a_wrong_checksum_is_refused(tmp_path: Path, where: str) -> None:
    data = bytearray(encode(sample(3, 8), "png"))
    data[data.index(b"IDAT") + 30 if where == "data" else data.index(b"IEND") - 6] ^= 1
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ImageError, match="PNG is damaged"):
        by_rows(tmp_path / "a.png")


@linux_only
def test_headers_that_promise_much_cost_little(tmp_path: Path) -> None:
    tiny = (b"IDAT", zlib.compress(bytes(9000)))
    sizes = ((1, 2**31 - 1), (10**6, 2**31 - 1), (60000, 60000))
    for grown, said in decoded(tmp_path, [png_of((*size, 8, 2, 0), tiny) for size in sizes]):
        assert isinstance(said, str), "it was taken"
        assert grown < 100, f"{grown} MiB: {said}"


def test_a_file_is_read_piece_by_piece(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(range(100)))
    with (tmp_path / "a").open("rb") as file:
        data = FileData(file)
        assert len(data) == 100
        assert data[10:14] == bytes((10, 11, 12, 13))
        assert data[95:200] == bytes(range(95, 100))
        assert data[200:300] == b""


@QUICK
@given(st.data())
def test_a_stream_of_pieces_is_a_file(data: st.DataObject) -> None:
    whole, pieces, want = bytes(range(40)), [], b""
    for _ in range(data.draw(st.integers(1, 5))):
        if data.draw(st.booleans()):
            pieces.append(data.draw(st.binary(max_size=9)))
            want += pieces[-1]
        else:
            first, last = sorted(data.draw(st.tuples(st.integers(0, 40), st.integers(0, 40))))
            pieces.append(slice(first, last))
            want += whole[first:last]
    stream, file = Joined(whole, tuple(pieces)), io.BytesIO(want)
    assert stream.seek(0, os.SEEK_END) == len(want)
    for _ in range(6):
        at, size = data.draw(st.integers(0, 50)), data.draw(st.integers(1, 20))
        assert stream.seek(at, os.SEEK_SET) == file.seek(at)
        found = b""
        while len(found) < size and (part := stream.read(size - len(found))):
            found += part
        assert found == file.read(size)


@pytest.mark.parametrize("data", [b"", b"hello", b"%PDF-1.7"])
def test_other_files_are_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(ImageError) as caught:
        image.open(tmp_path / "a")
    one_line(str(caught.value))


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        image.open(tmp_path / "none")
