"""Files: whole or not at all, under any name, on any file system."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from upscale import storage
from upscale.errors import ImageError, OutputError


def test_an_object_is_written_whole_and_never_replaced_unasked() -> None:
    target = "memory://store/a.bin"
    seen: list[bool] = []
    written = storage.write(
        target,
        b"content",
        replace=False,
        before=lambda: seen.append(storage.try_stat(target) is not None),
    )
    assert storage.read(target) == (b"content", written)
    assert seen == [False]
    with pytest.raises(OutputError, match="--overwrite"):
        storage.write(target, b"new", replace=False)
    assert storage.read(target)[0] == b"content"
    storage.write(target, b"new", replace=True)
    assert storage.read(target)[0] == b"new"


def test_a_file_that_grows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"1")
    original = os.fstat

    def grow(number: int) -> os.stat_result:
        with path.open("ab") as file:
            file.write(b"2")
        return original(number)

    monkeypatch.setattr(os, "fstat", grow)
    with pytest.raises(ImageError, match="changed while"):
        storage.read(str(path))


def test_devices_are_no_files() -> None:
    with pytest.raises(OSError, match="device"):
        storage.read(os.devnull)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("s3://bucket/a.png", True),
        ("zip://a.png::b.zip", True),
        ("memory://a", True),
        ("a.png", False),
        ("/a:b/c", False),
        ("C:/a.png", False),
        ("odd://", True),
    ],
)
def test_is_url(location: str, expected: bool) -> None:
    assert storage.is_url(location) is expected


def test_file_urls_are_paths() -> None:
    assert storage.localize("file:///a%20b.png") == "/a b.png"


def test_memory_file_system() -> None:
    storage.write("memory://t/a.bin", b"abc", replace=False)
    assert storage.read("memory://t/a.bin")[0] == b"abc"
    assert storage.read_head("memory://t/a.bin", 2) == b"ab"
    with pytest.raises(OutputError):
        storage.write("memory://t/a.bin", b"abc", replace=False)
    assert storage.try_stat("memory://t/a.bin") == storage.stat("memory://t/a.bin")
    assert storage.try_stat("memory://t/b.bin") is None


def test_unknown_scheme_is_named() -> None:
    with pytest.raises(ImageError, match="nosuch"):
        storage.stat("nosuch://a")
