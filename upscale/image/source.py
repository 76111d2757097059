"""The bytes of a picture: where they come from, what a decoder is given, their format.

A format is told by its first bytes; what is not read is refused by its name.
"""

from __future__ import annotations

import io
import os
import threading
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import BinaryIO, Protocol

from upscale.errors import ImageError

Source = bytes | bytearray | memoryview | str | os.PathLike[str]  # a file's bytes, or its path
SOURCES = (bytes, bytearray, memoryview, str, os.PathLike)
Pieces = tuple[bytes | slice, ...]  # bytes, and parts of a file, one behind the other
ALL: Pieces = (slice(0, None),)


class Data(Protocol):
    """The bytes of a file, as those need them who read its structure; ``bytes`` are such data."""

    def __len__(self) -> int:
        """Bytes in all."""

    def __getitem__(self, part: slice, /) -> bytes:
        """A part of them, cut at the end as with ``bytes``."""


class FileData:
    """The bytes of a file on the disk.

    Nothing is mapped into memory: a file that gets shorter meanwhile is an error, and not the end
    of the process. Not for several threads at once.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._length = file.seek(0, os.SEEK_END)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice, /) -> bytes:
        """Bytes ``part`` of the file.

        Raises:
            ImageError: The file has become shorter.
            OSError: It cannot be read.
        """
        start, stop, _ = part.indices(self._length)
        size = max(0, stop - start)
        self._file.seek(start)
        data = self._file.read(size)
        if len(data) != size:
            raise ImageError("the file became shorter while it was read; run again")
        return data


@contextmanager
def data_of(source: Source) -> Iterator[Data]:
    """The bytes of a picture, for as long as the context lasts.

    Raises:
        OSError: The file cannot be read.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        yield bytes(source)
        return
    with open(source, "rb") as file:  # noqa: PTH123 - a path of any bytes
        yield FileData(file)


