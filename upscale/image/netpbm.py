"""Netpbm: PBM, PGM, PPM (P1 to P6), PAM (P7) and PFM, read and written here.

Neither Pillow nor OpenCV knows all of it: 16 bits in colour, any largest value, PAM with alpha.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from upscale.errors import ImageError
from upscale.image.metadata import Metadata
from upscale.image.model import Image, Info, Pixels

FIELD = re.compile(rb"(?:\s|#[^\n]*\n)*([^\s#]+)")
SHORT = "the Netpbm picture is cut short or damaged; write it again"
PLAIN = (b"P1", b"P2", b"P3")
TUPLES = {1: "GRAYSCALE", 2: "GRAYSCALE_ALPHA", 3: "RGB", 4: "RGB_ALPHA"}


def _header(data: bytes) -> tuple[Info, float, int]:
    """What the header says, the largest value (PFM: the scale), and where the pixels begin."""
    magic, kind = data[:2], data[1:2]
    try:
        if kind == b"7":
            width, height, channels, top, at = _pam(data)
        else:
            values, at = [b"", b"", b"1"], 1
            for i in range(2 if kind in b"14" else 3):
                match = FIELD.match(data, at + 1)
                if match is None:
                    raise ValueError("cut short")
                values[i], at = match[1], match.end()
            width, height, top, at = int(values[0]), int(values[1]), float(values[2]), at + 1
            channels = 3 if kind in b"36F" else 1
        if not (kind in b"Ff" or 1 <= top <= 65535):
            raise ValueError(f"largest value {top:g}")
    except (ValueError, KeyError) as error:
        raise ImageError(f"the Netpbm header is damaged ({error}); write it again") from error
    depth = 32 if kind in b"Ff" else 8 if top < 256 else 16
    metadata = Metadata("ppm", bilevel=magic in (b"P1", b"P4"))
    return Info("ppm", width, height, depth, channels, metadata=metadata), top, at


def _pam(data: bytes) -> tuple[int, int, int, float, int]:
    """Width, height, channels, largest value, and where the pixels begin."""
    end = data.find(b"ENDHDR\n", 0, 4096)
    if end < 0:
        raise ValueError("no ENDHDR")
    lines = (line.split(None, 1) for line in data[3:end].splitlines() if line[:1] != b"#")
    fields = {line[0]: line[1] for line in lines if len(line) == 2}
    width, height, depth, top = (int(fields[k]) for k in (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL"))
    if depth not in TUPLES:
        raise ValueError(f"{depth} channels")
    return width, height, depth, float(top), end + 7


def look(data: bytes) -> tuple[Info, Callable[[], Image]]:
    """What the header says, and what decodes the picture; values are stretched to full scale.

    Raises:
        ImageError: The header is damaged; the decoder: damaged, or cut short.
    """
    info, top, at = _header(data)
    return info, lambda: _decode(data, info, top, at)


def _decode(data: bytes, info: Info, top: float, at: int) -> Image:
    magic, shape = data[:2], (info.height, info.width, info.channels)
    count = info.height * info.width * info.channels
    if count > 8 * len(data):
        raise ImageError(SHORT)
    if magic in PLAIN:
        pixels = _plain(data[at:], count, magic == b"P1")
    else:
        pixels = _raw(data, at, magic, shape, top)
    if info.depth < 32:
        if pixels.max() > top:
            raise ImageError(f"the Netpbm picture has values above {top:g}; write it again")
        full, dtype = (255, np.uint8) if info.depth == 8 else (65535, np.uint16)
        if top != full:
            pixels = (pixels.astype(np.int64) * full * 2 + int(top)) // (2 * int(top))
        pixels = pixels.astype(dtype)
    if info.metadata.bilevel:
        pixels = 255 - pixels  # 1 is black
    return Image(np.ascontiguousarray(pixels.reshape(shape)), info.metadata)


def _plain(text: bytes, count: int, packed: bool) -> Pixels:
    """Decimal numbers; those of P1 need no space between them."""
    text = re.sub(rb"#[^\n]*", b"", text)
    if len(text) < (count if packed else 2 * count - 1):
        raise ImageError(SHORT)
    try:
        digits = list(text.translate(None, b" \t\r\n\v\f")) if packed else text.split()
        values = np.array(digits[:count], np.int64) - (48 if packed else 0)
    except (ValueError, OverflowError) as error:
        raise ImageError("the Netpbm picture holds something that is no number") from error
    if len(values) < count or (len(values) and (values.min() < 0 or values.max() > 65535)):
        raise ImageError(SHORT)
    return values


def end(data: bytes) -> int:
    """Where the picture ends and the next of a stream may begin; a plain one is the only one.

    Raises:
        ImageError: The header is damaged.
    """
    info, top, at = _header(data)
    if data[:2] in PLAIN:
        return len(data)
    dtype, count = _samples(data[:2], (info.height, info.width, info.channels), top)
    return at + count * dtype.itemsize


def _samples(magic: bytes, shape: tuple[int, int, int], top: float) -> tuple[np.dtype[Any], int]:
    """Type and number of the raw samples."""
    height, width, channels = shape
    if magic == b"P4":
        return np.dtype(np.uint8), height * ((width + 7) // 8)
    if magic in (b"PF", b"Pf"):
        return np.dtype("<f4" if top < 0 else ">f4"), height * width * channels
    return np.dtype(np.uint8 if top < 256 else ">u2"), height * width * channels


def _raw(data: bytes, at: int, magic: bytes, shape: tuple[int, int, int], top: float) -> Pixels:
    height, width, _ = shape
    dtype, count = _samples(magic, shape, top)
    if len(data) - at < count * dtype.itemsize:
        raise ImageError(SHORT)
    flat = np.frombuffer(data, dtype, count, at)
    if magic == b"P4":
        bits = np.unpackbits(flat.reshape(height, -1), axis=1)
        return bits[:, :width]
    if magic in (b"PF", b"Pf"):
        return flat.astype(np.float32).reshape(shape)[::-1]  # bottom row first
    return flat.astype(dtype.newbyteorder("=")).reshape(shape)


def encode(image: Image) -> bytes:
    """A picture to PGM, PPM, with alpha PAM, or in floating point PFM."""
    p = image.pixels
    height, width, channels = p.shape
    if p.dtype == np.float32:
        magic = b"Pf" if channels == 1 else b"PF"
        body = np.ascontiguousarray(p[::-1]).astype("<f4").tobytes()
        return magic + f"\n{width} {height}\n-1.0\n".encode() + body
    top = int(np.iinfo(p.dtype).max)
    body = p.astype(p.dtype.newbyteorder(">")).tobytes()
    if image.has_alpha:
        head = f"P7\nWIDTH {width}\nHEIGHT {height}\nDEPTH {channels}\nMAXVAL {top}\n"
        return f"{head}TUPLTYPE {TUPLES[channels]}\nENDHDR\n".encode() + body
    return f"P{5 if channels == 1 else 6}\n{width} {height}\n{top}\n".encode() + body
