"""Which pictures a folder holds, how they are read, and which low-resolution files go with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from upscale.errors import DataError, ImageError, UsageError
from upscale.evaluate import find_sets, lr_path, read_8bit
from upscale.evaluate.pictures import check

Writer = Callable[..., Path]


def test_pictures_lie_directly_in_the_folder(
    tmp_path: Path, write: Writer, photo: np.ndarray
) -> None:
    for name in ("b.png", "a.bmp", "c.JPG", "deeper/d.png"):
        write(f"Set5/{name}", photo)
    (tmp_path / "Set5/readme.txt").write_text("no picture")
    (found,) = find_sets([tmp_path / "Set5"])
    assert found.name == "Set5"
    assert [p.name for p in found.pictures] == ["a.bmp", "b.png", "c.JPG"]


def test_sets_are_told_apart(
    tmp_path: Path, write: Writer, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("Set5/HR", "Set14/HR", "one/test", "two/test", "Manga109"):
        write(f"{name}/a.png", photo)
    folders = [tmp_path / n for n in ("Set5/HR", "one/test", "two/test", "Manga109")]
    assert [s.name for s in find_sets(folders)] == ["Set5/HR", "one/test", "two/test", "Manga109"]
    monkeypatch.chdir(tmp_path / "Manga109")
    assert find_sets([Path()])[0].name == "Manga109"


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("nothing", UsageError, "does not exist"),
        ("full/a.png", UsageError, "is a file"),
        ("empty", DataError, "holds no picture"),
    ],
)
def test_folders_that_cannot_be_used(
    tmp_path: Path,
    write: Writer,
    photo: np.ndarray,
    name: str,
    error: type[Exception],
    words: str,
) -> None:
    write("full/a.png", photo)
    (tmp_path / "empty").mkdir()
    with pytest.raises(error, match=words) as caught:
        find_sets([tmp_path / "full", tmp_path / name])
    assert name in str(caught.value)


def test_reading_gives_8_bit_colour(write: Writer, photo: np.ndarray) -> None:
    np.testing.assert_array_equal(read_8bit(write("rgb.png", photo)), photo)
    alpha = np.concatenate([photo, photo[..., :1]], 2)
    np.testing.assert_array_equal(read_8bit(write("rgba.png", alpha)), photo)
    np.testing.assert_array_equal(read_8bit(write("ga.png", photo[..., :2])), photo[..., :1])
    mid = np.clip(photo, 1, 254)
    for offset in (-128, 0, 128):  # 257 levels of 16 bits make one of 8
        deep = write("deep.png", (mid.astype(int) * 257 + offset).astype(np.uint16))
        np.testing.assert_array_equal(read_8bit(deep), mid)


def test_what_cannot_be_read_is_named(tmp_path: Path, photo: np.ndarray) -> None:
    floats = photo.astype(np.float32) / 255
    tifffile.imwrite(tmp_path / "floats.tiff", floats, photometric="rgb")
    with pytest.raises(ImageError, match=r"floats\.tiff"):
        read_8bit(tmp_path / "floats.tiff")
    with pytest.raises(ImageError, match=r"missing\.png"):
        read_8bit(tmp_path / "missing.png")


@pytest.mark.parametrize(
    "name",
    [
        "babyx4.png",
        "baby_x4.bmp",
        "baby-x4.png",
        "baby_LRBI_x4.png",
        "baby.png",
        "X4/babyx4.png",
        "x4/baby.png",
        "Set5/X4/babyx4.png",
        "Set5/baby.png",
    ],
)
def test_partner_names(tmp_path: Path, write: Writer, photo: np.ndarray, name: str) -> None:
    hr = write("Set5/HR/baby.png", photo)
    lr = write(f"lr/{name}", photo[:15, :15])
    write("lr/baby2x4.png", photo)
    assert lr_path(tmp_path / "lr", hr, "Set5", 4) == lr


def test_the_partner_of_the_right_scale_is_taken(
    tmp_path: Path, write: Writer, photo: np.ndarray
) -> None:
    hr = write("Set5/baby.png", photo)
    paths = {s: write(f"lr/X{s}/babyx{s}.png", photo[: 60 // s, : 60 // s]) for s in (2, 3, 4)}
    for scale, path in paths.items():
        assert lr_path(tmp_path / "lr", hr, "Set5", scale) == path


def test_the_truth_is_not_its_own_partner(tmp_path: Path, write: Writer, photo: np.ndarray) -> None:
    hr = write("Set5/baby.png", photo)
    with pytest.raises(DataError, match=r"babyx4\.png"):
        lr_path(tmp_path / "Set5", hr, "Set5", 4)


def test_check_reads_headers_before_work(tmp_path: Path, write: Writer, photo: np.ndarray) -> None:
    write("hr/a.png", photo)
    write("hr/b.png", photo[:20, :18])
    sets = find_sets([tmp_path / "hr"])
    check(sets, 2)
    with pytest.raises(DataError, match=r"b\.png.*18x20 .*x4"):
        check(sets, 4)
    with pytest.raises(DataError, match=r"no low-resolution picture for 'a\.png'"):
        check(sets, 2, tmp_path)
    (tmp_path / "hr/c.png").write_bytes(b"no picture at all")
    with pytest.raises(ImageError, match=r"c\.png"):
        check(find_sets([tmp_path / "hr"]), 2)
