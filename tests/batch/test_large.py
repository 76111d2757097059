"""Huge pictures by bands: the same pixels as whole, whatever the layout of the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.conftest import Finished, draw
from upscale.batch import strips
from upscale.image import decode

Cli = Callable[..., Finished]

LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "strips": {"rowsperstrip": 7, "compression": "zlib"},
    "tiles": {"tile": (32, 48), "compression": "zlib", "predictor": True},
    "big-endian": {"byteorder": ">"},
}


@pytest.fixture
def bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pictures are huge, and a band is few rows."""
    monkeypatch.setattr(strips, "SMALL_FILE", 0)
    monkeypatch.setattr(strips, "HUGE_PIXELS", 100)
    monkeypatch.setattr(strips, "BAND_BYTES", 4 * 3 * 90 * 4 * 25)


def save(path: Path, pixels: np.ndarray, byteorder: str = "<", **layout: Any) -> None:
    kind = "minisblack" if pixels.ndim == 2 else "rgb"
    extra = {"extrasamples": ["unassalpha"]} if pixels.shape[-1] == 4 else {}
    with tifffile.TiffWriter(path, byteorder=byteorder) as writer:  # type: ignore[arg-type]
        writer.write(pixels, photometric=kind, metadata=None, **layout, **extra)


def pictures() -> dict[str, np.ndarray]:
    rgb = draw(131, 90)
    return {
        "rgb": rgb,
        "gray": np.ascontiguousarray(rgb[:, :, 0]),
        "rgba": np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)]),
        "sixteen": rgb.astype(np.uint16) * 257 + 3,
    }


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["rgb", "gray", "rgba", "sixteen"])
def test_bands_equal_whole(
    cli: Cli, tiny: str, tmp_path: Path, bands: None, monkeypatch: Any, kind: str, layout: str
) -> None:
    source = tmp_path / "in.tif"
    save(source, pictures()[kind], **LAYOUTS[layout])
    for ext in ("tif", "png"):
        result = cli(source, "-m", tiny, "-o", tmp_path / f"bands.{ext}")
        assert result.code == 0, result.err
    monkeypatch.setattr(strips, "HUGE_PIXELS", 10**9)
    assert cli(source, "-m", tiny, "-o", tmp_path / "whole.tif").code == 0
    whole = decode((tmp_path / "whole.tif").read_bytes())
    for ext in ("tif", "png"):
        banded = decode((tmp_path / f"bands.{ext}").read_bytes())
        assert banded.pixels.dtype == whole.pixels.dtype
        difference = np.abs(banded.pixels.astype(int) - whole.pixels)
        allowed = kind == "sixteen"  # one level of 65535: sums in another order
        worst = np.unravel_index(difference.argmax(), difference.shape)
        assert difference.max() <= allowed, f"{ext}: {difference.max()} at {worst}"
    assert tifffile.TiffFile(tmp_path / "bands.tif").is_bigtiff


def test_what_bands_cannot_do_is_said(cli: Cli, tiny: str, tmp_path: Path, bands: None) -> None:
    source = tmp_path / "in.tif"
    save(source, pictures()["rgb"])
    fraction = cli(source, "-m", tiny, "-s", "1.7")
    assert fraction.code == 1
    assert "whole scale" in fraction.err
    jpeg = cli(source, "-m", tiny, "-f", "jpg")
    assert jpeg.code == 1
    assert "-f tif" in jpeg.err


def test_a_truncated_file_leaves_nothing(cli: Cli, tiny: str, tmp_path: Path, bands: None) -> None:
    source = tmp_path / "in.tif"
    save(source, pictures()["rgb"])
    source.write_bytes(source.read_bytes()[:-9000])
    result = cli(source, "-m", tiny, "-o", f"{tmp_path}/out/")
    assert result.code == 1, result
    assert not [p for p in (tmp_path / "out").rglob("*") if p.suffix in {".tif", ".tmp"}]


def test_a_folder_with_a_huge_picture_resumes(
    cli: Cli, tiny: str, tmp_path: Path, bands: None
) -> None:
    (tmp_path / "in").mkdir()
    save(tmp_path / "in" / "a.tif", pictures()["rgb"])
    for status in ("ok", "skipped"):
        result = cli(tmp_path / "in", "-m", tiny, "-o", tmp_path / "out", "--json")
        assert f'"status": "{status}"' in result.text, result
