"""Pictures by rows: little is held, and nothing depends on how the rows come."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.pictures import sample
from tests.whole import alpha_of, split_image
from upscale import icc, load
from upscale.color import split
from upscale.color.pixels import CELL, MARGIN, bleed
from upscale.image import Image, Metadata, Pixels, Reader

P3 = icc.build("P3", icc.PRIMARIES["p3"])
QUICK = settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])


class Rows:
    """A picture file, as it seems: gives its rows in strips of ``tall``."""

    def __init__(self, image: Image, tall: int) -> None:
        self._pixels, self._tall = image.pixels, tall
        self.opened = self.given = 0
        height, width, channels = (int(n) for n in image.pixels.shape)
        dtype, metadata = image.pixels.dtype, image.metadata
        self.reader = Reader("tiff", height, width, channels, dtype, metadata, self._start)

    def _start(self) -> Iterator[Pixels]:
        self.opened += 1
        for y in range(0, len(self._pixels), self._tall):
            self.given = min(len(self._pixels), y + self._tall)
            yield self._pixels[y : y + self._tall].copy()


def file_of(image: Image, tall: int) -> Reader:
    return Rows(image, tall).reader


def holes(height: int, width: int, channels: int = 4) -> Image:
    """A picture with alpha that is 0 in wide places."""
    image = sample(channels, 8, height, width)
    y, x = np.mgrid[:height, :width]
    pixels = image.pixels.copy()
    pixels[:, :, -1] = np.where(np.hypot(y % 90 - 40, x % 70 - 30) < 25, pixels[:, :, -1], 0)
    return image.with_pixels(pixels)


@QUICK
@given(
    st.sampled_from([1, 2, 3, 4]),
    st.sampled_from([8, 16]),
    st.sampled_from([None, P3]),
    st.sampled_from([(1, "studio"), (1, "full"), (3, "studio")]),
    st.integers(1, 40),
    st.integers(0, 2**32 - 1),
)
def test_what_the_network_sees_does_not_depend_on_the_cut(
    kind: int, depth: int, profile: bytes | None, net: Any, step: int, seed: int
) -> None:
    """Equal to the bit: strips of the file and pieces of the window may be cut anywhere."""
    channels, luma = net
    height = 1 + seed % 70
    image = sample(kind, depth, height, 9).with_metadata(icc=profile if kind > 2 else None)
    lr, rest = split(file_of(image, 1 + seed % 13), channels, luma=luma)
    whole, whole_rest = split_image(image, channels, luma=luma)
    cuts = range(0, height, step)
    parts = [lr.rows(y, min(height, y + step)) for y in cuts]
    assert torch.equal(torch.cat(parts, 2), whole)
    alpha, whole_alpha = rest.alpha(), alpha_of(whole_rest)
    assert (alpha is None) == (whole_alpha is None)
    if alpha is not None and whole_alpha is not None:
        parts = [alpha.rows(y, min(height, y + step)) for y in cuts]
        assert torch.equal(torch.cat(parts, 2), whole_alpha)


@pytest.mark.parametrize("tall", [1, 7, 64, 100])
@pytest.mark.parametrize("size", [(500, 37), (333, 150), (130, 20)])
def test_holes_are_filled_alike_whatever_the_cut(
    size: tuple[int, int], tall: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("upscale.color.rows.PIXELS_HOLES", 64 * size[1])
    image = holes(*size)
    lr, rest = split(file_of(image, tall), 3)
    assert rest.statistics.fill is not None
    whole, _ = split_image(image, 3)
    assert torch.equal(lr.rows(0, size[0]), whole)
    monkeypatch.undo()
    at_once, _ = split_image(image, 3)
    assert torch.allclose(whole, at_once, atol=1e-6)


def test_far_from_all_colour_is_the_mean() -> None:
    colour = torch.zeros(1, 3, 4 * CELL, 8)
    colour[:, 0, :4] = 0.75
    alpha = torch.zeros(1, 1, 4 * CELL, 8)
    alpha[:, :, :4] = 1.0
    out = bleed(colour, alpha)
    assert torch.allclose(out[0, :, MARGIN + CELL :].amax((1, 2)), torch.tensor([0.75, 0, 0]))
    assert float(out[0, 0].min()) > 0.7


@pytest.mark.parametrize("pixels", [1, 300])
@pytest.mark.parametrize("kind", ["rgb", "holes"])
def test_a_wide_picture_is_taken_apart_in_parts(
    kind: str, pixels: int, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = sample(3, 8, 150, 40) if kind == "rgb" else holes(200, 30)
    up = load(tiny, device="cpu", tile=32, overlap=20)
    want = up.enlarge(image)[0].pixels
    monkeypatch.setattr("upscale.color.rows.PIXELS", pixels)
    monkeypatch.setattr("upscale.color.rows.PIXELS_HOLES", 100 * pixels)
    for tall in (1, 11):
        assert np.array_equal(np.concatenate(list(up.stream(file_of(image, tall)))), want)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *product(["gray", "rgb", "p3", "sixteen", "premultiplied"], [{}]),
        *product(["holes", "rgb"], [{"color_fix": True}]),
        ("p3", {"icc": "srgb"}),
    ],
)
def test_a_file_by_rows_gives_the_bytes_of_the_whole_picture(
    kind: str, options: dict[str, Any], tiny: str
) -> None:
    images = {
        "gray": sample(1, 8, 150, 40),
        "rgb": sample(3, 8, 150, 40),
        "holes": holes(200, 40),
        "p3": sample(3, 8, 150, 40).with_metadata(icc=P3),
        "sixteen": sample(3, 16, 150, 40),
        "premultiplied": premultiplied(holes(200, 40)),
    }
    image = images[kind]
    up = load(tiny, device="cpu", tile=32, **options)
    for scale in (None, 1.3):
        want, _ = up.enlarge(image, scale=scale)
        stream = up.stream(file_of(image, 11), scale=scale)
        strips = list(stream)
        assert stream.shape == want.pixels.shape
        assert np.array_equal(np.concatenate(strips), want.pixels)
        assert stream.metadata == want.metadata
        assert len(strips) > 1
        assert stream.result.tile == 32


def premultiplied(image: Image) -> Image:
    pixels = image.pixels.copy()
    pixels[:, :, :-1] = pixels[:, :, :-1].astype(int) * pixels[:, :, -1:] // 255
    return Image(pixels, Metadata(premultiplied=True))


@pytest.mark.parametrize(("channels", "passes"), [(3, 2), (1, 3)])
def test_a_file_is_read_as_its_tiles_are_due(channels: int, passes: int, duo: str) -> None:
    """Once before any work, once for the network, and once more for chroma where it is needed."""
    reader = Rows(sample(3, 8, 600, 40), 8)
    up = load("tiny" if channels == 1 else duo, device="cpu", tile=32)
    stream = iter(up.stream(reader.reader))
    assert reader.opened == 1, "once through, before any work"
    next(stream)
    assert reader.opened == passes
    assert reader.given < 120


def test_a_picture_in_memory_is_decoded_once(tiny: str) -> None:
    reader = Rows(sample(4, 8, 60, 40), 8)
    list(load(tiny, device="cpu").stream(reader.reader.in_memory()))
    assert reader.opened == 1


def test_what_is_known_of_a_whole_picture() -> None:
    def facts(pixels: Pixels, **metadata: Any) -> Any:
        image = Image(pixels, Metadata(**metadata))
        found = split(file_of(image, 3), 3)[1].statistics
        assert found.neutral == split_image(image, 3)[1].statistics.neutral
        return found

    gray = np.full((10, 8, 4), 90, np.uint8)
    assert facts(gray[:, :, :3]).neutral
    tinted = gray.copy()
    tinted[9, 7, 0] = 91
    assert not facts(tinted[:, :, :3]).neutral
    tinted[:, :, 3] = 255
    assert facts(tinted).constant_alpha == 1.0
    assert not facts(tinted).neutral
    tinted[9, 7, 3] = 0  # the one colour is not seen
    assert facts(tinted).neutral
    assert facts(tinted).alpha_varies
    assert torch.allclose(facts(tinted).fill, torch.tensor(90 / 255))
    light = (gray[:, :, :3] / 20).astype(np.float32)
    light[4, 4, 1] = -3
    assert (facts(light).low, facts(light).high) == (-3.0, 4.5)
