"""Radiance HDR (RGBE), read and written here; scene-linear light in the primaries of sRGB.

OpenCV decodes it through a temporary file and prints on the terminal. Format: G. Ward, "Real
Pixels", Graphics Gems II, and the run-length form of the Radiance file formats.
"""

from __future__ import annotations

import re

import numpy as np

from upscale.errors import ImageError
from upscale.image import icc
from upscale.image.model import Image, Info, Metadata, Pixels, check_size

RESOLUTION = re.compile(rb"\n\n-Y (\d{1,9}) \+X (\d{1,9})\n")
DAMAGED = "the Radiance picture is damaged or cut short; fetch it again"
CODED_WIDTHS = range(8, 32768)  # of scan lines that may be run-length coded


def _size(data: bytes) -> tuple[int, int, int]:
    """Width, height, and where the pixels begin."""
    found = RESOLUTION.search(data, 0, 65536)
    if found is None or b"FORMAT=32-bit_rle_xyze" in data[: found.start()]:
        raise ImageError(
            "the Radiance header is damaged, turned, or in XYZ; save the picture upright and in RGB"
        )
    return int(found[2]), int(found[1]), found.end()


def probe(data: bytes) -> Info:
    """What the header says."""
    width, height, _ = _size(data)
    profile = icc.build("Linear sRGB", curve=(1.0,))
    return Info("hdr", width, height, 32, 3, metadata=Metadata("hdr", icc=profile))


def decode(data: bytes, max_pixels: int, assume: bytes | None) -> Image:
    """Bytes of a Radiance picture to a picture in linear light.

    Raises:
        ImageError: Damaged, cut short, or larger than ``max_pixels``.
    """
    width, height, at = _size(data)
    check_size(width, height, max_pixels)
    if (len(data) - at) * 64 < width * height * 4:  # two bytes become 127 at most
        raise ImageError(DAMAGED)
    out = np.empty((height, width, 3), np.float32)
    for y in range(height):
        rgbe, at = _line(data, at, width)
        exponent = np.where(rgbe[3] > 0, rgbe[3].astype(np.int32) - 136, -400)
        out[y] = np.ldexp(rgbe[:3].astype(np.float32), exponent).T
    return Image(out, probe(data).metadata)


def _line(data: bytes, at: int, width: int) -> tuple[Pixels, int]:
    """One scan line, (4, W), and where the next begins."""
    head = data[at : at + 4]
    coded = width in CODED_WIDTHS and head[:2] == b"\2\2" and len(head) == 4 and head[2] < 128
    if coded and (head[2] << 8 | head[3]) != width:
        raise ImageError(DAMAGED)
    if not coded:
        flat = data[at : at + 4 * width]
        if len(flat) < 4 * width:
            raise ImageError(DAMAGED)
        rgbe = np.frombuffer(flat, np.uint8).reshape(width, 4)
        if (rgbe[:, :3] == 1).all(1).any():  # the runs of the oldest form are not read
            raise ImageError(DAMAGED)
        return rgbe.T, at + 4 * width
    at += 4
    line = bytearray()
    for component in range(1, 5):
        while len(line) < component * width:
            code = data[at : at + 2]
            if len(code) < 2 or code[0] == 0:
                raise ImageError(DAMAGED)
            if code[0] > 128:
                line += code[1:] * (code[0] - 128)
                at += 2
            else:
                line += data[at + 1 : at + 1 + code[0]]
                at += 1 + code[0]
        if len(line) != component * width:
            raise ImageError(DAMAGED)
    return np.frombuffer(bytes(line), np.uint8).reshape(4, width), at


def encode(image: Image) -> bytes:
    """A linear float32 picture, (H, W, 3), to the bytes of a Radiance picture; 8 bits of precision.

    Negative light becomes 0. Scan lines are written as literal runs.
    """
    height, width = image.height, image.width
    head = f"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y {height} +X {width}\n".encode()
    return head + b"".join(_coded(_rgbe(row)) for row in image.pixels)


def _rgbe(row: Pixels) -> Pixels:
    """(W, 3) float32 to (4, W) uint8: three mantissas and the exponent that they share."""
    light = np.maximum(row, 0).astype(np.float64)
    _, exponent = np.frexp(light.max(1))
    mantissa = np.minimum(np.floor(np.ldexp(light, (8 - exponent)[:, None])), 255)
    shared = np.clip(exponent + 128, 0, 255)
    nothing = light.max(1) < 1e-38
    mantissa[nothing], shared[nothing] = 0, 0
    return np.concatenate([mantissa.T, shared[None]]).astype(np.uint8)


def _coded(rgbe: Pixels) -> bytes:
    width = rgbe.shape[1]
    if width not in CODED_WIDTHS:
        return rgbe.T.tobytes()
    out = [bytes((2, 2, width >> 8, width & 255))]
    for component in rgbe:
        for x in range(0, width, 128):
            part = component[x : x + 128].tobytes()
            out.append(bytes((len(part),)) + part)
    return b"".join(out)
