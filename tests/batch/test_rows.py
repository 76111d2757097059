"""Large pictures by rows: the pixels and metadata of the whole picture, in little memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from tests.conftest import Finished, draw
from upscale import icc, load, memory, storage
from upscale.image import Image, Metadata, decode, encode, provenance
from upscale.image.writer import Writer
from upscale.upscaler import job

WHOLE = memory.whole
Cli = Callable[..., Finished]

LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "strips": {"rowsperstrip": 7, "compression": "zlib"},
    "tiles": {"tile": (32, 48), "compression": "zlib", "predictor": True},
    "big-endian": {"byteorder": ">"},
    "one strip": {"rowsperstrip": 131, "compression": "zlib"},
}


@pytest.fixture
def by_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pictures are large."""
    monkeypatch.setattr(storage, "READ_BYTES", 0)
    monkeypatch.setattr(memory, "AT_ONCE", 100)
    monkeypatch.setattr(memory, "whole", None)  # what holds a whole picture


def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are small again."""
    monkeypatch.setattr(memory, "AT_ONCE", 1 << 40)
    monkeypatch.setattr(memory, "whole", WHOLE)


def save(path: Path, pixels: np.ndarray, byteorder: str = "<", **layout: Any) -> None:
    kind = "minisblack" if pixels.ndim == 2 else "rgb"
    extra = {"extrasamples": ["unassalpha"]} if pixels.shape[-1] == 4 else {}
    if pixels.dtype == np.float32:
        layout = layout | {"predictor": None}
    with tifffile.TiffWriter(path, byteorder=byteorder) as writer:  # type: ignore[arg-type]
        writer.write(pixels, photometric=kind, metadata=None, **layout, **extra)


def pictures() -> dict[str, np.ndarray]:
    rgb = draw(131, 90)
    alpha = np.where(np.hypot(*(np.mgrid[:131, :90] - 40)) < 30, 255, 0).astype(np.uint8)
    return {
        "rgb": rgb,
        "gray": np.ascontiguousarray(rgb[:, :, 0]),
        "opaque": np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)]),
        "holes": np.dstack([rgb, alpha]),
        "sixteen": rgb.astype(np.uint16) * 257 + 3,
        "float": rgb.astype(np.float32) / 200,
    }


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["rgb", "gray", "opaque", "holes", "sixteen", "float"])
def test_rows_give_the_bytes_of_the_whole_picture(
    cli: Cli, tiny: str, tmp_path: Path, by_rows: None, monkeypatch: Any, kind: str, layout: str
) -> None:
    source = tmp_path / "in.tif"
    save(source, pictures()[kind], **LAYOUTS[layout])
    kinds = ["tif"] + ["png", "webp"] * (kind != "float")
    base = (source, "-m", tiny, "--tile", "32")
    for ext in kinds:
        result = cli(*base, "-o", tmp_path / f"rows.{ext}")
        assert result.code == 0, result.err
    small(monkeypatch)
    for ext in kinds:
        assert cli(*base, "-o", tmp_path / f"whole.{ext}").code == 0
        rows, whole = ((tmp_path / f"{name}.{ext}").read_bytes() for name in ("rows", "whole"))
        assert rows == whole, ext


@pytest.mark.parametrize("options", [["-s", "1.7"], ["--width", "100"], ["--color-fix"], ["--tta"]])
def test_every_option_works_by_rows(
    cli: Cli, tiny: str, tmp_path: Path, by_rows: None, monkeypatch: Any, options: list[str]
) -> None:
    source = tmp_path / "in.tif"
    save(source, pictures()["rgb"])
    base = (source, "-m", tiny, "--tile", "32", *options)
    assert cli(*base, "-o", tmp_path / "rows.tif").code == 0
    small(monkeypatch)
    assert cli(*base, "-o", tmp_path / "whole.tif").code == 0
    assert (tmp_path / "rows.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()


@pytest.mark.parametrize("strip", [[], ["--strip-metadata"]])
def test_metadata_are_those_of_the_whole_picture(
    cli: Cli, tiny: str, tmp_path: Path, by_rows: None, monkeypatch: Any, strip: list[str]
) -> None:
    exif = PillowImage.Exif()
    exif[0x010E], exif[0x9003] = "a bridge", "2020:02:02 10:00:00"
    held = Metadata(
        icc=icc.build("P3", icc.PRIMARIES["p3"]),
        exif=exif.tobytes()[6:],
        xmp=b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/'
        b'22-rdf-syntax-ns#"/></x:xmpmeta>',
        dpi=(300.0, 300.0),
    )
    source = tmp_path / "in.tif"
    source.write_bytes(encode(Image(pictures()["rgb"], held), "tiff"))
    for name in ("rows", "whole"):
        if name == "whole":
            small(monkeypatch)
        for ext in ("tif", "png"):
            output = tmp_path / f"{name}.{ext}"
            assert cli(source, "-m", tiny, "-o", output, *strip).code == 0
    for ext in ("tif", "png"):
        rows, whole = (
            decode((tmp_path / f"{name}.{ext}").read_bytes()) for name in ("rows", "whole")
        )
        assert rows.metadata == whole.metadata
        assert rows.metadata.icc == held.icc
        assert bool(provenance(rows.metadata)) == (not strip)
        assert np.array_equal(rows.pixels, whole.pixels)


def test_any_format_and_any_turn_goes_by_rows(
    cli: Cli, tiny: str, tmp_path: Path, by_rows: None
) -> None:
    save(tmp_path / "in.tif", pictures()["rgb"])
    assert cli(tmp_path / "in.tif", "-m", tiny, "-f", "jpg").code == 0
    assert cli(tmp_path / "in.tif", "-m", tiny, "-f", "png", "--palette").code == 0
    turned = PillowImage.Exif()
    turned[0x0112] = 6
    PillowImage.fromarray(pictures()["rgb"]).save(tmp_path / "turned.tif", exif=turned)
    assert cli(tmp_path / "turned.tif", "-m", tiny, "-o", tmp_path / "upright.tif").code == 0
    assert decode((tmp_path / "upright.tif").read_bytes()).pixels.shape == (180, 262, 3)


def test_the_limit_of_pixels_holds_where_it_is_given(
    cli: Cli, tiny: str, tmp_path: Path, by_rows: None
) -> None:
    save(tmp_path / "in.tif", pictures()["rgb"])
    result = cli(tmp_path / "in.tif", "-m", tiny, "--max-pixels", "5000")
    assert result.code == 1
    assert "--max-pixels" in result.err
    assert list(tmp_path.iterdir()) == [tmp_path / "in.tif"]


def test_no_memory_is_one_failure_with_a_remedy(
    cli: Cli, tiny: str, tmp_path: Path, by_rows: None, monkeypatch: Any
) -> None:
    def greedy(*_: Any, **__: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")

    save(tmp_path / "in.tif", pictures()["rgb"])
    monkeypatch.setattr(job, "create", greedy)
    result = cli(tmp_path / "in.tif", "-m", tiny, "-o", f"{tmp_path}/out/")
    assert result.code == 1
    assert "out of memory; give a smaller --tile" in result.err


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_truncated_file_leaves_nothing(
    cli: Cli, tiny: str, tmp_path: Path, by_rows: None, compression: str | None
) -> None:
    source = tmp_path / "in.tif"
    save(source, pictures()["rgb"], compression=compression, rowsperstrip=16)
    source.write_bytes(source.read_bytes()[:-9000])
    result = cli(source, "-m", tiny, "-o", f"{tmp_path}/out/")
    assert result.code == 1, result
    assert "Traceback" not in result.err
    assert not [p for p in (tmp_path / "out").rglob("*") if p.suffix in {".tif", ".tmp"}]


@pytest.mark.parametrize("output", ["out/", "in_big.tif"])
def test_a_file_that_changes_meanwhile_is_a_failure(
    cli: Cli, tiny: str, tmp_path: Path, by_rows: None, monkeypatch: Any, output: str
) -> None:
    source = tmp_path / "in.tif"
    save(source, pictures()["rgb"])
    write = Writer.write

    def touched(self: Any, rows: Any) -> None:
        write(self, rows)
        os.utime(source, (1, 1))

    monkeypatch.setattr(Writer, "write", touched)
    result = cli(source, "-m", tiny, "-o", f"{tmp_path}/{output}")
    assert result.code == 1
    assert "changed while it was read" in result.err
    assert [path.name for path in tmp_path.rglob("in*")] == ["in.tif"]


def test_the_first_pass_can_be_stopped(tiny: str, tmp_path: Path, by_rows: None) -> None:
    class EnoughError(Exception):
        pass

    def progress(done: int, total: int) -> None:
        assert (done, total) == (0, 1), "not yet in the network"
        raise EnoughError

    source = tmp_path / "in.tif"
    save(source, pictures()["rgb"])
    with pytest.raises(EnoughError):
        load(tiny).file(source, tmp_path / "out.tif", progress=progress)
    assert list(tmp_path.iterdir()) == [source]


def test_a_file_that_goes_away_meanwhile_is_named(
    cli: Cli, tiny: str, tmp_path: Path, by_rows: None, monkeypatch: Any
) -> None:
    source = tmp_path / "in.tif"
    save(source, pictures()["rgb"])
    write = Writer.write

    def deleted(self: Any, rows: Any) -> None:
        source.unlink()
        write(self, rows)

    monkeypatch.setattr(Writer, "write", deleted)
    result = cli(source, "-m", tiny, "-o", f"{tmp_path}/out/")
    assert result.code == 1
    assert "in.tif: no such file" in result.err
    assert not list((tmp_path / "out").glob("in*"))


def test_a_folder_with_a_large_picture_resumes(
    cli: Cli, tiny: str, tmp_path: Path, by_rows: None
) -> None:
    (tmp_path / "in").mkdir()
    save(tmp_path / "in" / "a.tif", pictures()["rgb"])
    for status in ("ok", "skipped"):
        result = cli(tmp_path / "in", "-m", tiny, "-o", tmp_path / "out", "--json")
        assert f'"status": "{status}"' in result.text, result


def test_the_same_bytes_each_time(cli: Cli, tiny: str, tmp_path: Path, by_rows: None) -> None:
    save(tmp_path / "in.tif", pictures()["rgb"])
    for ext in ("tif", "png"):
        outputs = [tmp_path / f"{n}.{ext}" for n in (1, 2)]
        for output in outputs:
            assert cli(tmp_path / "in.tif", "-m", tiny, "-o", output).code == 0
        assert outputs[0].read_bytes() == outputs[1].read_bytes()


LARGE_RUN = """
import sys
from upscale import memory, storage
storage.READ_BYTES, memory.AT_ONCE = 0, 100
from upscale.cli import status
sys.exit(status(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        signal.SIGTERM,
        pytest.param(signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_a_large_picture_that_is_stopped_leaves_no_half_file(
    tiny: str, tmp_path: Path, number: signal.Signals
) -> None:
    source, out = tmp_path / "in.tif", tmp_path / "out"
    save(source, np.tile(draw(131, 90), (8, 4, 1)))
    arguments = [str(source), "-m", tiny, "-o", f"{out}/", "--tile", "32", "-q"]
    process = subprocess.Popen([sys.executable, "-c", LARGE_RUN, *arguments])
    while not list(out.glob(".upscale-*.tmp")):
        assert process.poll() is None, "ended too early"
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait(60) in {130, 143, -signal.SIGKILL}
    assert not list(out.glob("in*"))
    done = subprocess.run(
        [sys.executable, "-c", LARGE_RUN, *arguments, "--json"], capture_output=True, check=True
    )
    assert json.loads(done.stdout)["status"] == "ok"
    assert {path.name for path in out.iterdir()} == {".upscale", "in.tif"}
