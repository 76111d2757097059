"""YUV4MPEG2 (y4m): video as ffmpeg hands it from program to program, frame after frame, both ways.

A frame is Y'CbCr of BT.601, or of BT.709 where a side is as long as that of high definition, as
players take it too: the stream does not say. Pixels are 16-bit RGB or gray, so that 8 and 10 bit
come back as they were. Chroma is brought to the size of the luma, and back, by its siting.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from upscale.errors import ImageError
from upscale.image.metadata import Metadata
from upscale.image.model import Image, Info

SIGNATURE = b"YUV4MPEG2 "
FULL_RANGE = "XCOLORRANGE=FULL"
FRAME = b"FRAME"
MOST_LINE = 1024  # bytes of a header
HD = (1280, 720)  # width or height from which on a picture is BT.709
KR_KB = {"601": (0.299, 0.114), "709": (0.2126, 0.0722)}
SAMPLING = re.compile(r"(?P<kind>420jpeg|420mpeg2|420paldv|420|422|444|mono)(?:p?(?P<bits>\d+))?")
RATE = re.compile(r"F([1-9]\d*):([1-9]\d*)")
DEPTHS = (8, 9, 10, 12, 14, 16)
STEPS = 2  # of back-projection, after which chroma made larger and smaller is nearly what it was
FULL = 65535.0

Plane = NDArray[Any]  # float32


class ByteStream(Protocol):
    """What frames are read from."""

    def read(self, count: int, /) -> bytes:
        """The next bytes, fewer at the end."""

    def readline(self, most: int, /) -> bytes:
        """A line with its end, or ``most`` bytes."""


@dataclass(frozen=True)
class Video:
    """What the header of a stream says, and what of it comes back in the header of another.

    Attributes:
        width: Columns.
        height: Rows.
        kind: "420jpeg", "420mpeg2", "420paldv", "420", "422", "444" or "mono".
        bits: Of a sample.
        is_full: Values use the full range; else 16 to 235 (chroma to 240) of 255.
        words: All that the header says beside the size, as it stood.
    """

    width: int
    height: int
    kind: str = "444"
    bits: int = 8
    is_full: bool = False
    words: tuple[str, ...] = ("F25:1", "Ip", "C444")

    @property
    def delay(self) -> float | None:
        """Seconds of a frame; None where the header names no rate."""
        for word in self.words:
            if match := RATE.fullmatch(word):
                return int(match[2]) / int(match[1])
        return None

    @property
    def step(self) -> tuple[int, int]:
        """Luma pixels for each of chroma, down and across."""
        return {"420": (2, 2), "422": (1, 2)}.get(self.kind[:3], (1, 1))

    @property
    def sited(self) -> tuple[bool, bool]:
        """Whether chroma lies on the first of these pixels, down and across; else between them."""
        return self.kind == "420paldv", self.kind in (
            "420mpeg2",
            "420paldv",
            "422",
        ) or self.bits > 8

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Height and width of the planes."""
        down, across = self.step
        chroma = (-(-self.height // down), -(-self.width // across))
        return [(self.height, self.width), *([] if self.kind == "mono" else [chroma] * 2)]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the samples."""
        return np.dtype("u1" if self.bits == 8 else "<u2")

    @property
    def frame_bytes(self) -> int:
        """Of the samples of a frame."""
        return sum(height * width for height, width in self.shapes) * self.dtype.itemsize

    @property
    def matrix(self) -> tuple[float, float]:
        """Shares of red and of blue in the luma."""
        return KR_KB["709" if self.width >= HD[0] or self.height >= HD[1] else "601"]

    def line(self) -> bytes:
        """The header."""
        words = (f"W{self.width}", f"H{self.height}", *self.words)
        return SIGNATURE + " ".join(words).encode("ascii") + b"\n"


def parse(line: bytes) -> Video:
    """What a header says.

    Raises:
        ImageError: Damaged, interlaced, or of samples that are not read.
    """
    if not line.startswith(SIGNATURE) or not line.endswith(b"\n"):
        raise ImageError("the y4m header is damaged or cut short; make the stream again")
    words = line[len(SIGNATURE) :].decode("ascii", "replace").split()
    given = {word[0]: word[1:] for word in words}
    try:
        width, height = int(given["W"]), int(given["H"])
    except (KeyError, ValueError) as error:
        raise ImageError(
            "the y4m header names no width and height; make the stream again"
        ) from error
    match = SAMPLING.fullmatch(given.get("C", "420jpeg"))
    bits = int(match["bits"] or 8) if match else 0
    if match is None or bits not in DEPTHS:
        raise ImageError(
            f"y4m of C{given.get('C')} is not read; give -pix_fmt yuv420p, yuv422p, yuv444p or "
            "gray to ffmpeg, or their 10-bit forms"
        )
    if given.get("I", "p") not in ("p", "?"):
        raise ImageError("the y4m stream is interlaced; give -vf bwdif to the ffmpeg that makes it")
    words_kept = tuple(word for word in words if word[0] not in "WH") or ("C420jpeg",)
    return Video(width, height, match["kind"], bits, FULL_RANGE in words, words_kept)


def info(video: Video) -> Info:
    """A stream as it is described."""
    kind = {"mono": "gray"}.get(video.kind, ":".join(video.kind[:3]))
    kind += f" {video.bits} bit" if video.bits > 8 else ""
    channels = 1 if video.kind == "mono" else 3
    metadata = Metadata("y4m", delay=video.delay, video=video.words)
    return Info("y4m", video.width, video.height, 16, channels, 1, kind, metadata)


def read_line(file: ByteStream) -> bytes:
    """A line of a header, with its end; empty at the end of the stream."""
    return file.readline(MOST_LINE)


def frames(file: ByteStream, video: Video) -> Iterator[NDArray[np.uint16]]:
    """Yield the frames of a stream behind its header, (H, W, 1 or 3) uint16.

    Raises:
        ImageError: A frame is damaged or cut short.
    """
    while line := read_line(file):
        if not line.startswith(FRAME) or not line.endswith(b"\n"):
            raise ImageError("what follows is no frame of y4m; make the stream again")
        data = read_exactly(file, video.frame_bytes)
        if len(data) < video.frame_bytes:
            raise ImageError("the y4m stream is cut short within it; make the stream again")
        yield to_rgb(data, video)


def read_exactly(file: ByteStream, count: int) -> bytes:
    """So many bytes of a pipe, or fewer at its end."""
    parts: list[bytes] = []
    while count and (part := file.read(min(count, 1 << 24))):
        parts.append(part)
        count -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def to_rgb(data: bytes, video: Video) -> NDArray[np.uint16]:
    """The samples of a frame as pixels, (H, W, 1 or 3) uint16: the inverse of :func:`from_rgb`."""
    # 1. The planes, luma in [0, 1], chroma in [-0.5, 0.5].
    planes, at = [], 0
    black, white, swing = _levels(video)
    for number, (height, width) in enumerate(video.shapes):
        values = np.frombuffer(data, video.dtype, height * width, at).reshape(height, width)
        at += values.nbytes
        middle, span = (2 ** (video.bits - 1), swing) if number else (black, white - black)
        planes.append((values.astype(np.float32) - middle) / np.float32(span))
    if len(planes) == 1:
        return _stored(planes[0])[:, :, None]
    # 2. Chroma of the size of the luma.
    luma, blue, red = planes[0], *(_larger(plane, video) for plane in planes[1:])
    # 3. R, G, B.
    kr, kb = (np.float32(value) for value in video.matrix)
    r = luma + 2 * (1 - kr) * red
    b = luma + 2 * (1 - kb) * blue
    g = (luma - kr * r - kb * b) / (1 - kr - kb)
    return np.dstack([_stored(plane) for plane in (r, g, b)])


def from_rgb(pixels: NDArray[Any], video: Video) -> bytes:
    """Pixels (H, W, 1 or 3), uint8 or uint16, as the samples of a frame."""
    x = pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)
    kr, kb = (np.float32(value) for value in video.matrix)
    r, g, b = (x[:, :, min(band, x.shape[2] - 1)] for band in range(3))
    luma = r if x.shape[2] == 1 else kr * r + (1 - kr - kb) * g + kb * b
    black, white, swing = _levels(video)
    planes = [luma * np.float32(white - black) + black]
    if video.kind != "mono":
        for plane, share in ((b, kb), (r, kr)):
            chroma = _smaller((plane - luma) / (2 * (1 - share)), video)
            planes.append(chroma * np.float32(swing) + 2 ** (video.bits - 1))
    top = 2**video.bits - 1
    return b"".join(
        np.clip(plane + np.float32(0.5), 0, top).astype(video.dtype).tobytes() for plane in planes
    )


def _levels(video: Video) -> tuple[float, float, float]:
    """Luma of black and of white, and the swing of chroma."""
    if video.is_full:
        return 0.0, 2.0**video.bits - 1, 2.0**video.bits - 1
    unit = 2.0 ** (video.bits - 8)
    return 16 * unit, 235 * unit, 224 * unit


def _stored(plane: Plane) -> NDArray[np.uint16]:
    return (np.clip(plane, 0, 1) * np.float32(FULL) + np.float32(0.5)).astype(np.uint16)


def _larger(plane: Plane, video: Video) -> Plane:
    """Chroma of the size of the luma, such that :func:`_smaller` gives nearly the same again."""
    if video.step == (1, 1):
        return plane
    large = _interpolated(plane, video)
    for _ in range(STEPS):
        large = large + _interpolated(plane - _smaller(large, video), video)
    return large


def _interpolated(plane: Plane, video: Video) -> Plane:
    for axis, (step, is_sited) in enumerate(zip(video.step, video.sited, strict=True)):
        if step == 2:
            x = np.moveaxis(plane, axis, 0)
            before, after = np.concatenate((x[:1], x[:-1])), np.concatenate((x[1:], x[-1:]))
            pair = (x, (x + after) / 2) if is_sited else ((before + 3 * x) / 4, (3 * x + after) / 4)
            both = np.stack(pair, 1).reshape(-1, x.shape[1])
            plane = np.moveaxis(both[: (video.height, video.width)[axis]], 0, axis)
    return plane


def _smaller(plane: Plane, video: Video) -> Plane:
    for axis, (step, is_sited) in enumerate(zip(video.step, video.sited, strict=True)):
        if step == 2:
            x = np.moveaxis(plane, axis, 0)
            if len(x) % 2:
                x = np.concatenate((x, x[-1:]))
            first, second = x[::2], x[1::2]
            before = np.concatenate((first[:1], second[:-1]))
            small = (before + 2 * first + second) / 4 if is_sited else (first + second) / 2
            plane = np.moveaxis(small, 0, axis)
    return plane


def header_for(shape: tuple[int, int, int], dtype: np.dtype[Any], metadata: Metadata) -> Video:
    """The header of a stream of pictures: as theirs was, or what holds them without loss."""
    height, width, channels = shape
    kind = "mono" if channels == 1 else "444"
    if metadata.video and (kind == "mono" or "Cmono" not in " ".join(metadata.video)):
        line = " ".join((f"W{width}", f"H{height}", *metadata.video))
        return parse(SIGNATURE + line.encode("ascii") + b"\n")
    bits, delay = (8 if dtype == np.uint8 else 16), metadata.delay
    rate = Fraction(1 / delay).limit_denominator(1001) if delay else Fraction(25)
    name = kind if bits == 8 else f"{kind}p16".replace("monop", "mono")
    words = (f"F{rate.numerator}:{rate.denominator}", "Ip", "A1:1", f"C{name}", FULL_RANGE)
    return Video(width, height, kind, bits, is_full=True, words=words)


def encode(image: Image) -> bytes:
    """A picture as a stream of one frame."""
    p = image.pixels
    video = header_for((image.height, image.width, p.shape[2]), p.dtype, image.metadata)
    return video.line() + FRAME + b"\n" + from_rgb(p, video)
