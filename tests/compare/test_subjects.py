"""Which pictures and parts are compared, and with which ground truth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from upscale.compare import Crop, hr_path, subjects
from upscale.compare.subjects import CONTEXT
from upscale.errors import DataError, ImageError, UsageError
from upscale.evaluate import read_rgb
from upscale.evaluate.pictures import to_tensor
from upscale.resample import resize_uint8

Writer = Callable[..., Path]


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_crops_as_they_are_written() -> None:
    assert Crop.parse("1, 2,30,40") == Crop(1, 2, 30, 40)
    assert str(Crop.parse("1, 2,30,40")) == "1,2,30,40"


@pytest.mark.parametrize(
    "text", ["", "1,2,3", "1,2,3,4,5", "1,2,3,x", "-1,0,4,4", "0,0,0,4", "1.5,0,4,4"]
)
def test_crops_that_cannot_be_read(text: str) -> None:
    with pytest.raises(UsageError, match="crop"):
        Crop.parse(text)


def test_a_whole_picture(write: Writer) -> None:
    path = write("a.png", noise(20, 30))
    (subject,) = subjects([path], 4)
    assert subject.name == "a.png"
    assert subject.hr is None
    np.testing.assert_array_equal(subject.lr_part, noise(20, 30))
    sr = noise(80, 120)
    np.testing.assert_array_equal(subject.cut(sr, 4), sr)


@pytest.mark.parametrize("crop", [Crop(100, 90, 20, 10), Crop(0, 0, 7, 5), Crop(290, 195, 10, 5)])
def test_a_part_with_its_context(write: Writer, crop: Crop) -> None:
    picture = noise(200, 300)
    (subject,) = subjects([write("a.png", picture)], 2, crops=[crop])
    x, y, w, h = crop.x, crop.y, crop.width, crop.height
    np.testing.assert_array_equal(subject.lr_part, picture[y : y + h, x : x + w])
    top, left = max(0, y - CONTEXT), max(0, x - CONTEXT)
    np.testing.assert_array_equal(
        subject.lr, picture[top : y + h + CONTEXT, left : x + w + CONTEXT]
    )
    doubled = subject.lr.repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(
        subject.cut(doubled, 2), picture[y : y + h, x : x + w].repeat(2, 0).repeat(2, 1)
    )
    assert subject.name == f"a.png [{crop}]"


def test_crops_go_with_inputs(write: Writer) -> None:
    a, b = write("a.png", noise(20, 20)), write("b.png", noise(20, 20))
    one, two = Crop(0, 0, 5, 5), Crop(1, 1, 5, 5)

    def pairs(inputs: list[Path], crops: list[Crop]) -> list[tuple[str, Crop | None]]:
        return [(s.path.name, s.crop) for s in subjects(inputs, 2, crops=crops)]

    assert pairs([a, b], []) == [("a.png", None), ("b.png", None)]
    assert pairs([a, b], [one]) == [("a.png", one), ("b.png", one)]
    assert pairs([a], [one, two]) == [("a.png", one), ("a.png", two)]
    assert pairs([a, b], [one, two]) == [("a.png", one), ("b.png", two)]
    with pytest.raises(UsageError, match="3 crops for 2 inputs"):
        pairs([a, b], [one, two, one])


def test_a_part_outside_is_named(write: Writer) -> None:
    path = write("a.png", noise(20, 30))
    with pytest.raises(DataError, match=r"25,0,6,5.*a\.png.*30x20"):
        subjects([path], 2, crops=[Crop(25, 0, 6, 5)])


def test_ground_truth_beside(write: Writer) -> None:
    hr = noise(83, 121)
    path, truth = write("ax4.png", hr[:20, :30]), write("hr/a.bmp", hr)
    (subject,) = subjects([path], 4, hr=truth.parent)
    assert subject.hr is not None
    np.testing.assert_array_equal(subject.hr, hr[:80, :120])
    (part,) = subjects([path], 4, hr=truth, crops=[Crop(3, 2, 10, 8)])
    assert part.hr is not None
    np.testing.assert_array_equal(part.hr, hr[8:40, 12:52])


@pytest.mark.parametrize(
    "name", ["a.png", "ax4.png", "a_x4.png", "a-x4.png", "a_LRBI_x4.png", "a-lr.png", "a_lr.png"]
)
def test_names_of_ground_truth(tmp_path: Path, write: Writer, name: str) -> None:
    truth = write("hr/a.png", noise(8, 8))
    write("hr/ab.png", noise(8, 8))
    assert hr_path(truth.parent, tmp_path / name, 4) == truth
    with pytest.raises(DataError, match=r"'b-x4\.png'"):
        hr_path(truth.parent, tmp_path / "b-x4.png", 4)


def test_ground_truth_that_does_not_fit(write: Writer) -> None:
    path, other = write("a.png", noise(20, 30)), write("b.png", noise(20, 30))
    wrong = write("hr/a.png", noise(60, 90))
    with pytest.raises(DataError, match=r"90x60.*120x80"):
        subjects([path], 4, hr=wrong)
    with pytest.raises(UsageError, match="one picture for 2 inputs"):
        subjects([path, other], 3, hr=wrong)
    with pytest.raises(UsageError, match="--from-hr"):
        subjects([path], 4, hr=wrong, from_hr=True)


def test_small_pictures_are_made_from_ground_truth(write: Writer) -> None:
    hr = noise(83, 121)
    path = write("a.png", hr)
    (whole,) = subjects([path], 4, from_hr=True)
    small = resize_uint8(to_tensor(hr[:80, :120]), (20, 30))[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(whole.lr, small)
    assert whole.hr is not None
    np.testing.assert_array_equal(whole.hr, hr[:80, :120])
    (part,) = subjects([path], 4, from_hr=True, crops=[Crop(13, 8, 10, 9)])  # columns 12 to 23
    np.testing.assert_array_equal(part.lr_part, small[2:5, 3:6])
    assert part.hr is not None
    np.testing.assert_array_equal(part.hr, hr[8:20, 12:24])
    with pytest.raises(DataError, match="outside"):
        subjects([path], 4, from_hr=True, crops=[Crop(0, 0, 121, 8)])
    with pytest.raises(DataError, match="too small for x64"):
        subjects([write("b.png", hr[:50, :50])], 64, from_hr=True)


def test_any_picture_is_read_as_rgb(tmp_path: Path, write: Writer) -> None:
    picture = noise(6, 5)
    gray = read_rgb(write("gray.png", picture[..., :1]))
    np.testing.assert_array_equal(gray, picture[..., [0, 0, 0]])
    deep = read_rgb(write("deep.png", picture.astype(np.uint16) * 257))
    np.testing.assert_array_equal(deep, picture)
    cover = np.zeros((6, 5, 1), np.uint8)
    cover[0] = 255
    over_white = read_rgb(write("alpha.png", np.concatenate([picture, cover], 2)))
    np.testing.assert_array_equal(over_white[0], picture[0])
    assert (over_white[1:] == 255).all()
    (tmp_path / "bad.png").write_bytes(b"bad")
    for name in ("bad.png", "missing.png"):
        with pytest.raises(ImageError, match=name):
            read_rgb(tmp_path / name)
