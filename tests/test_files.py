"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from upscale.errors import OutputError
from upscale.files import (
    TEMPORARY,
    refuse_existing,
    remove_own,
    remove_stale,
    temporary,
    write_bytes,
)


def test_existing_files_stay(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match="--overwrite"):
        write_bytes(path, [b"new"], overwrite=False)
    assert path.read_bytes() == b"old"
    write_bytes(path, [b"new", b"er"], overwrite=True)
    assert path.read_bytes() == b"newer"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_file_that_appears_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "a"

    def parts() -> object:
        yield b"new"
        path.write_bytes(b"another process wrote this")

    with pytest.raises(OutputError, match="exists"):
        write_bytes(path, parts(), overwrite=False)  # type: ignore[arg-type]
    assert path.read_bytes() == b"another process wrote this"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    def parts() -> object:
        yield b"half"
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="no space left"):
        write_bytes(tmp_path / "a", parts(), overwrite=False)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        refuse_existing(tmp_path, overwrite=True)
    with pytest.raises(OutputError, match="create it first"):
        write_bytes(tmp_path / "none" / "a", [b""], overwrite=False)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no POSIX permissions")
def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "a", [b""], overwrite=False)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems have none: the file is renamed, and still never onto another."""
    path = tmp_path / "a"

    def fail(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", fail)
    write_bytes(path, [b"one"], overwrite=False)
    with pytest.raises(OutputError, match="exists"):
        write_bytes(path, [b"two"], overwrite=False)
    assert path.read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["a"]


def test_stale_temporary_files_go_and_live_ones_stay(tmp_path: Path) -> None:
    """A process that was killed leaves its temporary file; one that runs keeps it."""
    make = (
        "import sys; from upscale.files import temporary; c = temporary(sys.argv[1]);"
        "open(c.__enter__(), 'w'); print(1, flush=True); sys.stdin.read(1)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", make, str(tmp_path / "a.png")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    assert remove_stale(str(tmp_path)) == 0
    process.kill()
    process.communicate()
    assert len(os.listdir(tmp_path)) == 1
    assert remove_stale(str(tmp_path)) == 1
    assert os.listdir(tmp_path) == []


def test_a_process_number_that_comes_again(tmp_path: Path) -> None:
    """In a container all processes may have one number: what is not of this one is left over."""
    with temporary(tmp_path / "a.png") as name:
        Path(name).touch()
        match = TEMPORARY.match(Path(name).name)
        assert match is not None
        older = Path(name).with_name(f".upscale-{match['host']}-{os.getpid()}-0.tmp")
        older.touch()
        assert remove_stale(str(tmp_path)) == 1
        assert Path(name).exists()
        assert not older.exists()
        remove_own()
        assert os.listdir(tmp_path) == []


def test_names_of_temporary_files_fit_any_folder(tmp_path: Path) -> None:
    """The longest name that a file system holds needs no longer one."""
    write_bytes(tmp_path / ("x" * 255), [b"1"], overwrite=False)
    write_bytes(os.path.join(tmp_path, "caf\udce9"), [b"1"], overwrite=False)
    assert len(os.listdir(tmp_path)) == 2
