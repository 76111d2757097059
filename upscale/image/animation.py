"""Animations: GIF, APNG, WebP and AVIF of several frames, composed by Pillow, and written again.

A frame is what is seen, RGBA of 8 bits, whatever part of it the file holds: so partial frames make
no seams. Written are whole frames: of APNG as they come, of the others from a TIFF beside them that
holds the results until all are there.
"""

from __future__ import annotations

import io
import struct
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from upscale.errors import ImageError
from upscale.image import pillow
from upscale.image.metadata import Metadata
from upscale.image.model import Encoding, Image, Pixels, Shape, strip_rows
from upscale.image.png import SIGNATURE, chunk
from upscale.image.tiffwriter import TiffPages
from upscale.image.writer import FULL_COLOUR, PageWriter, Writer, create
from upscale.strips import checked

if TYPE_CHECKING:
    from PIL import Image as PillowImage

SAMPLES = 1 << 20  # pixels of all frames that the palette of a GIF is made of
COLOURS = 255  # of that palette; the last one is for what is transparent
OPAQUE = 128  # alpha from which a pixel of a GIF is opaque
MOST_DELAY = 65535  # units of a delay
UINT8 = np.dtype(np.uint8)
UNSAID = 0.1  # seconds of a frame of which nothing is said


def frames(name: str, data: bytes, start: int = 0) -> Iterator[Image]:
    """Yield the frames of an animation from one on as they are seen, (H, W, 4) uint8.

    Raises:
        ImageError: Damaged or cut short.
    """
    file = pillow.opened(name, data)
    first = 1 if file.info.get("default_image") else 0  # a still that is not part of it
    count, loop = int(getattr(file, "n_frames", 1)), file.info.get("loop")
    if name == "gif":  # which tells how often it is repeated
        loop = 1 if loop is None else loop and int(loop) + 1
    for number in range(first + start, count):
        try:
            file.seek(number)
            pixels = np.asarray(file.convert("RGBA"))
        except pillow.DAMAGE as error:
            raise ImageError("damaged or cut short; fetch it again") from error
        delay = float(file.info.get("duration") or 0) / 1000
        metadata = pillow.metadata_of(name, data, file) if number == first else Metadata(name)
        yield Image(pixels, replace(metadata, delay=delay, loop=int(loop or 0)))


class ApngPages:
    """Frames of a PNG, each written as it comes."""

    def __init__(self, file: BinaryIO, encoding: Encoding, count: int | None) -> None:
        """Write to an empty, seekable file; the number of frames is put in at the end."""
        self._file, self._encoding = file, replace(encoding, palette=False)
        self._head = b""  # IHDR of the first frame
        self._sequence = self._count = self._at = self._loop = 0

    def page(
        self, shape: Shape, dtype: Any, metadata: Metadata, *, has_alpha: bool = False
    ) -> PageWriter:
        """Prepare for a frame; errors are those of ``create``."""
        buffer = io.BytesIO()
        more = {"has_alpha": has_alpha}
        writer = create(buffer, "png", shape, dtype, metadata, self._encoding, **more)

        def write(rows: Iterable[Pixels]) -> None:
            writer.write(rows)
            self._add(buffer.getvalue(), metadata)

        return PageWriter(write, writer.losses)

    def _add(self, data: bytes, m: Metadata) -> None:
        """A PNG file as the next frame."""
        chunks = list(_chunks(data))
        head = chunks[0][1]
        self._head = self._head or head
        if head != self._head:
            raise ImageError("frames of an animation have one size and kind; give -f tiff")
        if not self._count:
            self._file.write(SIGNATURE + chunk(*chunks[0]))
            self._at, self._loop = self._file.tell(), m.loop or 0
            self._file.write(chunk(b"acTL", bytes(8)))
            for kind, body in chunks[1:]:
                if kind not in (b"IDAT", b"IEND"):
                    self._file.write(chunk(kind, body))
        width, height = struct.unpack(">II", head[:8])
        delay = _fraction(m.delay)
        control = struct.pack(">IIIIIHHBB", self._number(), width, height, 0, 0, *delay, 0, 0)
        self._file.write(chunk(b"fcTL", control))
        for kind, body in chunks:
            if kind == b"IDAT" and not self._count:
                self._file.write(chunk(kind, body))
            elif kind == b"IDAT":
                self._file.write(chunk(b"fdAT", struct.pack(">I", self._number()) + body))
        self._count += 1

    def _number(self) -> int:
        self._sequence += 1
        return self._sequence - 1

    def close(self) -> None:
        """Write the end, and how many frames there are."""
        self._file.write(chunk(b"IEND", b""))
        self._file.seek(self._at)
        self._file.write(chunk(b"acTL", struct.pack(">II", self._count, self._loop)))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(SIGNATURE)
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        yield kind, data[at + 8 : at + 8 + length]
        at += 12 + length


