"""Bad input: one line on stderr, the right exit status, and nothing written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Finished, png

Cli = Callable[..., Finished]


def snapshot(folder: Path) -> dict[str, bytes]:
    """All files below a folder with their content."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refused(result: Finished, code: int, *words: str) -> None:
    """The run failed with ``code`` and one line that holds ``words``."""
    assert result.code == code, result
    assert result.out == b""
    assert len(result.lines) == 1, result.err
    assert result.lines[0].startswith("upscale: error: ")
    for word in words:
        assert word in result.lines[0], result.lines[0]


def jpeg() -> bytes:
    from tests.conftest import draw
    from upscale.image import Image, encode

    return encode(Image(draw(40, 40)), "jpeg")


def no_pixels() -> bytes:
    """A PNG whose header says 0 x 0."""
    import struct
    import zlib

    def chunk(name: bytes, body: bytes) -> bytes:
        check = zlib.crc32(name + body)
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", 0, 0, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"")), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.png", b""),
        ("text.png", b"this is no picture\n"),
        ("short.png", png(64, 64)[:700]),
        ("short.jpg", jpeg()[:600]),
        ("nothing.png", no_pixels()),
    ],
)
def test_damaged_picture(cli: Cli, tiny: str, tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    before = snapshot(tmp_path)
    refused(cli(tmp_path / name, "-m", tiny), 1, name)
    assert snapshot(tmp_path) == before


def test_missing_file(cli: Cli, tiny: str, tmp_path: Path) -> None:
    refused(cli(tmp_path / "none.png", "-m", tiny), 1, "none.png", "no such file")
    assert snapshot(tmp_path) == {}


def test_one_pixel_works(cli: Cli, tiny: str, duo: str, tmp_path: Path) -> None:
    from upscale.image import probe

    (tmp_path / "dot.png").write_bytes(png(1, 1))
    for model in (tiny, duo):
        assert cli(tmp_path / "dot.png", "-m", model, "-o", tmp_path / f"{model}.png").code == 0
        info = probe((tmp_path / f"{model}.png").read_bytes())
        assert (info.width, info.height) == (2, 2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--alpha", "1.5"], ["alpha 1.5", "[0, 1]"]),
        (["--alpha", "-0.1"], ["alpha -0.1"]),
        (["--tile", "3"], ["tile 3", "16"]),
        (["--tile", "big"], ["tile 'big'"]),
        (["--scale", "0"], ["scale 0"]),
        (["--scale", "1000"], ["scale 1000"]),
        (["--size", "12"], ["size '12'"]),
        (["--size", "9x9", "--width", "3"], ["give one"]),
        (["--scale", "2", "--width", "30"], ["give one"]),
        (["--width", "0"], ["width 0"]),
        (["--quality", "101"], ["quality 101"]),
        (["--dtype", "fp8"], ["dtype 'fp8'"]),
        (["--device", "tpu"], ["device 'tpu'"]),
        (["--device", "cpu,cpu"], ["once"]),
        (["--format", "xyz"], ["xyz"]),
        (["--overwrite", "--skip-existing"], ["give one"]),
        (["--shard", "0/4"], ["shard 0/4"]),
        (["--shard", "half"], ["shard 'half'"]),
        (["-0"], ["--files-from"]),
        (["--jobs", "-1"], ["jobs -1"]),
        (["--no-such-option"], ["--no-such-option"]),
    ],
)
def test_wrong_usage(
    cli: Cli, tiny: str, picture: Path, options: list[str], words: list[str]
) -> None:
    before = snapshot(picture.parent)
    refused(cli(picture, "-m", tiny, *options), 2, *words)
    assert snapshot(picture.parent) == before


def test_no_input(cli: Cli) -> None:
    refused(cli(), 2, "no input")


def test_unknown_model(cli: Cli, tiny: str, picture: Path) -> None:
    refused(cli(picture, "-m", "tinny"), 2, "tinny")


