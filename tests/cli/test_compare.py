"""``upscale compare``: what it writes, what it prints, what it refuses before any work."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.known import known_models_fixture, photo_fixture, write_fixture  # noqa: F401
from upscale.image import decode

Writer = Callable[..., Path]
Cli = Callable[..., Any]

PAIR = ("-m", "known-pair", "--device", "cpu")


@pytest.fixture
def source(
    write: Writer, photo: np.ndarray, known_models: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    path = write("a[red].png", photo)
    monkeypatch.chdir(path.parent)
    return path


def test_a_sweep_on_a_sheet(cli: Cli, source: Path) -> None:
    done = cli("compare", source, *PAIR, "--alpha", "0:1:0.5", "--crop", "4,8,16,12", "--json")
    assert done.code == 0, done.err
    assert done.lines[-1] == "comparison.png written"
    records = [json.loads(line) for line in done.text.splitlines()]
    assert [r["label"] for r in records] == ["bicubic", "alpha 0", "alpha 0.5", "alpha 1"]
    assert [r["mean_colour"][0] for r in records[1:]] == [64, 128, 191]
    assert {r["crop"] for r in records} == {"4,8,16,12"}
    sheet = decode(Path("comparison.png").read_bytes()).pixels
    for gray in (64, 128, 191):  # 64x48 pixels, three times as large
        assert (sheet == gray).all(2).sum() >= 192 * 144


def test_a_page(cli: Cli, source: Path) -> None:
    done = cli("compare", source, *PAIR, "--from-hr", "-o", "page.html", "--title", "<b>mine</b>")
    assert done.code == 0, done.err
    page = Path("page.html").read_text("utf-8")
    assert "&lt;b&gt;mine&lt;/b&gt;" in page
    assert "<b>mine" not in page
    assert page.count("data:image/png") == 3  # bicubic, the model, ground truth


def test_the_table(cli: Cli, source: Path) -> None:
    done = cli("compare", source, *PAIR, "--from-hr", "--mix", "0.5", "-q")
    assert (done.code, done.err) == (0, "")
    for words in ("a[red].png", "images mixed, alpha 0.5", "networks mixed, alpha 0.5", "equal"):
        assert words in done.text


def test_another_programs_results_beside(
    cli: Cli, source: Path, write: Writer, photo: np.ndarray
) -> None:
    large = photo.repeat(4, 0).repeat(4, 1)
    write("theirs/a[red]_out.png", large)
    options = ("compare", source, *PAIR, "--against", "theirs", "--crop", "4,8,16,12")
    done = cli(*options, "--zoom", "1", "--json")
    assert done.code == 0, done.err
    records = [json.loads(line) for line in done.text.splitlines()]
    assert [r["label"] for r in records] == ["bicubic", "alpha 0.8", "theirs"]
    sheet = decode(Path("comparison.png").read_bytes()).pixels
    part = large[32:80, 16:80]
    corners = np.argwhere((sheet[:-47, :-63] == part[0, 0]).all(2)).tolist()
    assert any(np.array_equal(sheet[y : y + 48, x : x + 64], part) for y, x in corners)
    for more, words in (("--from-hr",), "leave --from-hr out"), (("-s", "2"), "--scale"):
        done = cli(*options, *more, "--overwrite")
        assert (done.code, len(done.lines)) == (2 if "hr" in words else 1, 1)
        assert words in done.err


def test_ground_truth_beside(cli: Cli, source: Path, write: Writer) -> None:
    hr = np.zeros((240, 248, 3), np.uint8) + np.uint8(64)
    write("hr/a[red].png", hr)
    done = cli("compare", source, *PAIR, "--alpha", "0,1", "--hr", "hr", "--json")
    assert done.code == 0, done.err
    records = [json.loads(line) for line in done.text.splitlines()]
    assert [r["label"] for r in records] == ["bicubic", "alpha 0", "alpha 1", "ground truth"]
    assert records[1]["psnr_y"] is None  # equal
    assert records[2]["psnr_y"] == pytest.approx(20 * np.log10(255 / (127 * 219 / 255)), abs=1e-3)


def test_models_of_several_scales_are_brought_to_one(cli: Cli, source: Path) -> None:
    done = cli("compare", source, "-m", "known-srcnn", "-m", "known-pair", "--json")
    assert done.code == 0, done.err
    records = [json.loads(line) for line in done.text.splitlines()]
    assert {r["scale"] for r in records} == {2}
    assert [r["model"] for r in records] == ["bicubic", "known-srcnn", "known-pair"]


def test_what_exists_is_kept(cli: Cli, source: Path) -> None:
    target = Path("out.png")
    target.write_bytes(b"precious")
    done = cli("compare", source, *PAIR, "-o", target)
    assert (done.code, done.out) == (1, b"")
    assert "exists" in done.err
    assert target.read_bytes() == b"precious"
    assert cli("compare", source, *PAIR, "-o", target, "--overwrite").code == 0
    assert target.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("missing.png",), 1, "missing.png"),
        (("a[red].png", "--crop", "60,0,4,4"), 1, "62x60"),
        (("a[red].png", "--crop", "1,2,3"), 2, "'1,2,3'"),
        (("a[red].png", "--alpha", "0:1"), 2, "'0:1'"),
        (("a[red].png", "--mix", "1"), 2, "--mix 1"),
        (("a[red].png", "--mix", "0.5", "--alpha", "0"), 2, "--mix"),
        (("a[red].png", "--hr", "nowhere"), 2, "nowhere"),
        (("a[red].png", "--hr", "a[red].png", "--from-hr"), 2, "--from-hr"),
        (("a[red].png", "--hr", "a[red].png"), 1, "248x240"),
        (("a[red].png", "-o", "out.xyz"), 1, "xyz"),
        (("a[red].png", "-o", "no/out.png"), 1, "no"),
        (("a[red].png", "-m", "nothing"), 2, "nothing"),
        (("a[red].png", "-s", "0"), 2, "scale 0 is outside [1, 64]"),
        (("a[red].png", "--zoom", "17"), 2, "zoom 17 is outside [1, 16]"),
        ((), 2, "INPUT"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    cli: Cli, source: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    done = cli("compare", *PAIR, *arguments)
    assert (done.code, done.out) == (code, b"")
    (line,) = [line for line in done.lines if "error" in line]
    assert words in line
    assert [p.name for p in Path().iterdir()] == [source.name]


def test_bicubic_alone_compares_nothing(cli: Cli, source: Path) -> None:
    done = cli("compare", source, "-m", "bicubic", "-s", "2")
    assert done.code == 2
    assert "--model" in done.err


def test_mixing_needs_a_pair(cli: Cli, source: Path) -> None:
    done = cli("compare", source, "-m", "known-srcnn", "--mix", "0.5")
    assert done.code == 2
    assert "known-srcnn" in done.err
