"""What a run says to the person who started it, through the real command."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Finished, draw, png
from upscale.cli.commands import COMMANDS

Cli = Callable[..., Finished]
Command = Callable[..., subprocess.Popen[bytes]]
needs_terminal = pytest.mark.skipif(
    sys.platform == "win32", reason="this system has no terminals of POSIX"
)


def finish(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    """Exit status, stdout and stderr."""
    out, err = process.communicate(timeout=120)
    return process.returncode, out.decode(), err.decode()


def test_a_missing_gpu_is_a_detail(command: Command, picture: Path) -> None:
    hidden = {"CUDA_VISIBLE_DEVICES": ""}
    said = "no GPU that PyTorch can use; running on the CPU"
    loud_options = ("-v", "-o", picture.with_name("o.png"))
    runs = [  # side by side
        command(picture, "-m", "tiny", *more, env=hidden)
        for more in (["--json"], loud_options, ["--device", "cuda"])
    ]
    (code, out, err), loud, asked = map(finish, runs)
    assert code == 0, err
    assert "GPU" not in err
    assert json.loads(out)["device"] == "cpu"
    assert loud[2].count(said) == 1
    assert asked[0] == 2
    assert "finds no CUDA GPU" in asked[2]


def test_outputs_of_other_settings_are_replaced_and_counted(
    cli: Cli, tiny: str, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{name}.png").write_bytes(png(6, 6))
    job = (tmp_path / "in", "-o", tmp_path / "out", "-m", tiny)
    said = "upscale: warning: replaces 2 outputs made with other settings"
    assert said not in cli(*job, "-s", "2").lines
    rehearsed = cli(*job, "-s", "3", "--dry-run")
    assert said in rehearsed.lines
    assert rehearsed.text.count("replaces (made with other settings)") == 2
    assert said in cli(*job, "-s", "3").lines
    again = cli(*job, "-s", "3")
    assert again.code == 0
    assert said not in again.lines
    (tmp_path / "in" / "a.png").write_bytes(png(7, 7))
    assert "warning" not in cli(*job, "-s", "3").err


def test_a_second_run_over_all_names_leaves_its_own_outputs_out(
    cli: Cli, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        Path(name).write_bytes(png(6, 6))
    names = sorted(os.listdir())
    assert cli(*names, "-m", tiny, "-s", "2").code == 0
    every = sorted(name for name in os.listdir() if name.endswith(".png"))
    assert len(every) == 4
    again = cli(*every, "-m", tiny, "-s", "3")
    assert again.code == 0, again.err
    left = "upscale: warning: leaves out 2 pictures that an earlier run made of the others"
    assert left in again.lines
    assert sorted(Path().glob("*_x3.png")) == [Path("a_tiny_x3.png"), Path("b_tiny_x3.png")]
    # Named without their inputs, they are pictures like any other.
    alone = cli("a_tiny_x2.png", "b_tiny_x2.png", "-m", tiny, "-s", "3")
    assert alone.code == 0, alone.err
    assert Path("a_tiny_x2_tiny_x3.png").exists()


def many(folder: Path, count: int) -> Path:
    """A folder of small pictures, the first of which is broken."""
    folder.mkdir()
    for index in range(count):
        (folder / f"{index:02}.png").write_bytes(b"bad" if index == 0 else png(6, 6))
    return folder


def test_a_run_that_ends_early_says_what_it_did_not_try(
    cli: Cli, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = many(tmp_path / "in", 30)
    job = (source, "-m", tiny, "-j", "1", "--json")
    result = cli(*job, "-o", tmp_path / "a", "--fail-fast")
    assert result.code == 1
    tried = len(result.text.splitlines())
    assert tried < 30
    assert f"{30 - tried} not tried" in result.lines[-1]

    def full(*arguments: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("upscale.batch.work.save", full)
    result = cli(*job, "-o", tmp_path / "b")
    tried = len(result.text.splitlines())
    assert 1 < tried < 30
    assert f"{30 - tried} not tried" in result.lines[-1]
    assert "no space left on the device" in result.err


def test_messages_are_for_people(cli: Cli, tiny: str, tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(png(30, 30)[:200])
    (tmp_path / "text.png").write_bytes(b"text")
    cut = cli(tmp_path / "cut.png", "-m", tiny)
    assert "in chunk IDAT;" in cut.err
    text = cli(tmp_path / "text.png", "-m", tiny)
    for name in ("PNG", "JPEG", "WebP", "TIFF", "AVIF", "BMP", "GIF", "Netpbm", "Radiance", "XL"):
        assert name in text.err
    looked = cli("doctor")
    assert "read and write: .jpg .jpeg .jpe .jfif\n" in looked.text


def test_verbose_names_the_networks(cli: Cli, quad: str, picture: Path) -> None:
    out = picture.with_name("o.png")
    job = (picture, "-o", out, "--overwrite", "-v", "-s", "1.5")
    said = cli(*job, "-m", quad, "--alpha", "0.25", "--denoise", "0").err
    assert "quad-psnr-x2 + quad-gan-x2 x2, alpha 0.25, denoise 0, then bicubic to 14x18" in said
    assert "picture.png: bicubic to 14x18\n" in cli(*job, "-m", "bicubic").err
    assert "bicubic" not in cli(picture, "-o", out, "--overwrite", "-v", "-m", "tiny").err


def test_a_narrow_tiff_is_written_without_a_word(command: Command, picture: Path) -> None:
    code, _, err = finish(command(picture, "-m", "tiny", "-f", "tif", "-q", "--width", "4"))
    assert (code, err) == (0, "")


def test_a_refused_run_leaves_the_last_report(cli: Cli, tiny: str, picture: Path) -> None:
    report = picture.with_name("report.ndjson")
    old = '{"input": "old.png", "status": "ok"}\n'
    report.write_text(old)
    assert cli(picture, "-m", "no-such-model", "--report", report).code == 2
    assert report.read_text() == old
    assert cli(picture, "-m", "no-such-model", "--report", picture.with_name("new")).code == 2
    assert not picture.with_name("new").exists()
    assert cli(picture, "-m", tiny, "--report", report).code == 0
    assert [json.loads(line)["input"] for line in report.open()] == [str(picture)]


def test_losses_stand_in_the_records(cli: Cli, tiny: str, tmp_path: Path) -> None:
    from upscale.image import Image, encode

    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        deep = Image(draw(6, 6).astype(np.uint16) * 257)
        (tmp_path / "in" / f"{name}.png").write_bytes(encode(deep, "png"))
    job = (tmp_path / "in", "-m", tiny, "--json", "--lossless")
    result = cli(*job, "-f", "jpg", "-o", tmp_path / "jpg")
    assert result.code == 0, result.err
    for line in result.text.splitlines():
        losses = json.loads(line)["losses"]
        assert any("16 bits" in loss for loss in losses), losses
        assert any(loss.startswith("--lossless: jpeg") for loss in losses)
    assert "2 with losses" in result.err
    held = cli(*job, "-f", "png", "-o", tmp_path / "png")
    assert [json.loads(line)["losses"] for line in held.text.splitlines()] == [[], []]
    assert "with losses" not in held.err


def test_a_broken_link_that_does_not_match_is_not_reported(
    cli: Cli, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a1.png").write_bytes(png(6, 6))
    Path("b1.png").symlink_to("nowhere")
    result = cli("a*.png", "-m", tiny, "-o", "out/", "--json")
    assert result.code == 0, result.err
    assert len(result.text.splitlines()) == 1
    Path("a2.png").symlink_to("nowhere")
    assert "a2.png: no such file" in cli("a*.png", "-m", tiny, "-o", "out/").err


def test_http_names_the_extra_that_speaks_it(command: Command, tmp_path: Path) -> None:
    (tmp_path / "aiohttp.py").write_text("raise ImportError('no aiohttp')\n")
    code, _, err = finish(
        command("http://127.0.0.1:9/a.png", "-m", "tiny", env={"PYTHONPATH": str(tmp_path)})
    )
    assert code == 1
    assert "pip install 'upscale[http]'" in err


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_fits_80_columns(cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    text = cli(*([name] if name else []), "--help").text
    assert max(map(len, text.splitlines())) <= 80


def on_a_terminal(command: Command, *arguments: str | Path) -> tuple[int, str]:
    """Exit status, and all that a terminal as wide as 100 columns was sent."""
    import pty
    import termios

    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    more = {"TERM": "xterm"}
    process = command(*arguments, stderr=theirs, env=more)
    os.close(theirs)
    seen = b""
    try:
        while part := os.read(ours, 4096):
            seen += part
    except OSError:  # how a terminal ends on Linux
        pass
    os.close(ours)
    return process.wait(60), seen.decode()


def test_help_shows_defaults_and_opens_with_examples(cli: Cli) -> None:
    assert "runs/RECIPE" in cli("train", "--help").text
    top = cli("--help").text
    assert sum(line.strip().startswith("upscale ") for line in top.splitlines()[:12]) == 4


@pytest.mark.parametrize("columns", ["", "80"])
def test_columns_of_doctor_do_not_touch(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    else:
        monkeypatch.delenv("COLUMNS", raising=False)
    names = [line for line in cli("doctor").text.splitlines() if "SHA-256" in line]
    assert names
    assert all(re.search(r"\S  +SHA-256", line) for line in names)


@needs_terminal
def test_a_terminal_says_what_is_loading(command: Command, picture: Path) -> None:
    code, seen = on_a_terminal(command, picture, "-m", "tiny")
    assert code == 0
    assert "loading tiny" in seen
    assert "loading" not in finish(command(picture, "-m", "tiny", "--overwrite"))[2]


@needs_terminal
def test_the_bar_moves_within_one_tile_and_never_back(command: Command, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(360, 360))  # a second or more on any CPU
    code, seen = on_a_terminal(command, tmp_path / "a.png", "-m", "esrgan", "-t", "off", "--json")
    assert code == 0
    shown = [int(share) for share in re.findall(r"(\d+) %", seen)]
    assert shown == sorted(shown)
    assert len({share for share in shown if 0 < share < 100}) >= 5, shown
