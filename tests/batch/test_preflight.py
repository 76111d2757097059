"""``--dry-run``: what the headers tell is told, in the words of the run itself."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from tests.conftest import Finished
from tests.profiles import cmyk_profile, rgb_tables_profile
from upscale.image import Image, encode

Cli = Callable[..., Finished]
PICTURES = Path(__file__).parents[1] / "data" / "pictures"


def inks(profile: bytes | None) -> bytes:
    """A TIFF of CMYK."""
    buffer = io.BytesIO()
    PillowImage.new("CMYK", (6, 5), (9, 20, 30, 40)).save(buffer, "TIFF", icc_profile=profile)
    return buffer.getvalue()


def alike(value: int, dtype: type, channels: int, format_: str) -> bytes:
    return encode(Image(np.full((4, 4, channels), value, dtype)), format_)


ODD = {
    "cut.png": (PICTURES / "palette.png").read_bytes()[:200],
    "bare.tif": inks(None),
    "wrong.tif": inks(rgb_tables_profile()),
    "text.png": b"no picture",
    "empty.jpg": b"",
    "opaque.png": alike(255, np.uint8, 4, "png"),
    "deep.tif": alike(1, np.float32, 4, "tiff"),
}


@pytest.fixture(autouse=True)
def _models(tiny: str) -> None:
    """The tiny models can be loaded."""


def records(done: Finished) -> dict[str, dict[str, Any]]:
    """The records by the names of the inputs."""
    assert "Traceback" not in done.err
    lines = [json.loads(line) for line in done.text.splitlines()]
    return {Path(line["input"]).name: line for line in lines}


@pytest.mark.parametrize("format_", ["png", "jpg", "ppm"])
def test_what_the_run_refuses_is_known_before(cli: Cli, tmp_path: Path, format_: str) -> None:
    """On all pictures of the tests and some that are none."""
    shutil.copytree(PICTURES, tmp_path / "in")
    for name, data in ODD.items():
        (tmp_path / "in" / name).write_bytes(data)
    template = str(tmp_path / "out" / "{stem}_{input_ext}.{ext}")
    job = (tmp_path / "in", "-m", "tiny", "-f", format_, "-o", template, "--json")
    dry = records(cli(*job, "--dry-run"))
    assert not (tmp_path / "out").exists()
    run = records(cli(*job))
    assert dry.keys() == run.keys()
    assert len(run) > 25
    for name, line in run.items():
        if dry[name]["action"] == "fail":
            assert line["error"] == dry[name]["error"]
        else:
            assert line["status"] == "ok" or dry[name]["doubt"], f"{name}: {line['error']}"
    refused = {name for name, line in dry.items() if line["action"] == "fail"}
    assert refused >= {"pages.tif"}
    assert ("animated.gif" in refused) == (format_ not in ("png", "webp", "gif", "avif", "tif"))
    assert refused >= {"bare.tif", "wrong.tif", "cut.png", "text.png", "empty.jpg"}
    assert ("deep.tif" in refused) == (format_ == "ppm"), "PFM holds no alpha"
    doubtful = {name for name, line in dry.items() if line["doubt"]}
    assert ("opaque.png" in doubtful) == (format_ == "jpg"), "pixels are not looked at"
    assert doubtful.isdisjoint({"still.gif", "progressive.jpg", "lzw16.tif"})


def test_doubts_are_said_once_with_their_number(cli: Cli, tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(ODD["opaque.png"])
    job = (tmp_path, "-m", "tiny", "-f", "jpg", "-o", tmp_path / "out", "--dry-run")
    done = cli(*job)
    assert done.code == 0, done.err
    assert done.err.count("alpha channel") == 1
    assert "a.png (and 2 more): has an alpha channel, which jpeg does not hold" in done.err
    assert "alpha" not in cli(*job, "--background", "white").err


def test_the_profile_that_is_given_is_assumed(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "bare.tif").write_bytes(inks(None))
    (tmp_path / "inks.icc").write_bytes(cmyk_profile())
    job = (tmp_path / "bare.tif", "-m", "tiny", "--json", "--dry-run")
    without = records(cli(*job))["bare.tif"]
    assert without["action"] == "fail"
    assert "--assume-icc" in without["error"]
    given = records(cli(*job, "--assume-icc", tmp_path / "inks.icc"))["bare.tif"]
    assert given["action"] == "do"


def test_files_are_not_read_to_their_end(cli: Cli, tmp_path: Path) -> None:
    """60 GB of nothing behind a picture; and a TIFF that may not be so large."""
    for name in ("camera.jpg", "fax.tif"):
        shutil.copy(PICTURES / name, tmp_path)
        with (tmp_path / name).open("r+b") as file:
            file.truncate(60 << 30)
    found = records(cli(tmp_path, "-m", "tiny", "--json", "--dry-run", "-o", tmp_path / "out"))
    assert found["camera.jpg"]["action"] == "do"
    assert found["camera.jpg"]["width"] > 0
    assert found["fax.tif"]["error"] == (
        "the TIFF is larger than its kind may be (4 GB); save it as BigTIFF"
    )
