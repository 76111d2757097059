"""One item ahead: the same items, errors and endings as without a thread."""

from __future__ import annotations

import threading
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import draw
from upscale import load
from upscale.color import FilePixels, ImagePixels
from upscale.image import Image, encode, open_rows
from upscale.upscaler import strips
from upscale.upscaler.ahead import ahead


def test_items_come_in_order_one_ahead() -> None:
    made: list[int] = []

    def items() -> Generator[int, None, None]:
        for k in range(50):
            made.append(k)
            yield k

    got = []
    for item in ahead(items()):
        got.append(item)
        assert len(made) <= item + 2
    assert got == list(range(50))
    assert list(ahead(k for k in range(0))) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_errors_come_through(error: type[BaseException]) -> None:
    def items() -> Generator[int, None, None]:
        yield 1
        raise error("here")

    taken = ahead(items())
    assert next(taken) == 1
    with pytest.raises(error, match="here"):
        next(taken)


def test_leaving_early_ends_the_thread_and_closes() -> None:
    closed = threading.Event()

    def items() -> Generator[int, None, None]:
        try:
            yield from range(10**9)
        finally:
            closed.set()

    before = threading.active_count()
    taken = ahead(items())
    assert next(taken) == 0
    taken.close()  # type: ignore[attr-defined]
    assert closed.wait(5)
    assert threading.active_count() == before


@pytest.mark.parametrize("options", [{}, {"color_fix": True}])
def test_a_picture_is_the_same(
    tiny: str, options: dict[str, bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.dstack([draw(150, 60), draw(150, 60, seed=1)[:, :, :1]])
    up = load(tiny, device="cpu", tile=32, **options)  # type: ignore[arg-type]
    want, said = up.enlarge(Image(pixels), scale=1.5)
    (tmp_path / "a.tif").write_bytes(encode(Image(pixels), "tiff"))
    reader = open_rows(tmp_path / "a.tif")
    assert reader is not None
    for source in (ImagePixels(Image(pixels)), FilePixels(reader)):
        stream = up.stream(source, scale=1.5)
        monkeypatch.setattr(stream, "_is_ahead", True)
        assert np.array_equal(strips.whole(stream), want.pixels)
        assert stream.result.tile == said.tile
