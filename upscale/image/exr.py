"""OpenEXR, read and written here: scan lines, uncompressed, RLE, ZIPS, ZIP and PXR24.

The OpenEXR package prints to the terminal over damaged files and takes no limit of memory. Layout
and compression follow the "OpenEXR File Layout" of openexr.com. Light is scene-linear.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np

from upscale.errors import ImageError
from upscale.image import icc
from upscale.image.model import Image, Info, Metadata, Pixels, check_size

MAGIC = b"v/1\x01"
COMPRESSION = {0: "none", 1: "RLE", 2: "ZIPS", 3: "ZIP", 4: "PIZ", 5: "PXR24", 6: "B44", 7: "B44A"}
COMPRESSION |= {8: "DWAA", 9: "DWAB"}
BLOCK = {0: 1, 1: 1, 2: 1, 3: 16, 5: 16}  # scan lines in a block, of what is read here
HALF, FLOAT = 1, 2
ORDERS = (("R", "G", "B", "A"), ("R", "G", "B"), ("Y", "A"), ("Y",))
DAMAGED = "the EXR is damaged or cut short; write it again"


@dataclass(frozen=True)
class Header:
    """What the header says: windows as xMin, yMin, xMax, yMax; channels as name and type."""

    channels: tuple[tuple[str, int], ...]
    window: tuple[int, int, int, int]
    compression: int
    chromaticities: tuple[float, ...] | None
    end: int

    @property
    def width(self) -> int:
        """Columns of the data window."""
        return self.window[2] - self.window[0] + 1

    @property
    def height(self) -> int:
        """Rows of the data window."""
        return self.window[3] - self.window[1] + 1

    @property
    def used(self) -> tuple[str, ...]:
        """The channels that make the picture, in the order of ``Image``."""
        names = {name for name, _ in self.channels}
        for order in ORDERS:
            if set(order) <= names:
                return order
        raise ImageError(
            f"the EXR has channels {', '.join(sorted(names))} and neither R, G, B nor Y; "
            "write one layer alone"
        )


def _string(data: bytes, at: int) -> tuple[str, int]:
    end = data.find(b"\0", at, at + 256)
    if end < 0:
        raise ImageError(DAMAGED)
    return data[at:end].decode("latin-1"), end + 1


def _header(data: bytes) -> Header:
    if len(data) < 8:
        raise ImageError(DAMAGED)
    flags = int.from_bytes(data[5:8], "little")
    if flags & 0x1A:
        what = "tiles" if flags & 2 else "deep pixels" if flags & 8 else "several parts"
        raise ImageError(f"this EXR has {what}; write it as one part of scan lines")
    found: dict[str, bytes] = {}
    at = 8
    while at < len(data) and data[at]:
        name, at = _string(data, at)
        _, at = _string(data, at)
        size = int.from_bytes(data[at : at + 4], "little")
        found[name] = data[at + 4 : at + 4 + size]
        at += 4 + size
    try:
        window = struct.unpack("<4i", found["dataWindow"])
        compression = found["compression"][0]
        given = found.get("chromaticities")
        chromaticities = struct.unpack("<8f", given) if given else None
        channels = _channels(found["channels"])
    except (KeyError, struct.error, IndexError) as error:
        raise ImageError(DAMAGED) from error
    if compression not in BLOCK:
        raise ImageError(
            f"this EXR is compressed by {COMPRESSION.get(compression, compression)}; write it "
            "with ZIP"
        )
    return Header(channels, window, compression, chromaticities, at + 1)


def _channels(raw: bytes) -> tuple[tuple[str, int], ...]:
    found, at = [], 0
    while at < len(raw) and raw[at]:
        name, at = _string(raw, at)
        kind, _, x, y = struct.unpack("<4i", raw[at : at + 16])
        at += 16
        if kind not in (0, HALF, FLOAT) or (x, y) != (1, 1):
            raise ImageError(f"the EXR channel {name!r} is subsampled or unknown; write R, G, B")
        found.append((name, kind))
    return tuple(found)


def _metadata(header: Header) -> Metadata:
    c = header.chromaticities
    if "Y" in header.used:
        profile = icc.build_gray("Linear gray", 1.0)
    elif c is None:
        profile = icc.build("Linear sRGB", curve=(1.0,))
    else:
        primaries = ((c[0], c[1]), (c[2], c[3]), (c[4], c[5]))
        profile = icc.build("EXR chromaticities", primaries, (1.0,), (c[6], c[7]))
    rest = sorted({name for name, _ in header.channels} - set(header.used))
    notes = (f"further channels left out: {', '.join(rest)}",) if rest else ()
    return Metadata("exr", icc=profile, premultiplied="A" in header.used, notes=notes)


def probe(data: bytes) -> Info:
    """What the header says."""
    header = _header(data)
    size = (header.width, header.height)
    kind = COMPRESSION[header.compression]
    return Info("exr", *size, 32, len(header.used), kind=kind, metadata=_metadata(header))


def decode(data: bytes, max_pixels: int, assume: bytes | None) -> Image:
    """Bytes of an EXR to a picture in linear light, float32, alpha multiplied in.

    Raises:
        ImageError: Damaged, of a kind that is not read, or larger than ``max_pixels``.
    """
    header = _header(data)
    width, height = header.width, header.height
    check_size(width, height, max_pixels)
    used = header.used
    sizes = [2 if kind == HALF else 4 for _, kind in header.channels]
    lines = BLOCK[header.compression]
    count = -(-height // lines)
    row = width * sum(sizes)
    if len(data) < header.end + 8 * count or row * height > len(data) * 1100:
        raise ImageError(DAMAGED)
    out = np.empty((height, width, len(used)), np.float32)
    seen = 0
    for offset in struct.unpack_from(f"<{count}Q", data, header.end):
        if offset + 8 > len(data):
            raise ImageError(DAMAGED)
        y, size = struct.unpack_from("<ii", data, offset)
        top = y - header.window[1]
        rows = min(lines, height - top)
        if size < 0 or offset + 8 + size > len(data) or not 0 <= top < height or top % lines:
            raise ImageError(DAMAGED)
        block = _inflate(data[offset + 8 : offset + 8 + size], header, rows * row, rows)
        _place(block, header, out[top : top + rows])
        seen += rows
    if seen != height:
        raise ImageError(DAMAGED)
    return Image(out, _metadata(header))


def _inflate(raw: bytes, header: Header, want: int, rows: int) -> bytes:
    """One block to its ``want`` bytes: scan line after scan line, in each channel after channel."""
    if header.compression == 5:
        return _pxr24(raw, header, rows)
    if len(raw) == want or header.compression == 0:
        data = raw
    else:
        packed = _runs(raw, want) if header.compression == 1 else _unzip(raw, want)
        data = _unsorted(packed)
    if len(data) != want:
        raise ImageError(DAMAGED)
    return data


def _unzip(raw: bytes, want: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(raw, want + 1)
    except zlib.error as error:
        raise ImageError(DAMAGED) from error


def _runs(raw: bytes, want: int) -> bytes:
    out, at = bytearray(), 0
    while at < len(raw) and len(out) <= want:
        n = raw[at] - 256 if raw[at] > 127 else raw[at]
        if n < 0:
            out += raw[at + 1 : at + 1 - n]
            at += 1 - n
        else:
            out += raw[at + 1 : at + 2] * (n + 1)
            at += 2
    return bytes(out)


def _unsorted(packed: bytes) -> bytes:
    """Undo the differences, then put the two halves together byte by byte."""
    steps = np.frombuffer(packed, np.uint8).astype(np.int64)
    if len(steps) == 0:
        return b""
    steps[1:] -= 128
    values = (np.cumsum(steps) & 255).astype(np.uint8)
    out = np.empty_like(values)
    half = (len(values) + 1) // 2
    out[0::2], out[1::2] = values[:half], values[half:]
    return out.tobytes()


def _pxr24(raw: bytes, header: Header, rows: int) -> bytes:
    """PXR24: floats cut to 24 bits, differences along the line, bytes sorted by significance."""
    kept = {0: 4, HALF: 2, FLOAT: 3}
    want = rows * header.width * sum(kept[kind] for _, kind in header.channels)
    data = np.frombuffer(_unzip(raw, want), np.uint8)
    if len(data) != want:
        raise ImageError(DAMAGED)
    out, at = [], 0
    for _ in range(rows):
        for _, kind in header.channels:
            n = kept[kind]
            planes = data[at : at + n * header.width].reshape(n, header.width).astype(np.uint32)
            at += n * header.width
            steps = np.zeros(header.width, np.uint32)
            for i in range(n):
                steps |= planes[i] << np.uint32(8 * ((2 if n == 2 else 4) - 1 - i))
            values = np.cumsum(steps, dtype=np.uint32)
            out.append(values.astype("<u2" if n == 2 else "<u4").tobytes())
    return b"".join(out)


def _place(block: bytes, header: Header, out: Pixels) -> None:
    """Sort the channels of a block into its rows of the picture."""
    rows, width, _ = out.shape
    types = {0: "<u4", HALF: "<f2", FLOAT: "<f4"}
    line = np.dtype([(name, types[kind], (width,)) for name, kind in header.channels])
    table = np.frombuffer(block, line, rows)
    for i, name in enumerate(header.used):
        out[:, :, i] = table[name]


def encode(image: Image) -> bytes:
    """A linear float32 picture to the bytes of an EXR: 32-bit floats, ZIP."""
    p = image.pixels
    height, width, count = p.shape
    used = next(order for order in ORDERS if len(order) == count)
    names = sorted(used)
    channels = b"".join(
        name.encode() + b"\0" + struct.pack("<4i", FLOAT, 0, 1, 1) for name in names
    )
    box = struct.pack("<4i", 0, 0, width - 1, height - 1)
    attributes = (
        ("channels", "chlist", channels + b"\0"),
        ("compression", "compression", b"\x03"),
        ("dataWindow", "box2i", box),
        ("displayWindow", "box2i", box),
        ("lineOrder", "lineOrder", b"\0"),
        ("pixelAspectRatio", "float", struct.pack("<f", 1)),
        ("screenWindowCenter", "v2f", bytes(8)),
        ("screenWindowWidth", "float", struct.pack("<f", 1)),
    )
    head = MAGIC + struct.pack("<I", 2)
    for name, kind, value in attributes:
        head += f"{name}\0{kind}\0".encode() + struct.pack("<i", len(value)) + value
    head += b"\0"
    order = [used.index(name) for name in names]
    blocks, offsets = [], []
    at = len(head) + 8 * -(-height // 16)
    for y in range(0, height, 16):
        rows = np.ascontiguousarray(p[y : y + 16][:, :, order].transpose(0, 2, 1)).astype("<f4")
        raw = rows.tobytes()
        packed = zlib.compress(_sorted(raw), 6)
        body = packed if len(packed) < len(raw) else raw
        blocks.append(struct.pack("<ii", y, len(body)) + body)
        offsets.append(at)
        at += len(blocks[-1])
    return b"".join([head, struct.pack(f"<{len(offsets)}Q", *offsets), *blocks])


def _sorted(raw: bytes) -> bytes:
    """The inverse of ``_unsorted``."""
    values = np.frombuffer(raw, np.uint8)
    joined = np.concatenate([values[0::2], values[1::2]]).astype(np.int64)
    steps = np.diff(joined, prepend=0)
    steps[1:] += 128
    return (steps & 255).astype(np.uint8).tobytes()
