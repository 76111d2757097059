"""The command line in a shell: bash, jq, hostile names, streams that are closed or end early."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import only_pictures, png
from upscale.image import probe

BASH = shutil.which("bash")
pytestmark = pytest.mark.skipif(BASH is None, reason="bash is not installed")
slow = pytest.mark.slow
needs_jq = pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")

ROOT = Path(__file__).parents[2]
FIND = "find . -path ./out -prune -o -type f -print0"
NAMES = (
    b"a.png",
    b" space .png",
    b"new\nline.png",
    b"quo'te\".png",
    b"\x1b[31mred\x1b[0m.png",
    b"caf\xe9 \xff.png",
    b"sub/-o.png",
    b"sub/$(touch pwned) `id` \\n $HOME;&.png",
    b"sub/{stem}*?[a].png",
)
BROKEN = (b"bad.png", b"sub/bad\n\xfe'.png")

Shell = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def shell(tiny_cache: Path, tmp_path: Path) -> Shell:
    """Run a script by bash, in a folder of its own, with ``upscale`` as a command of it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    name = folder / "upscale"
    name.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m upscale "$@"\n')
    name.chmod(0o755)
    (tmp_path / "work").mkdir()
    environment = dict(os.environ, UPSCALE_CACHE=str(tiny_cache), OMP_NUM_THREADS="1")
    environment["PATH"] = f"{folder}{os.pathsep}{environment['PATH']}"

    def run(script: str, **values: str) -> subprocess.CompletedProcess[bytes]:
        assert BASH is not None
        return subprocess.run(
            [BASH, "-c", f"set -o pipefail\n{script}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=tmp_path / "work",
            env=environment | values,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def work(shell: Shell, tmp_path: Path) -> Path:
    """The folder that scripts run in."""
    return tmp_path / "work"


def fill(folder: Path, names: tuple[bytes, ...], broken: tuple[bytes, ...] = ()) -> None:
    for seed, name in enumerate((*names, *broken)):
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"bad" if name in broken else png(5, 6, seed=seed))


def is_quiet(err: bytes) -> bool:
    """Whether stderr shows no bug and nothing that acts on a terminal."""
    return b"Traceback" not in err and b"internal" not in err and b"\x1b" not in err


@needs_jq
def test_find_to_jq(shell: Shell, work: Path) -> None:
    """jq reads every line, counts the statuses and names the failures."""
    fill(work, NAMES, BROKEN)
    base = f"{FIND} | upscale --files-from - -0 -o out/ -m tiny --json"
    counted = shell(f"{base} --report r | jq -r .status | sort | uniq -c; echo ${{PIPESTATUS[*]}}")
    assert counted.stdout.split() == b"2 failed 9 ok 0 1 0 0 0".split(), counted.stderr
    assert is_quiet(counted.stderr)
    mirrored = {os.fsdecode(name) for name in NAMES}
    assert set(only_pictures(work / "out")) == mirrored
    assert not (work / "pwned").exists()
    again = shell(f"{base} | jq -e -s 'map(.status == \"skipped\") | map(select(.)) | length'")
    assert again.stdout.strip() == b"9", again.stderr
    named = shell("""jq -j 'select(.status == "failed") | .input + "\\u0000"' r""")
    # jq has no bytes that are not UTF-8; the report itself keeps them, see the next test
    shown = {b"./" + name.replace(b"\xfe", "\ufffd".encode()) for name in BROKEN}
    assert set(named.stdout.rstrip(b"\0").split(b"\0")) == shown, named.stderr


@pytest.mark.slow
def test_failures_go_through_the_report_again(shell: Shell, work: Path) -> None:
    fill(work, NAMES, BROKEN)
    first = shell(f"{FIND} | upscale --files-from - -0 -o out/ -m tiny -q --report r.ndjson")
    assert first.returncode == 1, first.stderr
    for name in BROKEN:
        (work / os.fsdecode(name)).write_bytes(png(7, 8))
    again = shell("upscale --files-from r.ndjson -o out/ -m tiny --json")
    assert again.returncode == 0, again.stderr
    records = [json.loads(line) for line in again.stdout.splitlines()]
    assert {os.fsencode(r["input"]) for r in records} == {b"./" + name for name in BROKEN}
    assert [r["status"] for r in records] == ["ok", "ok"]
    assert set(only_pictures(work / "out")) == {os.fsdecode(n) for n in (*NAMES, *BROKEN)}
    whole = shell(f"rm r.ndjson; {FIND} | upscale --files-from - -0 -o out/ -m tiny --json")
    statuses = [json.loads(line)["status"] for line in whole.stdout.splitlines()]
    assert statuses == ["skipped"] * 11, whole.stderr


@needs_jq
@pytest.mark.slow
def test_a_report_into_a_pipe(shell: Shell, work: Path) -> None:
    """``--report >(jq ...)`` and /dev/stdout: neither is read first, which would never end."""
    fill(work, NAMES[:2])
    done = shell("upscale *.png -o out/ -m tiny -q --report /dev/stdout | jq -r .status")
    assert (done.returncode, done.stdout) == (0, b"ok\nok\n"), done.stderr
    more = "upscale *.png -o more/ -m tiny -q --report >(jq -r .status > found); wait $!; cat found"
    assert shell(more).stdout == b"ok\nok\n"


@pytest.mark.parametrize(("side", "status"), [(200, b"141"), (4, b"0")])
def test_reader_goes_away(shell: Shell, work: Path, side: int, status: bytes) -> None:
    """The picture is more than a pipe holds, or less."""
    (work / "in.png").write_bytes(png(side, side))
    script = "cat in.png | upscale - -o - -m tiny -f bmp -q | head -c 10; echo ${PIPESTATUS[*]}"
    done = shell(script)
    assert done.stdout[:2] == b"BM"
    assert done.stdout[10:].split() == [b"0", status, b"0"]
    assert done.stderr == b""


@pytest.mark.slow
def test_reader_of_records_goes_away(shell: Shell, work: Path) -> None:
    """What was written is whole, and the same command goes on with the rest."""
    fill(work / "in", tuple(b"%02d.png" % index for index in range(30)))
    base = "upscale in -o out/ -m tiny --json"
    done = shell(f"{base} -q | head -n 1; echo ${{PIPESTATUS[*]}}")
    first, statuses = done.stdout.splitlines()
    assert json.loads(first)["status"] == "ok"
    assert statuses == b"141 0"
    assert done.stderr == b""
    names = only_pictures(work / "out")
    assert 0 < len(names) < 30
    for name in names:
        assert probe((work / "out" / name).read_bytes()).width == 12
    rest = shell(base)
    assert rest.returncode == 0, rest.stderr
    records = [json.loads(line) for line in rest.stdout.splitlines()]
    assert sum(r["status"] == "skipped" for r in records) == len(names)
    assert len(only_pictures(work / "out")) == len(records) == 30


def test_reader_of_messages_goes_away(shell: Shell, work: Path) -> None:
    """Nobody reads stderr: the work is done all the same."""
    fill(work / "in", tuple(b"%d.png" % index for index in range(5)))
    done = shell("upscale in -o out/ -m tiny -v 2>&1 >/dev/null | true; echo ${PIPESTATUS[*]}")
    assert done.stdout == b"0 0\n"
    assert len(only_pictures(work / "out")) == 5


@pytest.mark.parametrize(
    "stdin", [pytest.param("", marks=slow), pytest.param("</dev/null", marks=slow), "<&-"]
)
def test_without_terminal_or_environment(shell: Shell, work: Path, stdin: str) -> None:
    """As by ssh or cron: no HOME, no TERM, no locale, no terminal, perhaps no stdin."""
    (work / "in.png").write_bytes(png(6, 7))
    bare = 'env -i PATH=/usr/bin:/bin "$(command -v upscale)"'
    options = "-o - -m srcnn-x2 --device cpu"
    if stdin:
        done = shell(f"sh -c '{bare} in.png {options} {stdin}' > out.png")
    else:
        done = shell(f"cat in.png | sh -c '{bare} - {options}' > out.png")
    assert done.returncode == 0, done.stderr
    assert is_quiet(done.stderr)
    found = probe((work / "out.png").read_bytes())
    assert (found.width, found.height) == (14, 12)


@pytest.mark.parametrize(
    ("script", "status", "message"),
    [
        ("upscale in.png -o out.png -m tiny >&-", 0, b""),
        ("upscale in.png -o out.png -m tiny <&- >&- 2>&-", 0, b""),
        ("upscale in.png -o out.png -m tiny --json >&-", 2, b"stdout is closed"),
        ("upscale in.png -o - -m tiny >&-", 2, b"stdout is closed"),
        ("cat in.png | upscale - -m tiny >&-", 2, b"stdout is closed"),
        ("upscale - -o out.png -m tiny <&-", 2, b"stdin, which is closed"),
        ("upscale --files-from - -o out/ -m tiny <&-", 2, b"stdin, which is closed"),
        ("upscale info - <&-", 1, b"stdin is closed"),
        ("upscale models >&-", 0, b""),
        ("upscale --version >&-", 0, b""),
        ("upscale - -o out.png -m tiny </dev/null", 1, b"-: the file is empty"),
        ("cat in.png | upscale - -m tiny --json", 2, b"both go to stdout"),
        ("printf 'a\\0b\\0' | upscale --files-from - -o out/ -m tiny", 2, b"give -0"),
        ("find . -name '*.no' -print0 | upscale --files-from - -0 -m tiny", 2, b"no picture"),
    ],
)
def test_closed_and_empty_streams(
    shell: Shell, work: Path, script: str, status: int, message: bytes
) -> None:
    (work / "in.png").write_bytes(png(6, 7))
    done = shell(script)
    assert done.returncode == status, done.stderr
    assert message in done.stderr
    assert is_quiet(done.stderr)
    assert done.stdout == b""
    if "out.png" in script:
        assert (work / "out.png").exists() == (status == 0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    "options",
    [
        "-o -",
        pytest.param("-o out.png --json", marks=slow),
        pytest.param("-o out.png --report /dev/full", marks=slow),
    ],
)
def test_full_disk_behind_a_stream(shell: Shell, work: Path, options: str) -> None:
    (work / "in.png").write_bytes(png(6, 7))
    done = shell(f"upscale in.png -m tiny -q {options} > /dev/full")
    assert done.returncode == 1
    assert done.stderr == b"upscale: error: no space left on the device\n"
