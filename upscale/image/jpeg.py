"""JPEG (ITU-T T.81): segments read and written here, pixels by Pillow's libjpeg-turbo.

Pillow's decoder is silent (OpenCV's prints libjpeg's warnings to the terminal) and reads CMYK and
YCCK. It is given only the segments that make pixels. In a file of one scan the end marker is
replaced by the one bit pattern that is no Huffman code, so that a scan which ends too early is an
error and not gray.
"""

from __future__ import annotations

import io
import re
import struct
from dataclasses import dataclass, field

from PIL import Image as PillowImage
from PIL import JpegImagePlugin

from upscale.errors import ImageError
from upscale.image import cmyk, jpeg_app
from upscale.image.data import Data
from upscale.image.jpeg_scans import check_first_scans
from upscale.image.model import Image, Info, Pixels, check_size
from upscale.image.pillow import array_of, load, save

MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
NEAR, FAR = 256, 1 << 20  # bytes in which the next marker is looked for: at once, and after that
FRAMES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}  # baseline, extended, progressive, arithmetic
TABLES = {0xC4, 0xDB, 0xDD, 0xCC}  # DHT, DQT, DRI, DAC
MAX_SIDE = 65500  # of libjpeg; the format goes to 65535
FULL_COLOUR = 90  # quality from which colour is not subsampled
NOT_A_CODE = b"\xff\x00" * 8  # libjpeg looks 7 bytes ahead; what they make is 2 blocks at most


@dataclass
class Segments:
    """The segments of a file, sorted by use; ``pixels`` say where those are that make pixels."""

    width: int = 0
    height: int = 0
    depth: int = 8
    components: int = 0
    process: int = 0xC0
    sampling: tuple[tuple[int, int], ...] = ()
    identifiers: bytes = b""
    tables: bytes = b""  # quantisation table of each component
    scans: int = 0
    entropy: int = 0  # bytes of entropy-coded data
    pixels: list[slice] = field(default_factory=list)
    app: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def has_one_scan(self) -> bool:
        """Whether it is sequential, Huffman coded, and all its coded data stand in one piece."""
        return self.scans == 1 and self.process in (0xC0, 0xC1)


def _marker(data: Data, at: int) -> tuple[int, int, int] | None:
    """The next marker: where its first 0xFF stands, where it ends, and which it is."""
    size = NEAR
    while at < len(data):
        window = data[at : at + size]
        found = MARKER.search(window)
        if found is not None:
            return at + found.start(), at + found.end(), window[found.end() - 1]
        done = len(window.rstrip(b"\xff"))  # what follows may be the beginning of a marker
        if at + len(window) == len(data):
            return None
        at, size = at + done, FAR if done else 2 * size
    return None


def parse(data: Data) -> Segments:
    """Check the structure from SOI to EOI and sort the segments.

    Raises:
        ImageError: Truncated, damaged, or of a process that is not supported.
    """
    s, at = Segments(), 2
    while True:
        found = _marker(data, at)
        if found is None:
            raise ImageError("the JPEG is cut short: it ends before its end marker; fetch it again")
        _, at, marker = found
        if marker == 0xD9:
            break
        if marker in (0x01, 0xD8):
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        body = data[at + 2 : at + length]
        if length < 2 or len(body) < length - 2:
            raise ImageError("the JPEG is cut short inside its header; fetch it again")
        if marker in TABLES or marker in FRAMES or marker == 0xDA:
            s.pixels.append(slice(at - 2, at + length))
        at += length
        if marker in FRAMES:
            _frame(s, marker, body)
        elif 0xC0 <= marker <= 0xCF and marker not in TABLES and marker != 0xC8:
            raise ImageError(
                f"this JPEG uses process 0x{marker:02X} (lossless or hierarchical); save it as PNG"
            )
        elif 0xE0 <= marker <= 0xEF or marker == 0xFE:
            s.app.append((marker, body))
        elif marker == 0xDA:
            end = _marker(data, at)
            if end is None:
                raise ImageError("the JPEG is cut short inside its pixels; fetch it again")
            s.pixels.append(slice(at, end[0]))
            s.entropy += end[0] - at
            s.scans += 1
            at = end[0]
    _check(s)
    return s


def _frame(s: Segments, marker: int, body: bytes) -> None:
    if s.components:
        raise ImageError("the JPEG has two frames (hierarchical or damaged); save it as PNG")
    if len(body) < 6 or len(body) < 6 + 3 * body[5]:
        raise ImageError("the JPEG frame header is cut short; fetch it again")
    s.depth, s.height, s.width, s.components = struct.unpack(">BHHB", body[:6])
    s.process = marker
    s.identifiers = body[6 : 6 + 3 * s.components : 3]
    s.tables = body[8 : 8 + 3 * s.components : 3]
    s.sampling = tuple((body[7 + 3 * i] >> 4, body[7 + 3 * i] & 15) for i in range(s.components))