def _fraction(delay: float | None) -> tuple[int, int]:
    """Seconds as a fraction of two bytes each."""
    from fractions import Fraction

    exact = Fraction(delay or 0).limit_denominator(1000)
    return min(exact.numerator, MOST_DELAY), exact.denominator


class SpooledPages:
    """Frames that are kept in a TIFF until the last is there, and then encoded by Pillow."""

    def __init__(self, name: str, file: BinaryIO, encoding: Encoding) -> None:
        """Write to an empty file, as ``name``: gif, webp or avif."""
        self._name, self._file, self._encoding = name, file, encoding
        self._spool: Any = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this
        self._pages = TiffPages(self._spool, big=True)
        self._first: tuple[Writer, Metadata] | None = None
        self._delays: list[float] = []

    def page(
        self, shape: Shape, dtype: Any, metadata: Metadata, *, has_alpha: bool = False
    ) -> PageWriter:
        """Prepare for a frame, of the size of the first; errors are those of ``create``."""
        more = {"has_alpha": has_alpha}
        writer = create(io.BytesIO(), self._name, shape, dtype, metadata, self._encoding, **more)
        first, _ = self._first = self._first or (writer, metadata)
        if shape[:2] != first.shape[:2]:
            raise ImageError(
                f"it has {shape[1]} x {shape[0]} pixels and the first has {first.shape[1]} x "
                f"{first.shape[0]}; give -f tiff, or --size WxH"
            )
        height, width = shape[:2]
        stored = (height, width, 4)

        def write(rows: Iterable[Pixels]) -> None:
            strips = checked(
                map(_rgba, writer.strips(rows)), stored, UINT8, strip_rows(stored, UINT8)
            )
            self._pages.add(strips, stored, Metadata(), alpha=True, cmyk=False)
            self._delays.append(UNSAID if metadata.delay is None else metadata.delay)

        losses = writer.losses
        if self._name == "gif":
            losses = (*losses, "GIF holds 256 colours: one palette for all frames")
        return PageWriter(write, losses)

    def close(self) -> None:
        """Encode all frames."""
        from PIL import TiffImagePlugin

        if self._first is None:
            return
        writer, metadata = self._first
        self._spool.seek(0)
        spool = TiffImagePlugin.TiffImageFile(self._spool)
        loop, m = metadata.loop or 0, writer.fitted.metadata
        delays = [round(delay * 1000) for delay in self._delays]
        if self._name == "gif":
            _write_gif(self._file, spool, self._delays, loop)
            return
        quality = writer.encoding.quality
        options: dict[str, Any] = {"duration": delays, "quality": quality}
        if self._name == "webp":
            lossless = self._encoding.lossless
            options |= {"loop": loop, "lossless": lossless, "method": 4, "exact": True}
        else:
            subsampling = "4:4:4" if (quality or 0) >= FULL_COLOUR else "4:2:0"
            options |= {"max_threads": pillow.THREADS, "subsampling": subsampling}
        blocks = {"icc_profile": m.icc or b"", "exif": m.exif or b"", "xmp": m.xmp or b""}
        try:
            spool.save(self._file, self._name.upper(), save_all=True, **blocks, **options)
        except (OSError, ValueError, MemoryError, RuntimeError) as error:
            raise ImageError(
                f"cannot be written as {self._name} ({error}); choose -f png"
            ) from error


