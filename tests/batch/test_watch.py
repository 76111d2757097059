"""Hot folders: taken at rest, once, and again after a change."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.conftest import png
from upscale.batch.discover import Input
from upscale.batch.storage import Stat
from upscale.batch.watch import Watcher


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
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    assert (tmp_path / "out" / "b.png").exists()