def _check(s: Segments) -> None:
    if not s.components or not s.scans:
        raise ImageError("the JPEG has no picture in it; fetch it again")
    if s.components not in (1, 3, 4) or s.depth != 8:
        raise ImageError(
            f"this JPEG has {s.components} components of {s.depth} bits; save it as PNG or TIFF"
        )
    if max(s.width, s.height) > MAX_SIDE:
        raise ImageError(
            f"this JPEG is {s.width} x {s.height} and libjpeg reads at most {MAX_SIDE} pixels a "
            "side; convert it to PNG"
        )
    if not all(1 <= h <= 4 and 1 <= v <= 4 for h, v in s.sampling):
        raise ImageError("the JPEG sampling factors are invalid; the file is damaged")
    if s.process < 0xC9:  # Huffman: at least one bit a block
        most_h, most_v = (max(f[i] for f in s.sampling) for i in (0, 1))
        units = -(-s.width // (8 * most_h)) * -(-s.height // (8 * most_v))
        blocks = units * (sum(h * v for h, v in s.sampling) if s.components > 1 else 1)
        if s.entropy * 8 < blocks:
            raise ImageError(
                f"the JPEG is damaged: {s.entropy} bytes cannot hold {s.width} x {s.height} pixels"
            )


def _kind(s: Segments) -> str:
    if s.components == 4:
        return "CMYK"
    if s.components == 1:
        return ""
    (h, v), (ch, cv) = s.sampling[0], s.sampling[1]
    return {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0"}.get((h // ch, v // cv), "subsampled")


def probe(data: bytes) -> Info:
    """What the segments say."""
    s = parse(data)
    channels = 1 if s.components == 1 else 3
    return Info(
        "jpeg", s.width, s.height, 8, channels, kind=_kind(s), metadata=jpeg_app.read(s.app)
    )


def decode(data: bytes, max_pixels: int, assume: bytes | None) -> Image:
    """Bytes of a JPEG to a picture.

    Raises:
        ImageError: Damaged, truncated, of an unsupported process, or larger than ``max_pixels``.
    """
    s = parse(data)
    check_size(s.width, s.height, max_pixels)
    metadata = jpeg_app.read(s.app)
    if s.components == 4:
        return cmyk.to_rgb(_picture(s, data), metadata, assume)
    return Image(array_of(_picture(s, data)), metadata)


def decode_stream(data: bytes, transform: int) -> Pixels:
    """The pixels of a JPEG stream out of another file.

    Args:
        data: From SOI to EOI, its tables included.
        transform: 1 where the components are YCbCr, 0 where they are RGB or gray.

    Raises:
        ImageError: Damaged, truncated, or of an unsupported process.
    """
    s = parse(data)
    s.app = [(0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, transform))]
    return array_of(_picture(s, data))


def _picture(s: Segments, data: bytes) -> PillowImage.Image:
    parts = [data[place] for place in s.pixels]
    if s.process == 0xC2:
        check_first_scans(parts, (s.width, s.height), s.sampling, s.identifiers)
    elif s.scans > 1 and s.process in (0xC0, 0xC1):
        _check_scans(s, parts)
    tail = NOT_A_CODE if s.has_one_scan else b"\xff\xd9"
    return _load(b"".join([start_of(s), *parts, tail]))


def start_of(s: Segments) -> bytes:
    """The start marker, and Adobe's segment, which tells the colours."""
    adobe = [b"\xff\xee" + struct.pack(">H", len(b) + 2) + b for m, b in s.app if m == 0xEE]
    return b"".join([b"\xff\xd8", *adobe[:1]])


def _load(raw: bytes) -> PillowImage.Image:
    # The class and not PIL.Image.open: one known decoder, and check_size has set the limit.
    return load(lambda: JpegImagePlugin.JpegImageFile(io.BytesIO(raw)), "JPEG")


def _check_scans(s: Segments, parts: list[bytes]) -> None:
    """Decode each scan of a sequential JPEG that has one for each component, as a gray picture.

    Raises:
        ImageError: A scan ends too early, or holds some and not all components.
    """
    most = [max(factor[i] for factor in s.sampling) for i in (0, 1)]
    before: list[bytes] = []
    for segment, data in zip(parts, [*parts[1:], b""], strict=True):
        if segment[:2] == b"\xff\xda":
            index = s.identifiers.find(segment[5:6]) if len(segment) > 5 else -1
            if index < 0 or segment[4] != 1:
                raise ImageError("this JPEG mixes scans of several kinds; save it again")
            factors = zip((s.height, s.width), s.sampling[index][::-1], most[::-1], strict=True)
            size = (-(-side * factor // m) for side, factor, m in factors)
            frame = struct.pack(">BBHBHHB", 0xFF, s.process, 11, 8, *size, 1)
            frame += bytes((segment[5], 0x11, s.tables[index]))
            raw = b"".join([b"\xff\xd8", *before, frame, segment, data, NOT_A_CODE])
            _load(raw)
        elif segment[1:2] in (b"\xc4", b"\xdb", b"\xdd"):
            before.append(segment)


def encode(image: Image, quality: int = 95) -> bytes:
    """A picture (8 bit, gray or RGB) to the bytes of a JPEG; full colour resolution from 90 on."""
    p = image.pixels
    return _write(PillowImage.fromarray(p[:, :, 0] if p.shape[2] == 1 else p), image, quality)


def encode_cmyk(image: Image, separations: PillowImage.Image, quality: int) -> bytes:
    """Separations (Pillow mode CMYK) with the metadata of ``image`` to the bytes of a JPEG."""
    return _write(separations, image, quality)


def _write(picture: PillowImage.Image, image: Image, quality: int) -> bytes:
    subsampling = 0 if quality >= FULL_COLOUR or picture.mode == "CMYK" else 2
    plain = save(picture, "JPEG", quality=quality, subsampling=subsampling)
    raw = jpeg_app.with_density(plain, image.metadata.dpi)
    at = 4 + int.from_bytes(raw[4:6], "big") if raw[2:4] == b"\xff\xe0" else 2
    return raw[:at] + jpeg_app.write(image.metadata) + raw[at:]
