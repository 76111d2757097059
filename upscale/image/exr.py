"""OpenEXR, by the extra ``upscale[exr]`` (the package OpenEXR): linear light, half and float.

Its header is read here. Pixels are decoded in a process of its own, as the library tells the
terminal what it thinks of a damaged file.
"""

from __future__ import annotations

import importlib.util
import io
import struct
import subprocess
import sys

import numpy as np

from upscale import icc
from upscale.errors import ImageError
from upscale.image.model import Image, Info, Metadata

DEEP, PARTS = 0x8, 0x10  # flags above the version
RATIO = 1100  # most bytes of pixels that a byte of the file becomes
DAMAGED = "the OpenEXR file is damaged or cut short; fetch it again"
DECODE = """
import io, sys
import numpy, OpenEXR
file = OpenEXR.File(io.BytesIO(sys.stdin.buffer.read()), separate_channels=True, num_threads=0)
planes = [file.channels()[name].pixels for name in sys.argv[1]]
numpy.save(sys.stdout.buffer, numpy.stack(planes, -1).astype("<f4"))
"""


def probe(data: bytes) -> Info:
    """What the header says.

    Raises:
        ImageError: Damaged, of several parts, deep, or with other channels than a picture has.
    """
    if data[5:6] and data[5] & (DEEP | PARTS):
        raise ImageError("this OpenEXR file is deep or has several parts; save one flat picture")
    found = _attributes(data)
    try:
        left, top, right, bottom = struct.unpack("<4i", found["dataWindow"])
        names = _channels(found["channels"])
        given = struct.unpack("<8f", found["chromaticities"]) if "chromaticities" in found else None
    except (KeyError, ValueError, struct.error) as error:
        raise ImageError(DAMAGED) from error
    width, height, used = right - left + 1, bottom - top + 1, used_of(names)
    if width * height * len(names) * 2 > len(data) * RATIO:
        raise ImageError(DAMAGED)
    profile = icc.build_gray("Linear gray", 1.0) if "Y" in used else _profile(given)
    left_out = sorted(set(names) - set(used))
    notes = (f"EXR channels {', '.join(left_out)} left out",) if left_out else ()
    metadata = Metadata("exr", icc=profile, premultiplied="A" in used, notes=notes)
    return Info("exr", width, height, 32, len(used), metadata=metadata)


def used_of(names: list[str]) -> str:
    """The channels of the picture, in the order of its pixels.

    Raises:
        ImageError: There are neither R, G, B nor Y.
    """
    colour = "RGB" if set("RGB") <= set(names) else "Y" if "Y" in names else ""
    if not colour:
        raise ImageError(f"this EXR has the channels {', '.join(names)[:80]}; write R, G, B or Y")
    return colour + ("A" if "A" in names else "")


def _profile(given: tuple[float, ...] | None) -> bytes:
    """Linear light, in the primaries of sRGB or those that the file gives."""
    if given is None:
        return icc.build("Linear sRGB", curve=(1.0,))
    pairs = tuple(zip(given[::2], given[1::2], strict=True))
    return icc.build("EXR chromaticities", pairs[:3], (1.0,), pairs[3])


def _attributes(data: bytes) -> dict[str, bytes]:
    """Name and content of the attributes of the header."""
    found, at = {}, 8
    while data[at : at + 1] not in (b"\0", b""):
        name = data.find(b"\0", at)
        kind = data.find(b"\0", name + 1)
        size = int.from_bytes(data[kind + 1 : kind + 5], "little")
        if name < 0 or kind < 0 or kind + 5 + size > len(data):
            raise ImageError(DAMAGED)
        found[data[at:name].decode("latin-1")] = data[kind + 5 : kind + 5 + size]
        at = kind + 5 + size
    return found


def _channels(body: bytes) -> list[str]:
    """The names of the channels.

    Raises:
        ImageError: One is subsampled, or of integers.
    """
    names, at = [], 0
    while body[at : at + 1] not in (b"\0", b""):
        end = body.index(b"\0", at)
        names.append(body[at:end].decode("latin-1"))
        kind, _, x, y = struct.unpack("<4i", body[end + 1 : end + 17])
        if kind not in (1, 2) or (x, y) != (1, 1):
            raise ImageError(f"the EXR channel {names[-1]!r} is subsampled or of integers")
        at = end + 17
    return names


def decode(data: bytes) -> Image:
    """Bytes of an OpenEXR file to a picture in linear light; alpha is multiplied in.

    Raises:
        ImageError: The extra is missing, or the file is damaged.
    """
    info = probe(data)
    if importlib.util.find_spec("OpenEXR") is None:
        raise ImageError(
            "reading OpenEXR needs an extra: pip install 'upscale[exr]', or convert it to TIFF"
        )
    used = {1: "Y", 2: "YA", 3: "RGB", 4: "RGBA"}[info.channels]
    command = [sys.executable, "-c", DECODE, used]
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    if done.returncode != 0:
        raise ImageError(DAMAGED)
    pixels = np.load(io.BytesIO(done.stdout)).astype(np.float32)
    if pixels.shape[:2] != (info.height, info.width):
        raise ImageError(DAMAGED)
    return Image(pixels, info.metadata)


def encode(image: Image) -> bytes:
    """A linear float32 picture to the bytes of an OpenEXR file: float, ZIP."""
    import OpenEXR

    names = {1: "Y", 2: "YA", 3: "RGB", 4: "RGBA"}[image.pixels.shape[2]]
    planes = {n: np.ascontiguousarray(image.pixels[:, :, i]) for i, n in enumerate(names)}
    head = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    buffer = io.BytesIO()
    OpenEXR.File(head, planes).write(buffer)
    return buffer.getvalue()
