"""``-m FILE``: what runs, what is refused and how, through the real command."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.checkpoints.nets import esrgan
from upscale import checkpoints

Command = Callable[..., "subprocess.Popen[bytes]"]


def run(command: Command, *arguments: str | Path, **more: object) -> tuple[int, bytes, list[str]]:
    """Exit status, stdout, and the lines on stderr that are no note on the device."""
    process = command(*arguments, **more)
    out, err = process.communicate(timeout=120)
    lines = [line for line in err.decode().splitlines() if "running on the CPU" not in line]
    return process.returncode, out, lines


def refused(done: tuple[int, bytes, list[str]], *words: str) -> None:
    code, out, lines = done
    assert (code, out, len(lines)) == (2, b"", 1), done
    assert lines[0].startswith("upscale: error: ")
    for word in words:
        assert word in lines[0], lines[0]


def test_a_flipped_byte_is_refused(command: Command, picture: Path) -> None:
    path = checkpoints.save(picture.parent / "flip.safetensors", esrgan()).path
    out = picture.parent / "out.png"
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    done = run(command, picture, "-m", path, "-o", out)
    refused(done, str(path), "damaged", "fetch or save it again")
    assert not out.exists()
    data[-100] ^= 1
    path.write_bytes(data)
    assert run(command, picture, "-m", path, "-o", out)[0] == 0
