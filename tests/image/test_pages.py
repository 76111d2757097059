"""Files of several pictures: every page, delay and loop as tifffile and Pillow see them."""

from __future__ import annotations

import io
import struct
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageSequence

from tests.pictures import photo, sample
from upscale import image
from upscale.errors import ImageError
from upscale.image import Encoding, Reader, create_pages, decode, probe

DELAYS = [40, 120, 70, 200]  # milliseconds


def moving(count: int = 4, *, alpha: bool = False) -> list[NDArray[np.uint8]]:
    """Frames of a square that moves over a photograph."""
    frames = []
    for i in range(count):
        frame = photo(48, 64).copy()
        frame[10:20, 5 + 8 * i : 15 + 8 * i] = (250, 20, 10)
        if alpha:
            cover = np.full((48, 64, 1), 255, np.uint8)
            cover[30:40, 10 * i : 10 * i + 10] = 0
            frame = np.dstack([frame, cover])
        frames.append(frame)
    return frames


def animated(name: str, frames: list[NDArray[np.uint8]], **options: Any) -> bytes:
    pictures, buffer = [PillowImage.fromarray(f) for f in frames], io.BytesIO()
    more: dict[str, Any] = {"duration": DELAYS[: len(frames)], **options}
    pictures[0].save(buffer, name, save_all=True, append_images=pictures[1:], **more)
    return buffer.getvalue()


def as_pillow(data: bytes, mode: str) -> list[NDArray[np.uint8]]:
    with PillowImage.open(io.BytesIO(data)) as file:
        return [np.array(frame.convert(mode)) for frame in ImageSequence.Iterator(file)]


def durations(data: bytes) -> list[float]:
    with PillowImage.open(io.BytesIO(data)) as file:
        found = []
        for frame in ImageSequence.Iterator(file):
            frame.load()
            found.append(frame.info["duration"])
        return found


def again(reader: Reader, name: str, **options: Any) -> bytes:
    """The pages of a file, written as another file of several."""
    buffer = io.BytesIO()
    timed = reader.metadata.delay is not None
    pages = create_pages(buffer, name, Encoding(**options), reader.count, is_timed=timed)
    for page in reader.pages():
        shape = (page.height, page.width, page.channels)
        pages.page(shape, page.dtype, page.metadata).write(page.rows())
    pages.close()
    return buffer.getvalue()


OPTIONS: dict[str, dict[str, Any]] = {"WEBP": {"lossless": True}, "AVIF": {"quality": 100}}


