"""Bars from Python: tqdm's, on stderr, only when asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

import upscale
from tests.conftest import draw, png
from upscale.bars import PictureBar


def test_a_bar_over_one_picture(
    tiny: str, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    up = upscale.load(tiny)
    up.image(draw(20, 20))
    up.file(picture, picture.with_name("a.png"), progress=False)
    assert capsys.readouterr().err == ""
    up.file(picture, picture.with_name("b.png"), progress=True)
    shown = capsys.readouterr().err
    assert "upscale:" in shown
    assert "0 %" in shown
    told: list[float] = []
    up.image(draw(20, 20), progress=lambda done, total: told.append(done / total))
    assert told[-1] == 1
    assert capsys.readouterr().err == ""


def test_a_bar_over_pictures_never_goes_back(capsys: pytest.CaptureFixture[str]) -> None:
    with PictureBar({"a": 100, "b": 300}, "pictures") as bar:
        places = []
        for name, share in (("b", 0.5), ("a", 0.5), ("b", 0.25), ("b", 1.0)):
            bar.share(name, share)
            places.append(bar._bar.n)
        bar.finish("a", 1_000_000)
        bar.finish("b", 3_000_000)
        assert places == [150, 200, 200, 350]
        assert bar._bar.n == 400
    assert "pictures: " in capsys.readouterr().err


def test_a_bar_over_a_batch(tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(png(12, 12))
    out = tmp_path / "out"
    assert all(r.status == "ok" for r in upscale.batch(tmp_path, out, model=tiny, progress=True))
    assert "pictures:" in capsys.readouterr().err
    assert [r.status for r in upscale.batch(tmp_path, out, model=tiny)] == ["skipped"] * 2
    assert capsys.readouterr().err == ""
