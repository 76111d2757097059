"""Pipes: stdout holds the picture or the records alone, and a closed pipe ends quietly."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.conftest import Finished, png
from upscale.image import probe

Cli = Callable[..., Finished]
Command = Callable[..., subprocess.Popen[bytes]]


def test_stdin_to_stdout(cli: Cli, tiny: str) -> None:
    result = cli("-", "-o", "-", "-m", tiny, stdin=png(7, 5))
    assert result.code == 0, result.err
    info = probe(result.out)
    assert (info.format, info.width, info.height) == ("png", 10, 14)


def test_stdin_needs_no_output(cli: Cli, tiny: str) -> None:
    assert probe(cli("-", "-m", tiny, stdin=png(7, 5)).out).width == 10


def test_stdin_keeps_the_format_of_the_content(cli: Cli, tiny: str) -> None:
    from tests.conftest import draw
    from upscale.image import Image, encode

    jpeg = encode(Image(draw(9, 9)), "jpeg")
    assert probe(cli("-", "-m", tiny, stdin=jpeg).out).format == "jpeg"
    assert probe(cli("-", "-m", tiny, "-f", "webp", stdin=jpeg).out).format == "webp"


def test_two_in_a_row(command: Command, tmp_path: Path) -> None:
    """``cat a.png | upscale - -o - -m A | upscale - -o out.webp -m B``."""
    first = command("-", "-o", "-", "-m", "tiny", "-s", "2", stdin=subprocess.PIPE)
    assert first.stdin is not None
    second = command("-", "-o", tmp_path / "out.webp", "-m", "duo", stdin=first.stdout)
    first.stdin.write(png(16, 12))
    first.stdin.close()
    assert second.wait(120) == 0, second.communicate()
    assert first.wait(10) == 0
    info = probe((tmp_path / "out.webp").read_bytes())
    assert (info.format, info.width, info.height) == ("webp", 48, 64)


def test_closed_pipe_is_quiet(command: Command, tmp_path: Path) -> None:
    """``upscale - -o - | head -c 10``: no traceback, no message."""
    (tmp_path / "in.png").write_bytes(png(300, 300))
    process = command(tmp_path / "in.png", "-o", "-", "-m", "tiny", "-q", "-f", "bmp")
    assert process.stdout is not None
    assert process.stderr is not None
    assert len(os.read(process.stdout.fileno(), 10)) == 10
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 141


def test_list_from_find_to_records(
    cli: Cli, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``find . -print0 | upscale --files-from - -0 -o out/ --json``, run twice."""
    for name in ("a.png", "b/a.png", "b/new\nline.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(png(6, 6, seed=len(name)))
    (tmp_path / "b" / "notes.txt").write_text("no picture")
    find = shutil.which("find")
    if find is None:
        pytest.skip("find is not installed")
    monkeypatch.chdir(tmp_path)
    for status in ("ok", "skipped"):
        found = subprocess.run(
            [find, ".", "-name", "*.png", "-print0"], capture_output=True, check=True
        )
        names = ("--files-from", "-", "-0", "-o", "out/", "--json", "-m", tiny)
        result = cli(*names, stdin=found.stdout)
        assert result.code == 0, result.err
        records = [json.loads(line) for line in result.out.splitlines()]
        assert {r["status"] for r in records} == {status}
        assert sorted(r["output"] for r in records) == [
            "out/a.png",
            "out/b/a.png",
            "out/b/new\nline.png",
        ]


def test_records_on_stdout_lines_on_stderr(cli: Cli, tiny: str, picture: Path) -> None:
    result = cli(picture, "-m", tiny, "--json", "-v")
    record = json.loads(result.out)
    assert list(record) == [
        *("input", "output", "status", "error", "model", "weights", "alpha", "denoise"),
        *(
            "scale",
            "device",
            "dtype",
            "tile",
            "retries",
            "width",
            "height",
            "out_width",
            "out_height",
        ),
        *("seconds", "network_seconds", "losses"),
    ]
    assert record["status"] == "ok"
    assert (record["width"], record["height"]) == (9, 12)
    assert (record["out_width"], record["out_height"]) == (18, 24)
    assert len(record["weights"]["tiny-x2"]) == 64
    assert "picture_tiny_x2.png" in result.err


def test_stdout_twice_is_refused(cli: Cli, tiny: str, picture: Path) -> None:
    assert cli(picture, "-m", tiny, "-o", "-", "--json").code == 2
    second = picture.with_name("second.png")
    second.write_bytes(png())
    assert cli(picture, second, "-m", tiny, "-o", "-").code == 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals of POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_leave_nothing_half_done(
    command: Command, cli: Cli, tiny: str, tmp_path: Path, number: int, code: int
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for index in range(60):
        (source / f"{index:03}.png").write_bytes(png(40, 40, seed=index))
    process = command(
        source, "-o", tmp_path / "out", "-r", "-m", "tiny", "--json", "-x", "-t", "16"
    )
    assert process.stdout is not None
    process.stdout.readline()  # the first picture is done
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert b"resumes" in err
    done = [p for p in (tmp_path / "out").glob("*") if p.is_file()]
    assert 0 < len(done) < 60
    for path in done:
        assert probe(path.read_bytes()).width == 80
        assert not path.name.startswith(".")
    again = cli(source, "-o", tmp_path / "out", "-r", "-m", tiny, "--json")
    assert again.code == 0, again.err
    assert len(again.out.splitlines()) == 60


MOMENTS = {  # in the life of the program, outside of its work
    "imports": "class Here:\n"
    "  def find_spec(self, name, *more): name == 'upscale.cli' and send()\n"
    "sys.meta_path.insert(0, Here())",
    "string": "import upscale.cli as cli; cli._call = lambda argv: exec('send()')",
    "end": "import ctypes; libc = ctypes.CDLL(None)\n"
    "libc.__cxa_atexit(libc['raise'], number, None)",
}


@pytest.mark.skipif(sys.platform != "linux", reason="the last moment is found in the C library")
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_no_moment_is_ended_by_the_signal_itself(moment: str, number: int, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "import os, signal, sys; from upscale.__main__ import main\n"
        f"number = {int(number)}\n"
        "def send(): os.kill(os.getpid(), number); signal.getsignal(number)\n"
        "__builtins__.send, sys.argv = send, ['upscale', '--version']\n"
        f"{MOMENTS[moment]}\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-m", "program"],
        env=dict(os.environ, PYTHONPATH=str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (0 if moment == "end" else 128 + number), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals of POSIX")
@pytest.mark.slow
def test_what_a_killed_run_of_one_picture_left_is_cleared(command: Command, tmp_path: Path) -> None:
    """There is nothing to resume, and so no journal: the same command does the picture."""
    (tmp_path / "a.png").write_bytes(png(120, 120))
    job = (tmp_path / "a.png", "-m", "tiny", "-o", tmp_path / "b.png")
    process = command(*job, "-s", "64")  # so large that it is written as it is made
    while not (left := list(tmp_path.glob(".upscale-*.tmp"))):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert left[0].exists()
    foreign = tmp_path / left[0].name.replace(left[0].name[9:17], "0" * 8)
    foreign.write_bytes(b"of another machine, perhaps at work")
    again = command(*job)
    assert again.wait(60) == 0, again.stderr
    assert {p.name for p in tmp_path.iterdir()} == {"a.png", "b.png", foreign.name}


class Silent(BaseHTTPRequestHandler):
    """Tells the size of a file, and then never sends it."""

    over = threading.Event()

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()

    def do_GET(self) -> None:
        self.over.wait(120)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def test_second_signal_ends_at_once(command: Command, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    with ThreadingHTTPServer(("127.0.0.1", 0), Silent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        slow = f"http://127.0.0.1:{server.server_port}/slow.png"
        process = command(
            tmp_path / "a.png", slow, "-o", tmp_path / "out", "-m", "tiny", "--json", "-j", "2"
        )
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        Silent.over.set()
        server.shutdown()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_is_read_and_one_without_a_writer_ends_with_the_first_signal(
    command: Command, tmp_path: Path
) -> None:
    for name in ("fed.png", "idle.png"):
        os.mkfifo(tmp_path / name)
    data = png(60, 60)
    process = command(
        tmp_path / "fed.png", tmp_path / "idle.png", "-m", "tiny", "--json", "-j", "2"
    )
    writer = threading.Thread(target=(tmp_path / "fed.png").write_bytes, args=(data,))
    writer.start()
    assert process.stdout is not None
    record = json.loads(process.stdout.readline())
    writer.join()
    assert (record["status"], record["out_width"]) == ("ok", 120)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"1 done, 1 not tried" in err