@pytest.mark.parametrize("name", ["GIF", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("alpha", [False, True])
def test_frames_are_composed_with_their_delays(name: str, alpha: bool) -> None:
    data = animated(name, moving(alpha=alpha), loop=3, **OPTIONS.get(name, {}))
    reader = image.open(data)
    assert (reader.count, probe(data).frames) == (4, 4)
    pages = list(reader.pages())
    assert [page.metadata.delay for page in pages] == pytest.approx([d / 1000 for d in DELAYS])
    if name != "AVIF":
        assert pages[0].metadata.loop == (4 if name == "GIF" else 3)
    mode = {3: "RGB", 4: "RGBA"}[reader.channels]
    for page, want in zip(pages, as_pillow(data, mode), strict=True):
        assert (page.read().pixels == want).all()
        assert (page.read().pixels == want).all(), "it can be read twice"
    assert (next(reader.rows()) == next(pages[0].rows())).all()
    with pytest.raises(ImageError, match="animated"):
        decode(data)


@pytest.mark.parametrize("source", ["GIF", "PNG", "WEBP"])
@pytest.mark.parametrize("target", ["gif", "png", "webp", "avif"])
def test_an_animation_comes_back(source: str, target: str) -> None:
    frames = moving(alpha=target == "gif")
    data = animated(source, frames, loop=2, **OPTIONS.get(source, {}))
    reader = image.open(data)
    options: dict[str, Any] = {"lossless": True} if target == "webp" else {}
    out = again(reader, target, **options)
    with PillowImage.open(io.BytesIO(out)) as file:
        assert file.n_frames == 4
        loop = file.info.get("loop")
    shown = reader.metadata.loop or 0
    if target != "avif":
        assert loop == (shown - 1 if target == "gif" else shown)
    rate = 10 if target == "gif" else 1
    assert durations(out) == pytest.approx(DELAYS, abs=rate)
    for found, page in zip(as_pillow(out, "RGBA"), reader.pages(), strict=True):
        want = page.read().pixels
        solid = want[:, :, 3] > 128 if page.channels == 4 else np.ones(want.shape[:2], bool)
        worst = np.abs(found[:, :, :3].astype(int) - want[:, :, :3])[solid].mean()
        assert worst <= {"png": 0, "webp": 0, "gif": 6, "avif": 8}[target]
        if page.channels == 4 and target == "gif":
            assert ((found[:, :, 3] > 128) == solid).all()


def test_a_gif_keeps_its_colours_from_frame_to_frame() -> None:
    out = again(image.open(animated("PNG", moving())), "gif")
    frames = as_pillow(out, "RGB")
    for first, second in pairwise(frames):
        assert (first[24:] == second[24:]).all(), "what stands still does not flicker"


def test_a_hole_shows_nothing_of_the_frame_before() -> None:
    solid = np.dstack([photo(48, 64), np.full((48, 64, 1), 255, np.uint8)])
    hole = solid.copy()
    hole[10:20, 10:20, 3] = 0
    out = again(image.open(animated("PNG", [solid, hole, solid])), "gif")
    for found, want in zip(as_pillow(out, "RGBA"), (solid, hole, solid), strict=True):
        assert ((found[:, :, 3] > 128) == (want[:, :, 3] > 128)).all()


def stack(**options: Any) -> tuple[NDArray[Any], bytes]:
    planes = np.stack([sample(1, 16, 40 + 0 * i, 50).pixels[:, :, 0] + i for i in range(9)])
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, planes, photometric="minisblack", **options)
    return planes, buffer.getvalue()


@pytest.mark.parametrize(
    "options",
    [
        {"metadata": None},
        {"imagej": True, "metadata": {"axes": "ZYX", "spacing": 2.0, "unit": "um"}},
        {"ome": True, "metadata": {"axes": "ZYX", "PhysicalSizeX": 0.5}},
    ],
    ids=["plain", "imagej", "ome"],
)
def test_a_stack_keeps_planes_and_axes(options: dict[str, Any]) -> None:
    planes, data = stack(**options)
    reader = image.open(data)
    assert reader.count == 9
    out = again(reader, "tiff")
    with tifffile.TiffFile(io.BytesIO(out)) as file, tifffile.TiffFile(io.BytesIO(data)) as before:
        assert (file.asarray() == planes).all()
        assert file.is_imagej == before.is_imagej
        assert file.is_ome == before.is_ome
        if options.get("metadata"):
            assert file.series[0].axes == before.series[0].axes == "ZYX"


def test_pages_of_different_sizes_and_depths() -> None:
    pictures = [sample(3, 8), sample(1, 16, 30, 20), sample(4, 8, 10, 11), sample(1, 32)]
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for i, picture in enumerate(pictures):
            pixels = picture.pixels if picture.pixels.shape[2] > 1 else picture.pixels[:, :, 0]
            kind = "rgb" if pixels.ndim == 3 else "minisblack"
            extra = {"extrasamples": ["unassalpha"]} if pixels.shape[-1] == 4 else {}
            writer.write(pixels, photometric=kind, metadata=None, **extra)
            if i == 1:
                writer.write(photo(8, 8), photometric="rgb", metadata=None, subfiletype=1)
    for data in (buffer.getvalue(), again(image.open(buffer.getvalue()), "tiff")):
        pages = list(image.open(data).pages())
        assert len(pages) == 4
        for page, picture in zip(pages, pictures, strict=True):
            assert (page.read().pixels == picture.pixels).all()


@pytest.mark.parametrize("name", ["GIF", "PNG", "WEBP", "TIFF"])
def test_cut_files_are_refused_and_not_taken_for_shorter_ones(name: str) -> None:
    data = animated(name, moving()) if name != "TIFF" else stack(metadata=None)[1]
    whole = len(list(image.open(data).pages()))
    for share in np.linspace(0.05, 0.98, 25):
        try:
            pages = [page.read() for page in image.open(data[: int(len(data) * share)]).pages()]
        except ImageError:
            continue
        assert len(pages) == whole


def test_frames_of_another_size_are_refused() -> None:
    pages = create_pages(io.BytesIO(), "gif", Encoding(), 2, is_timed=True)
    pages.page((10, 12, 3), np.uint8, image.Metadata()).write([photo(10, 12)])
    with pytest.raises(ImageError, match=r"9 x 12 .* --size"):
        pages.page((12, 9, 3), np.uint8, image.Metadata())


def test_a_png_of_many_frames_is_whole_chunk_by_chunk() -> None:
    out = again(image.open(animated("GIF", moving())), "png")
    at, numbers = 8, []
    while at < len(out):
        length, kind = struct.unpack_from(">I4s", out, at)
        if kind in (b"fcTL", b"fdAT"):
            numbers.append(struct.unpack_from(">I", out, at + 8)[0])
        at += 12 + length
    assert numbers == list(range(len(numbers)))


def test_a_still_gif_of_few_colours_is_exact() -> None:
    few = (photo() // 128) * 128
    data = image.encode(image.Image(few), "gif")
    assert (decode(data).pixels[:, :, :3] == few).all()
    assert (as_pillow(data, "RGB")[0] == few).all()
