"""Pictures by rows: several readers, no more held than is needed, nothing that depends on cuts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.pictures import sample
from upscale import icc, load
from upscale.color import FilePixels, ImagePixels, Rest, bleed, separate
from upscale.color.alpha import CELL, MARGIN
from upscale.image import Image, Metadata, Pixels, RowReader

P3 = icc.build("P3", icc.PRIMARIES["p3"])
QUICK = settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])


class Rows:
    """A picture file, as it seems: gives its rows in pieces of ``tall``."""

    def __init__(self, image: Image, tall: int) -> None:
        self._pixels, self._tall = image.pixels, tall
        self.opened = self.given = 0
        height, width, channels = (int(n) for n in image.pixels.shape)
        dtype, metadata = image.pixels.dtype, image.metadata
        self.reader = RowReader("tiff", height, width, channels, dtype, metadata, self._start)

    def _start(self) -> Iterator[Pixels]:
        self.opened += 1
        for y in range(0, len(self._pixels), self._tall):
            self.given = min(len(self._pixels), y + self._tall)
            yield self._pixels[y : y + self._tall].copy()


def file_of(image: Image, tall: int) -> FilePixels:
    return FilePixels(Rows(image, tall).reader)


def holes(height: int, width: int, channels: int = 4) -> Image:
    """A picture with alpha that is 0 in wide places."""
    image = sample(channels, 8, height, width)
    y, x = np.mgrid[:height, :width]
    pixels = image.pixels.copy()
    pixels[:, :, -1] = np.where(np.hypot(y % 90 - 40, x % 70 - 30) < 25, pixels[:, :, -1], 0)
    return image.with_pixels(pixels)


@QUICK
@given(st.integers(1, 50), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_cursors_see_the_file_and_little_is_held(tall: int, height: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = sample(3, 8, height, 7)
    pixels = file_of(image, tall)
    cursors = [pixels.cursor() for _ in range(3)]
    at = [0, 0, 0]
    while min(at) < height:
        k = int(rng.integers(3))
        first = min(height - 1, at[k])
        last = int(rng.integers(first + 1, height + 1))
        cursors[k].leave(first)
        assert np.array_equal(cursors[k].rows(first, last), image.pixels[first:last])
        middle = int(rng.integers(first, last))
        assert np.array_equal(cursors[k].rows(middle, last), image.pixels[middle:last])
        assert np.array_equal(cursors[k].rows(first, last), image.pixels[first:last])
        held = sum(len(rows) for _, rows in pixels._held)
        assert held <= pixels._end - min(cursor.first for cursor in pixels._cursors) + tall
        at[k] = int(rng.integers(first, last + 1))


def test_rows_above_all_cursors_are_forgotten() -> None:
    image = sample(3, 8, 1000, 5)
    reader = Rows(image, 10)
    pixels = FilePixels(reader.reader)
    ahead, behind = pixels.cursor(), pixels.cursor()
    for y in range(0, 1000 - 100, 10):
        ahead.leave(y + 50)
        ahead.rows(y + 50, y + 100)
        behind.leave(y)
        behind.rows(y, y + 10)
        assert sum(len(rows) for _, rows in pixels._held) <= 120
    assert reader.opened == 1
    with pytest.raises(ValueError, match="were left"):
        behind.rows(0, 10)


@QUICK
@given(
    st.sampled_from([1, 2, 3, 4]),
    st.sampled_from([8, 16]),
    st.sampled_from([None, P3]),
    st.sampled_from([1, 3]),
    st.integers(1, 40),
    st.integers(0, 2**32 - 1),
)
def test_the_view_does_not_depend_on_the_cut(
    kind: int, depth: int, profile: bytes | None, channels: int, step: int, seed: int
) -> None:
    height = 1 + seed % 70
    image = sample(kind, depth, height, 9).with_metadata(icc=profile if kind > 2 else None)
    rest = separate(file_of(image, 13), channels)
    views = [view for view in (rest.view(), rest.alpha_view()) if view is not None]
    whole = separate(ImagePixels(image), channels)
    wholes = [view for view in (whole.view(), whole.alpha_view()) if view is not None]
    for view, want in zip(views, wholes, strict=True):
        cuts = range(0, height, step)
        parts = [view.rows(y, min(height, y + step)) for y in cuts]
        assert torch.equal(torch.cat(parts, 2), want.rows(0, height))


@pytest.mark.parametrize("step", [7, 64, 100])
@pytest.mark.parametrize("size", [(500, 37), (333, 150), (130, 20)])
def test_holes_are_filled_alike_whatever_the_cut(size: tuple[int, int], step: int) -> None:
    image = holes(*size)
    rest = separate(file_of(image, 21), 3)
    assert rest.facts.fill is not None
    whole = separate(ImagePixels(image), 3).view().rows(0, size[0])
    view = rest.view()
    parts = [view.rows(y, min(size[0], y + step)) for y in range(0, size[0], step)]
    assert torch.allclose(torch.cat(parts, 2), whole, atol=1e-6)


def test_far_from_all_colour_is_the_mean() -> None:
    colour = torch.zeros(1, 3, 4 * CELL, 8)
    colour[:, 0, :4] = 0.75
    alpha = torch.zeros(1, 1, 4 * CELL, 8)
    alpha[:, :, :4] = 1.0
    out = bleed(colour, alpha)
    assert torch.allclose(out[0, :, MARGIN + CELL :].amax((1, 2)), torch.tensor([0.75, 0, 0]))
    assert float(out[0, 0].min()) > 0.7


@pytest.mark.parametrize("taken", [1, 300])
@pytest.mark.parametrize("kind", ["rgb", "holes"])
def test_a_wide_picture_is_taken_apart_in_parts(
    kind: str, taken: int, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = sample(3, 8, 150, 40) if kind == "rgb" else holes(300, 90)
    up = load(tiny, device="cpu", tile=32, overlap=20)
    want = up.enlarge(image)[0].pixels
    monkeypatch.setattr("upscale.color.rest.TAKEN", taken)
    monkeypatch.setattr("upscale.color.rest.TAKEN_HOLES", 100 * taken)
    monkeypatch.setattr("upscale.upscaler.strips.MERGED", taken)
    monkeypatch.setattr("upscale.upscaler.strips.MERGED_HOLES", 100 * taken)
    for tall in (1, 11):
        assert np.array_equal(np.concatenate(list(up.stream(file_of(image, tall)))), want)


@pytest.mark.parametrize("options", [{}, {"color_fix": True}, {"icc": "srgb"}])
@pytest.mark.parametrize("kind", ["gray", "rgb", "holes", "p3", "sixteen", "premultiplied"])
def test_a_file_by_rows_gives_the_bytes_of_the_whole_picture(
    kind: str, options: dict[str, Any], tiny: str
) -> None:
    images = {
        "gray": sample(1, 8, 150, 40),
        "rgb": sample(3, 8, 150, 40),
        "holes": holes(300, 90),
        "p3": sample(3, 8, 150, 40).with_metadata(icc=P3),
        "sixteen": sample(3, 16, 150, 40),
        "premultiplied": premultiplied(holes(300, 90)),
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


def test_a_file_is_read_as_its_tiles_are_due(tiny: str) -> None:
    reader = Rows(sample(3, 8, 600, 40), 8)
    stream = iter(load(tiny, device="cpu", tile=32).stream(FilePixels(reader.reader)))
    assert reader.opened == 1, "once through, before any work"
    next(stream)
    assert reader.opened == 2
    assert reader.given < 120


def test_what_is_known_of_a_whole_picture() -> None:
    def facts(pixels: Pixels, **metadata: Any) -> Any:
        found: Rest = separate(file_of(Image(pixels, Metadata(**metadata)), 3), 3)
        assert (
            found.facts.neutral
            == separate(ImagePixels(Image(pixels, Metadata(**metadata))), 3).facts.neutral
        )
        return found.facts

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