@contextmanager
def stream_of(source: Source) -> Iterator[BinaryIO]:
    """The bytes of a picture as a file that is read from its start.

    Raises:
        OSError: It cannot be read.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        yield io.BytesIO(source)
        return
    with open(source, "rb") as file:  # noqa: PTH123 - a path of any bytes
        yield file


class Joined:
    """A file put together of pieces of another one, with the calls that libvips makes.

    libvips may read in threads of its own, and nothing may be raised into it: an error waits in
    ``error``, and the file seems to end.
    """

    def __init__(self, data: Data, pieces: Pieces = ALL) -> None:
        self.error: BaseException | None = None
        self._data, self._at, self._lock = data, 0, threading.Lock()
        self._parts = [p.indices(len(data))[:2] if isinstance(p, slice) else p for p in pieces]
        sizes = [len(p) if isinstance(p, bytes) else p[1] - p[0] for p in self._parts]
        self._starts = [0, *accumulate(sizes)]

    def read(self, size: int) -> bytes | None:
        """Up to ``size`` bytes; ``None`` at the end, and where reading fails."""
        with self._lock:
            index = bisect_right(self._starts, self._at) - 1
            if self.error or index >= len(self._parts):
                return None
            part, start = self._parts[index], self._at - self._starts[index]
            try:
                if isinstance(part, bytes):
                    data = part[start : start + size]
                else:
                    first = part[0] + start
                    data = self._data[first : min(first + size, part[1])]
            except (ImageError, OSError, ValueError) as error:  # ValueError: the file is closed
                self.error = error
                return None
            self._at += len(data)
            return data

    def seek(self, offset: int, whence: int) -> int:
        """Go to a place; the new place."""
        with self._lock:
            self._at = max(0, offset + {0: 0, 1: self._at, 2: self._starts[-1]}[whence])
            return self._at


SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"YUV4MPEG2 ", "y4m"),
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"\xff\xd8\xff", "jpeg"),
    (8, b"WEBP", "webp"),
    (0, b"II*\0", "tiff"),
    (0, b"MM\0*", "tiff"),
    (0, b"II+\0", "tiff"),
    (0, b"MM\0+", "tiff"),
    (0, b"BM", "bmp"),
    (0, b"GIF87a", "gif"),
    (0, b"GIF89a", "gif"),
    (0, b"#?RADIANCE", "hdr"),
    (0, b"#?RGBE", "hdr"),
    (0, b"\xff\x0a", "jxl"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "jxl"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "jp2"),
    (0, b"\xff\x4f\xff\x51", "jp2"),
    (0, b"\0\0\1\0", "ico"),
    (0, b"DDS ", "dds"),
    (0, b"qoif", "qoi"),
)
HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}
RAW = "a RAW file of a camera; develop it to TIFF or PNG first (darktable-cli a.dng a.tif)"
OTHERS: tuple[tuple[int, tuple[bytes, ...], str], ...] = (
    (0, (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"IIU\0", b"FOVb", b"\0MRM"), RAW),
    (0, (b"v/1\x01",), "OpenEXR; convert it to floating-point TIFF (oiiotool a.exr -o a.tif)"),
    (0, (b"8BPS",), "a document of Photoshop; export it as PNG or TIFF (magick 'a.psd[0]' a.png)"),
    (0, (b"gimp xcf",), "a document of GIMP; export it as PNG or TIFF (magick a.xcf a.png)"),
    (0, (b"%PDF", b"%!PS"), "a PDF or PostScript; export its pages as PNG (pdftoppm -png a.pdf a)"),
    (0, (b"<svg", b"<?xml"), "an SVG (or XML), which has no pixels; export it as PNG"),
    (0, (b"BPG\xfb",), "a BPG picture; convert it to PNG (bpgdec -o a.png a.bpg)"),
    (0, (b"II\xbc\x01",), "JPEG XR; convert it to TIFF (JxrDecApp -i a.jxr -o a.tif)"),
    (0, (b"\x1aE\xdf\xa3",), "a video; extract its frames first (ffmpeg -i a.mkv %06d.png)"),
    (8, (b"AVI ",), "a video; extract its frames first (ffmpeg -i a.avi %06d.png)"),
    (0, (b"PK\x03\x04", b"\x1f\x8b"), "an archive (ZIP or gzip); unpack it first"),
    (0, (b"<!DOCTYPE", b"<html"), "a web page; the download failed, fetch the picture again"),
    (0, (b"version https://git-lfs",), "a Git LFS pointer; fetch the file with git lfs pull"),
)


def identify(data: bytes) -> str:
    """The format of a file by its content; its name plays no part.

    Raises:
        ImageError: Empty, or of a kind that is not read; known kinds are named.
    """
    if not data:
        raise ImageError("the file is empty; give a picture")
    for at, signature, name in SIGNATURES:
        if data[at : at + len(signature)] == signature and (name != "webp" or data[:4] == b"RIFF"):
            return name
    if len(data) > 2 and data[0:1] == b"P" and data[1:2] in b"1234567Ff" and data[2:3].isspace():
        return "ppm"
    if data[4:8] == b"ftyp":
        return _iso(data)
    for at, signatures, what in OTHERS:
        if data.startswith(signatures, at):
            raise ImageError(f"this is {what}")
    if _is_tga(data):
        return "tga"
    if (
        len(data) > 128
        and data[0] == 10
        and data[1] < 6
        and data[2] < 2
        and data[3] in (1, 2, 4, 8)
    ):
        return "pcx"
    raise ImageError(
        "this is no picture that can be read; give PNG, JPEG, WebP, TIFF, AVIF, BMP, GIF, TGA, "
        "ICO, DDS, PCX, QOI, JPEG 2000, Netpbm, Radiance (.hdr) or, with the extras jxl and heif, "
        "JPEG XL and HEIC"
    )


def _is_tga(data: bytes) -> bool:
    """Whether the header is that of a TGA, which has no signature."""
    if len(data) < 19 or data[2] not in (1, 2, 3, 9, 10, 11) or data[17] & 0xC0:
        return False
    colours = data[2] in (1, 9)
    table = data[1] == 1 and data[7] in (15, 16, 24, 32) if colours else data[1] < 2
    sides = any(data[12:14]) and any(data[14:16])
    bits = (8,) if colours or data[2] in (3, 11) else (15, 16, 24, 32)
    return table and sides and (data[16] in bits or (data[2] in (3, 11) and data[16] == 16))


def _iso(data: bytes) -> str:
    """AVIF and HEIC among the files that begin with an ISO base media header."""
    size = min(int.from_bytes(data[:4], "big"), 256)
    brands = {data[8:12]} | {data[i : i + 4] for i in range(16, size, 4)}
    if brands & {b"avif", b"avis"}:
        return "avif"
    if brands & HEIF_BRANDS:
        return "heic"
    if data[8:12] == b"crx ":
        raise ImageError(f"this is {RAW}")
    raise ImageError("this is a video; extract its frames first (ffmpeg -i a.mp4 %06d.png)")