def _write_gif(file: BinaryIO, spool: PillowImage.Image, delays: list[float], loop: int) -> None:
    """Whole frames in one palette: colours of all frames, so that none flickers."""
    from PIL import GifImagePlugin
    from PIL import Image as PillowImage

    count = len(delays)
    # 1. The palette, of pixels from all frames.
    seen: list[Pixels] = []
    clear = False
    each = max(1, spool.width * spool.height * count // SAMPLES)
    for number in range(count):
        spool.seek(number)
        every = np.asarray(spool.convert("RGBA")).reshape(-1, 4)
        clear = clear or bool((every[:, 3] < OPAQUE).any())
        pixels = every[number % each :: each]
        seen.append(pixels[pixels[:, 3] >= OPAQUE, :3])
    sample = np.concatenate(seen)
    if not len(sample):
        sample = np.zeros((1, 3), np.uint8)
    colours = np.unique(sample, axis=0)
    if len(colours) > COLOURS or each > 1:
        picture = PillowImage.fromarray(sample[None])
        found = picture.quantize(COLOURS, method=PillowImage.Quantize.MEDIANCUT).getpalette() or []
        colours = np.array(found[: 3 * COLOURS], np.uint8).reshape(-1, 3)
    padded = np.zeros((256, 3), np.uint8)
    padded[: len(colours)] = colours
    palette = PillowImage.new("P", (1, 1))
    padded[len(colours) : COLOURS] = colours[0]
    palette.putpalette(padded.tobytes())
    # 2. Header, palette, and how often it is shown.
    file.write(b"GIF89a" + struct.pack("<HHBBB", spool.width, spool.height, 0xF7, COLOURS, 0))
    file.write(padded.tobytes())
    if loop != 1:
        file.write(
            b"!\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<HB", min(max(0, loop - 1), 65535), 0)
        )
    # 3. Frames: what is as before is left out; where anything is transparent, all are cleared away.
    before: Pixels | None = None
    for number, delay in enumerate(delays):
        spool.seek(number)
        rgba = spool.convert("RGBA")
        picture = rgba.convert("RGB").quantize(palette=palette, dither=PillowImage.Dither.NONE)
        indices = np.array(picture)
        hidden = np.asarray(rgba)[:, :, 3] < OPAQUE
        if not clear and before is not None:
            hidden = indices == before
        frame = np.where(hidden, np.uint8(COLOURS), indices)
        before = indices
        units = min(round(delay * 100), MOST_DELAY)
        flags = 9 if clear else 5 if number else 4  # disposal, and whether anything is left out
        file.write(b"!\xf9\x04" + struct.pack("<BHBB", flags, units, COLOURS, 0))
        shown = PillowImage.frombytes("P", (spool.width, spool.height), frame.tobytes())
        for part in GifImagePlugin.getdata(shown, include_color_table=False):
            if not part.startswith(b"!"):
                file.write(part)
    file.write(b";")


def encode_gif(image: Image) -> bytes:
    """A picture as a GIF of one frame."""
    buffer, pixels = io.BytesIO(), image.pixels
    pages = SpooledPages("gif", buffer, Encoding())
    pages.page(pixels.shape, pixels.dtype, image.metadata).write([pixels])
    pages.close()
    return buffer.getvalue()


def _rgba(pixels: Pixels) -> Pixels:
    """Rows (h, W, 3 or 4) with alpha."""
    if pixels.shape[2] == 4:
        return pixels
    return np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