def test_damaged_weights(cli: Cli, tiny_cache: Path, tiny: str, picture: Path) -> None:
    whole = (tiny_cache / "weights" / "tiny-x2.safetensors").read_bytes()
    short = picture.parent / "short.safetensors"
    short.write_bytes(whole[: len(whole) // 2])
    refused(cli(picture, "-m", short), 2, "short.safetensors")


def test_foreign_weights(cli: Cli, picture: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    path = picture.parent / "other.safetensors"
    save_file({"lstm.weight": np.zeros((3, 3), np.float32)}, path)
    refused(cli(picture, "-m", path), 2, "other.safetensors")


def test_wrong_hash(
    cli: Cli, tiny_cache: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(tiny_cache, cache)
    monkeypatch.setenv("UPSCALE_CACHE", str(cache))
    path = cache / "weights" / "tiny-x2.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    refused(cli(picture, "-m", "tiny"), 2, "tiny")
    assert not list(picture.parent.glob("*_tiny_*"))


def test_output_folder_does_not_exist(cli: Cli, tiny: str, picture: Path) -> None:
    refused(cli(picture, "-m", tiny, "-o", picture.parent / "no" / "a.png"), 2, "does not exist")
    assert not (picture.parent / "no").exists()


def test_output_is_input(cli: Cli, tiny: str, picture: Path) -> None:
    before = snapshot(picture.parent)
    for more in ([], ["--overwrite"]):
        refused(cli(picture, "-m", tiny, "-o", picture, *more), 2, "input")
    link = picture.parent / "link.png"
    link.symlink_to(picture)
    refused(cli(link, "-m", tiny, "-o", picture, "--overwrite"), 2, "input")
    link.unlink()
    assert snapshot(picture.parent) == before


def test_output_exists(cli: Cli, tiny: str, picture: Path) -> None:
    target = picture.parent / "there.png"
    target.write_bytes(b"precious")
    refused(cli(picture, "-m", tiny, "-o", target), 2, "there.png", "--overwrite")
    assert cli(picture, "-m", tiny, "-o", target, "--skip-existing").code == 0
    assert target.read_bytes() == b"precious"
    assert cli(picture, "-m", tiny, "-o", target, "--overwrite").code == 0
    assert target.read_bytes()[:4] == b"\x89PNG"


def test_output_without_extension(cli: Cli, tiny: str, picture: Path) -> None:
    refused(cli(picture, "-m", tiny, "-o", picture.parent / "plain"), 2, "no extension")


def test_output_too_large_for_its_format(cli: Cli, tiny: str, picture: Path) -> None:
    result = cli(picture, "-m", tiny, "-f", "webp", "--size", "20000x2")
    refused(result, 1, "WEBP", "16383")


def test_failures_of_several(cli: Cli, tiny: str, picture: Path) -> None:
    """The good ones are done, the bad ones are listed at the end, the status is 1."""
    (picture.parent / "bad.png").write_bytes(b"bad")
    result = cli(picture.parent / "none.png", picture, picture.parent / "bad.png", "-m", tiny)
    assert result.code == 1
    assert (picture.parent / "picture_tiny_x2.png").exists()
    assert [line for line in result.lines if "error" in line][-2:] == [
        f"upscale: error: {picture.parent}/none.png: no such file",
        f"upscale: error: {picture.parent}/bad.png: this is no picture that can be read; "
        "give PNG, JPEG, WebP, TIFF or BMP",
    ] or all(name in result.err for name in ("none.png", "bad.png"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root, on Linux, can mount a small disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_no_space_left(cli: Cli, tiny: str, tmp_path: Path, small_disk: Path) -> None:
    (tmp_path / "noise.png").write_bytes(png(200, 300))
    result = cli(tmp_path / "noise.png", "-m", tiny, "-o", small_disk / "out.bmp")
    refused(result, 1, "no space left")
    assert list(small_disk.iterdir()) == []


def test_read_only_folder(cli: Cli, tiny: str, picture: Path, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    refused(cli(picture, "-m", tiny, "-o", small_disk / "out.png"), 2, "cannot be written")
    refused(cli(picture, "-m", tiny, "-o", f"{small_disk}/"), 2, "cannot be written")


def test_errors_without_traceback_unless_asked(
    cli: Cli, tiny: str, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("upscale.cli.main_job.discover", broken)
    refused(cli(picture, "-m", tiny), 1, "internal error", "RuntimeError", "UPSCALE_DEBUG")
    monkeypatch.setenv("UPSCALE_DEBUG", "1")
    with pytest.raises(RuntimeError):
        cli(picture, "-m", tiny)
