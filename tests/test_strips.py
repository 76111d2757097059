"""Strips: any pieces of a picture that comes in any cut, little held, one ahead."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.conftest import draw
from upscale import load
from upscale.image import Image, of_image
from upscale.strips import Window, ahead, cut
from upscale.upscaler import enlargement


def strips_of(picture: Tensor, tall: int) -> Iterator[Tensor]:
    return cut([picture], tall)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 50), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_pieces_are_the_picture_and_little_is_held(tall: int, height: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    picture = torch.rand(1, 3, height, 7, generator=torch.Generator().manual_seed(seed))
    window = Window(strips_of(picture, tall), tuple(picture.shape))
    at = 0
    while at < height:
        first = int(rng.integers(at, height))
        last = int(rng.integers(first + 1, height + 1))
        assert torch.equal(window.rows(first, last), picture[:, :, first:last])
        assert torch.equal(window.rows(first, last), picture[:, :, first:last])
        held = sum(strip.shape[-2] for strip in window._held)
        assert held <= max(window._end - first, 0) + tall
        at = int(rng.integers(first, last + 1))


def test_rows_that_were_left_or_never_come_are_errors() -> None:
    picture = torch.rand(1, 1, 30, 4)
    window = Window(strips_of(picture, 5), tuple(picture.shape))
    window.rows(20, 22)
    with pytest.raises(ValueError, match="were left"):
        window.rows(0, 10)
    with pytest.raises(ValueError, match="hold 30 rows"):
        window.rows(25, 31)


def test_one_strip_ahead() -> None:
    made: list[int] = []

    def strips() -> Iterator[Tensor]:
        for k in range(50):
            made.append(k)
            yield torch.tensor(k)

    got = []
    for strip in ahead(strips()):
        got.append(int(strip))
        assert len(made) <= int(strip) + 2
    assert got == list(range(50))
    assert list(ahead(iter(()))) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_errors_come_through(error: type[BaseException]) -> None:
    def strips() -> Iterator[Tensor]:
        yield torch.tensor(1)
        raise error("here")

    taken = ahead(strips())
    assert next(taken) == 1
    with pytest.raises(error, match="here"):
        next(taken)


def test_leaving_early_ends_the_thread() -> None:
    before = threading.active_count()
    taken = ahead(torch.tensor(k) for k in range(10**9))
    assert next(taken) == 0
    taken.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


@pytest.mark.parametrize("options", [{}, {"color_fix": True}])
def test_a_picture_is_the_same_with_its_network_ahead(
    tiny: str, options: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.dstack([draw(150, 60), draw(150, 60, seed=1)[:, :, :1]])
    up = load(tiny, device="cpu", tile=32, **options)
    want, _ = up.enlarge(Image(pixels), scale=1.5)
    monkeypatch.setattr(enlargement, "resize_strips", _threaded(enlargement.resize_strips))
    found = np.concatenate(list(up.stream(of_image(Image(pixels)), scale=1.5)))
    assert np.array_equal(found, want.pixels)


def _threaded(resize_strips: object) -> object:
    def resized(strips: Iterator[Tensor], *sizes: tuple[int, int]) -> Iterator[Tensor]:
        return resize_strips(ahead(strips), *sizes)  # type: ignore[operator,no-any-return]

    return resized
