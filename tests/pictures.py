"""Pictures and blocks of metadata that many tests share."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image as PillowImage

from upscale.image import FORMATS, Image, exif, tags, to_depth, with_provenance
from upscale.image.model import Format

FOLDER = Path(__file__).parent / "data" / "pictures"
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
    b'syntax-ns#"><rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" '
    b'dc:format="x"/></rdf:RDF></x:xmpmeta>'
)
IPTC = b"\x1c\x02\x5a\x00\x06Vienna"


def written() -> Iterator[Format]:
    """The formats that are written here."""
    for format_ in FORMATS.values():
        if format_.writable and (not format_.needs or importlib.util.find_spec(format_.needs)):
            yield format_


def photo(height: int = 60, width: int = 80) -> NDArray[np.uint8]:
    """A part of the astronaut, (H, W, 3)."""
    part = PillowImage.fromarray(skimage.data.astronaut()[60:260, 130:397])
    return np.asarray(part.resize((width, height), PillowImage.Resampling.LANCZOS))


def sample(channels: int, depth: int, height: int = 24, width: int = 33) -> Image:
    """Smooth colour with noise; alpha from 1 level to full, so that no colour is hidden."""
    rng = np.random.default_rng(channels * 100 + depth)
    y, x = np.mgrid[:height, :width]
    phase = np.arange(channels) * 1.7
    waves = np.sin(x[:, :, None] / 7 + phase) * np.cos(y[:, :, None] / 5 + phase)
    value = np.clip(0.5 + 0.4 * waves + 0.1 * rng.standard_normal(waves.shape), 0, 1)
    if channels in (2, 4):
        value[:, :, -1] = np.clip(value[:, :, -1], 1 / 255, 1)
    return Image(to_depth(value.astype(np.float32), depth) if depth < 32 else value.astype("f4"))


def exif_block() -> bytes:
    """Maker, a software name, an exposure time and the pixel dimensions, big-endian."""
    sub = {
        0x829A: tags.TagValue(tags.RATIONAL, 1, (1).to_bytes(4, "big") + (250).to_bytes(4, "big")),
        exif.PIXEL_X: tags.long(33, ">"),
        exif.PIXEL_Y: tags.long(24, ">"),
    }
    first = {0x010F: tags.ascii_entry("Example"), 0x0131: tags.ascii_entry("Firmware")}
    body = exif.write({exif.EXIF_IFD: sub}, first, 8, ">")
    return b"MM\0*\0\0\0\x08" + body


def identity(image: Image, channels: int = 3) -> Image:
    """The picture through a network that changes nothing."""
    from tests.whole import alpha_of, merge_image, split_image  # torch only here

    lr, rest = split_image(image, channels)
    return merge_image(lr, rest, alpha_of(rest))


def exposure(block: bytes) -> bool:
    opened = tags.open_block(block)
    first, _ = tags.read_directory(opened, opened.first)
    where = tags.number(first, exif.EXIF_IFD, opened.order)
    sub, _ = tags.read_directory(opened, where)
    return tags.numbers(sub[0x829A], opened.order) == (1 / 250,)


def stamped(image: Image, record: dict[str, Any]) -> Image:
    """The picture with a record of how it was made."""
    return Image(image.pixels, with_provenance(image.metadata, record))


def one_line(message: str) -> None:
    """A message must be there and be one line."""
    assert message.strip(), "an error without a message"
    assert "\n" not in message, f"an error of several lines: {message}"
