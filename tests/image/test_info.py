"""``upscale info``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.pictures import sample, stamped
from upscale.image import encode

PICTURES = Path(__file__).parents[1] / "data" / "pictures"


def test_a_table_for_people(cli: Callable[..., Any]) -> None:
    done = cli("info", PICTURES / "camera.jpg")
    assert done.code == 0
    for words in ("jpeg", "4:2:0", "Display P3", "orientation", "Firmware_1.0"):
        assert words in done.text


def test_json_for_programs_with_the_provenance(cli: Callable[..., Any], tmp_path: Path) -> None:
    record = {"software": "upscale 1", "model": "esrgan", "weights": [{"name": "a", "sha256": "0"}]}
    path = tmp_path / "ä b.png"
    path.write_bytes(encode(stamped(sample(4, 16), record), "png"))
    done = cli("info", "--json", path, PICTURES / "pages.tif")
    assert done.code == 0
    first, second = (json.loads(line) for line in done.text.splitlines())
    assert first["provenance"] == record
    assert (first["depth"], first["colour"]) == (16, "RGB + alpha")
    assert second["frames"] == 2
    assert second["provenance"] is None
    table = cli("info", path)
    assert "provenance.model" in table.text
    assert "sha256=0" in table.text


def test_a_file_that_is_no_picture_fails_and_the_rest_is_shown(
    cli: Callable[..., Any], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"text")
    done = cli("info", bad, tmp_path / "missing.png", PICTURES / "still.gif")
    assert done.code == 1
    assert len(done.lines) == 2
    assert "gif" in done.text


def test_stdin(cli: Callable[..., Any]) -> None:
    done = cli("info", "--json", "-", stdin=(PICTURES / "still.gif").read_bytes())
    assert json.loads(done.text)["format"] == "gif"
