"""Outputs of our own are known again by what stands in them; and dates are kept where asked."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Finished, only_pictures, png
from upscale.image import probe

Cli = Callable[..., Finished]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("ext", ["png", "jpg", "webp", "tif", "avif"])
def test_a_single_picture_is_done_once(cli: Cli, tiny: str, here: Path, ext: str) -> None:
    (here / "a.png").write_bytes(png())
    command = ("a.png", "-m", tiny, "-f", ext, "--json")
    assert json.loads(cli(*command).text)["status"] == "ok"
    output = here / f"a_tiny_x2.{ext}"
    before = output.read_bytes(), output.stat().st_mtime_ns
    again = cli(*command)
    assert (again.code, json.loads(again.text)["status"]) == (0, "skipped"), again.err
    assert "nothing to do: the output is there" in again.err
    shutil.copy(output, here / "copy")  # a copy has another time
    os.replace(here / "copy", output)
    assert cli(*command).code == 0
    os.utime(output, ns=(before[1], before[1]))
    assert (output.read_bytes(), output.stat().st_mtime_ns) == before
    assert sorted(p.name for p in here.iterdir()) == ["a.png", output.name]


def test_what_is_not_done_is_refused(cli: Cli, duo: str, here: Path) -> None:
    """Other settings, another input, an output without provenance or of someone else."""
    (here / "a.png").write_bytes(png())
    command = ("a.png", "-m", duo, "-o", "b.png")
    assert cli(*command).code == 0
    made = (here / "b.png").read_bytes()
    for more in (["--alpha", "0.3"], ["-s", "3"], ["--quality", "3"]):
        refused = cli(*command, *more)
        assert (refused.code, "b.png exists" in refused.err) == (2, True)
    (here / "a.png").write_bytes(png(seed=1))
    assert cli(*command).code == 2
    (here / "a.png").write_bytes(png())
    assert cli(*command).code == 0
    assert (here / "b.png").read_bytes() == made
    assert cli(*command, "--overwrite", "--strip-metadata").code == 0
    assert cli(*command, "--strip-metadata").code == 2, "nothing tells whose it is"
    (here / "b.png").write_bytes(png(seed=2))
    assert cli(*command).code == 2
    assert (here / "b.png").read_bytes() == png(seed=2)


def test_a_pipe_and_a_map_are_done_once(cli: Cli, tiny_vae: Path, here: Path) -> None:
    command = ("-", "-m", tiny_vae, "-o", "b.png", "--uncertainty", "map.png", "--json")
    statuses = [json.loads(cli(*command, stdin=png()).text)["status"] for _ in range(2)]
    assert statuses == ["ok", "skipped"]
    (here / "map.png").unlink()
    assert cli(*command, stdin=png()).code == 2, "the map is not there"


def test_an_output_is_no_input(cli: Cli, tiny: str, here: Path) -> None:
    """Single runs, then the whole folder: beside, elsewhere, and by the shell's names."""
    for name in ("a.png", "c.png"):
        (here / name).write_bytes(png(seed=ord(name[0])))
    assert cli("a.png", "-m", tiny).code == 0
    assert cli("a_tiny_x2.png", "-m", tiny).code == 0, "named alone, it is enlarged"
    for names in (["."], ["a.png", "a_tiny_x2.png", "a_tiny_x2_tiny_x2.png", "c.png"]):
        found = cli(*names, "-m", tiny, "-o", f"out{len(names)}/", "--json")
        assert found.code == 0, found.err
        assert only_pictures(here / f"out{len(names)}") == ["a.png", "c.png"]
        assert "leaves out 2 pictures that an earlier run made of the others" in found.err
    beside = cli(".", "-m", tiny, "--json")
    assert beside.code == 0, beside.err
    records = {Path(r["input"]).name: r for r in map(json.loads, beside.text.splitlines())}
    assert {name: r["status"] for name, r in records.items()} == {"a.png": "skipped", "c.png": "ok"}
    moved = here / "moved"
    moved.mkdir()
    (here / "a_tiny_x2.png").rename(moved / "a.png")
    assert cli(moved, "-m", tiny, "-o", "large/").code == 0, "its input is not here"
    assert probe((here / "large" / "a.png").read_bytes()).width == 40


def test_dates_are_kept(cli: Cli, tiny: str, here: Path) -> None:
    (here / "in").mkdir()
    for k, name in enumerate(("a.png", "b.png")):
        path = here / "in" / name
        path.write_bytes(png(seed=k))
        os.utime(path, ns=(1, 1_600_000_000_123_456_700 + k))
    command = ("in", "-m", tiny, "-o", "out", "--json", "--keep-dates")
    for status in ("ok", "skipped"):
        done = cli(*command)
        assert {json.loads(line)["status"] for line in done.text.splitlines()} == {status}
        for name in ("a.png", "b.png"):
            times = [(here / folder / name).stat().st_mtime_ns for folder in ("in", "out")]
            assert times[0] == times[1]
    assert cli("in/a.png", "-m", tiny, "-o", "now.png").code == 0
    assert (here / "now.png").stat().st_mtime > 1_700_000_000
    assert cli("-", "-m", tiny, "-o", "pipe.png", "--keep-dates", stdin=png()).code == 0


def test_files_that_no_format_reads_are_named(cli: Cli, tiny: str, here: Path) -> None:
    (here / "in" / "sub").mkdir(parents=True)
    for name in ("b.psd", "sub/c.CR2", "sub/notes.txt", ".d.psd", "e.xcf"):
        (here / "in" / name).write_bytes(b"8BPS")
    command = ("in", "-r", "-m", tiny, "-o", "out", "--exclude", "e.*")
    none = cli(*command)
    assert none.code == 2
    assert "no picture found that can be read: 2 files are of formats that are not" in none.err
    (here / "in" / "a.png").write_bytes(png())
    for more in ([], ["--dry-run"], ["--json"]):
        done = cli(*command, *more)
        assert done.code == 0, done.err
        named = "2 files are of formats that are not read, convert them first: "
        assert f"{named}{Path('in/b.psd')}, {Path('in/sub/c.CR2')}\n" in done.err
    assert only_pictures(here / "out") == ["a.png"]
    assert cli("in/b.psd", "-m", tiny).code == 1, "named itself, it is a failure"
