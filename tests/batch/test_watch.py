"""Hot folders: taken at rest, once, and again after a change."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.conftest import Finished, png
from upscale.batch.inputs import Input, Watcher
from upscale.storage import Stat


def test_a_file_is_taken_when_it_rests() -> None:
    time = [0.0]
    watcher = Watcher(settle=1.0, clock=lambda: time[0])

    def look(size: int, stamp: str = "a") -> int:
        return len(watcher.ready([Input("x.png", "x.png", Stat(size, stamp), "in")]))

    assert look(0) == 0
    assert look(10) == 0
    time[0] = 0.9
    assert look(10) == 0
    assert look(20) == 0  # it grows
    time[0] = 1.8
    assert look(20) == 0
    time[0] = 2.0
    assert look(20) == 1
    time[0] = 9.0
    assert look(20) == 0  # once
    assert look(20, "b") == 0
    time[0] = 10.0
    assert look(20, "b") == 1  # changed
    assert watcher.ready([]) == []
    assert look(20, "b") == 0  # gone and back
    time[0] = 11.0
    assert look(20, "b") == 1


def test_watch(command: Callable[..., subprocess.Popen[bytes]], tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (source / "a.png").write_bytes(png())
    process = command(source, "-o", tmp_path / "out", "-m", "tiny", "--watch", "--json")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["status"] == "ok"
    half = png(seed=1)
    (source / "b.png").write_bytes(half[:40])
    (source / "bad.png").write_bytes(b"bad")
    (source / "b.png").write_bytes(half)
    seen = {}
    for _ in range(2):
        record = json.loads(process.stdout.readline())
        seen[Path(record["input"]).name] = record["status"]
    assert seen == {"b.png": "ok", "bad.png": "failed"}
    assert process.stderr is not None
    while b"bad.png: this is no picture" not in process.stderr.readline():
        assert process.poll() is None, "a failure is told while the run goes on"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 143
    assert b"bad.png" not in err
    assert (tmp_path / "out" / "b.png").exists()


def test_outputs_beside_what_is_watched_are_not_taken(
    command: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(png())
    process = command(tmp_path, "-m", "tiny", "--watch", "--json")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["status"] == "ok"
    time.sleep(2.2)  # the output is at rest now
    (tmp_path / "b.png").write_bytes(png(seed=1))
    assert Path(json.loads(process.stdout.readline())["input"]).name == "b.png"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert out == b""
    assert b"terminated; 2 done in" in err


def test_a_folder_that_is_not_there_is_not_waited_for(
    cli: Callable[..., Finished], tmp_path: Path
) -> None:
    result = cli(tmp_path / "none", "-m", "tiny", "--watch")
    assert result.code == 2
    assert "there is no such folder" in result.err
