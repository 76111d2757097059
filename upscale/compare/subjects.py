"""What is compared: pictures, or parts of them, with ground truth where there is one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from upscale.errors import DataError, UsageError
from upscale.evaluate.against import partner
from upscale.evaluate.pictures import file_called, read_rgb, to_pixels, to_tensor
from upscale.resample import resize_uint8

Pixels = NDArray[np.uint8]  # (H, W, 3)

CONTEXT = 48  # LR pixels around a part that the networks see too
_TAILS = r"(_LRBI)?[-_]?x{scale}|[-_]lr"  # what a low-resolution file's name may have at its end


@dataclass(frozen=True)
class Crop:
    """A part of a picture, in pixels of the input."""

    x: int
    y: int
    width: int
    height: int

    @classmethod
    def parse(cls, text: str) -> Crop:
        """Read ``X,Y,W,H``.

        Raises:
            UsageError: These are not four whole numbers, or the part is empty.
        """
        parts = [part.strip() for part in text.split(",")]
        if len(parts) != 4 or not all(part.isdecimal() for part in parts):
            raise UsageError(f"crop {text!r} cannot be read: give X,Y,WIDTH,HEIGHT in input pixels")
        crop = cls(*(int(part) for part in parts))
        if min(crop.width, crop.height) < 1:
            raise UsageError(f"crop {text!r} is empty: give a width and a height of at least 1")
        return crop

    def __str__(self) -> str:
        return f"{self.x},{self.y},{self.width},{self.height}"

    def of(self, picture: Pixels, scale: int = 1) -> Pixels:
        """The part of a picture that is ``scale`` times as large."""
        top, left, height, width = (scale * n for n in (self.y, self.x, self.height, self.width))
        return np.ascontiguousarray(picture[top : top + height, left : left + width])

    def check_inside(self, picture: Pixels, path: Path) -> None:
        """Raise ``DataError`` where the part lies outside its picture."""
        height, width = picture.shape[:2]
        if self.x + self.width > width or self.y + self.height > height:
            raise DataError(
                f"crop {self} lies outside {str(path)!r}, which has {width}x{height} pixels: "
                "give X,Y,WIDTH,HEIGHT inside it"
            )


@dataclass(frozen=True)
class Subject:
    """A picture to compare, or a part of one."""

    name: str  # of the file, and the part
    path: Path  # the input
    lr: Pixels  # with the context around the part
    part: Crop  # within ``lr``
    hr: Pixels | None = None  # ground truth of the part alone
    crop: Crop | None = None  # the part as it was asked for; None for the whole picture
    theirs: Pixels | None = None  # another program's result of the part alone

    @property
    def lr_part(self) -> Pixels:
        """The part of the low-resolution picture, (h, w, 3) uint8."""
        return self.part.of(self.lr)

    def cut(self, sr: Pixels, scale: int) -> Pixels:
        """The part of an enlarged ``lr``."""
        return self.part.of(sr, scale)


def subjects(
    inputs: Sequence[Path],
    scale: int,
    *,
    crops: Sequence[Crop] = (),
    hr: Path | None = None,
    from_hr: bool = False,
    against: Path | None = None,
) -> list[Subject]:
    """Read the pictures and cut the parts.

    Args:
        inputs: Low-resolution pictures; with ``from_hr`` ground truth, downsampled by bicubic.
        scale: Whole factor.
        crops: One for all inputs, one for each, or several of a single input.
        hr: Ground truth: a file for a single input, or a folder with files of the same names.
        from_hr: See ``inputs``.
        against: A folder of another program's results, under the names of the inputs.

    Raises:
        UsageError: ``crops`` do not go with ``inputs``, or ``hr`` with ``from_hr``.
        ImageError: A file cannot be read or decoded.
        DataError: A part lies outside its picture, or ground truth is missing or too small.
    """
    if hr is not None and from_hr:
        raise UsageError("--hr and --from-hr are both given: the inputs are either small or true")
    if hr is not None and hr.is_file() and len(inputs) > 1:
        raise UsageError(f"--hr {str(hr)!r} is one picture for {len(inputs)} inputs: give a folder")
    if against is not None and from_hr:
        raise UsageError("--against has results of the inputs as they are: leave --from-hr out")
    count = max(len(inputs), len(crops))
    if len(inputs) not in (1, count) or len(crops) not in (0, 1, count):
        raise UsageError(
            f"{len(crops)} crops for {len(inputs)} inputs: give one for all, or one for each input"
        )
    paths = [*inputs] * (count if len(inputs) == 1 else 1)
    parts = [*(crops or (None,))] * (count if len(crops) < 2 else 1)
    return [
        _subject(path, crop, scale, hr, from_hr, against)
        for path, crop in zip(paths, parts, strict=True)
    ]


def hr_path(hr: Path, lr: Path, scale: int) -> Path:
    """The ground truth of ``lr``: ``hr`` itself, or the file of its name in the folder ``hr``.

    ``baby.png`` belongs to ``baby.png``, ``babyx4.png``, ``baby_x4.png``, ``baby_LRBI_x4.png`` and
    ``baby-lr.png``.

    Raises:
        DataError: There is none.
    """
    if not hr.is_dir():
        return hr
    bare = re.sub(f"({_TAILS.format(scale=scale)})$", "", lr.stem)
    missing = f"{str(hr)!r} holds no ground truth for {lr.name!r}: name it {bare}.png"
    return file_called([hr], (lr.stem, bare), lr, missing)


def _subject(
    path: Path, crop: Crop | None, scale: int, hr: Path | None, from_hr: bool, against: Path | None
) -> Subject:
    """Read the pictures of an input; cut its part with the context, the large pictures without."""
    lr = read_rgb(path)
    if crop is not None:
        crop.check_inside(lr, path)
    theirs = None if against is None else read_rgb(partner(against, path, scale))
    truth = None if hr is None else read_rgb(hr_path(hr, path, scale))
    part = crop
    if from_hr:
        lr, truth, part = _made_small(path, lr, crop, scale)
    h, w = lr.shape[:2]
    if truth is not None and (truth.shape[0] // scale, truth.shape[1] // scale) != (h, w):
        raise DataError(
            f"the ground truth of {str(path)!r} has {truth.shape[1]}x{truth.shape[0]} pixels where "
            f"{w * scale}x{h * scale} go with {w}x{h} at x{scale}: give the picture it was made of"
        )
    box = part or Crop(0, 0, w, h)
    left, top = max(0, box.x - CONTEXT), max(0, box.y - CONTEXT)
    around = lr[top : box.y + box.height + CONTEXT, left : box.x + box.width + CONTEXT]
    return Subject(
        name=path.name if crop is None else f"{path.name} [{crop}]",
        path=path,
        lr=np.ascontiguousarray(around),
        part=Crop(box.x - left, box.y - top, box.width, box.height),
        hr=None if truth is None else box.of(truth, scale),
        crop=crop,
        theirs=None if theirs is None else box.of(theirs, scale),
    )


def _made_small(
    path: Path, truth: Pixels, crop: Crop | None, scale: int
) -> tuple[Pixels, Pixels, Crop | None]:
    """The picture downsampled, the truth that goes with it, and the part in pixels of the first."""
    h, w = truth.shape[0] // scale, truth.shape[1] // scale
    if min(h, w) < 1:
        raise DataError(f"{str(path)!r} is too small for x{scale}: use a larger picture")
    truth = truth[: h * scale, : w * scale]
    lr = to_pixels(resize_uint8(to_tensor(truth), (h, w))).astype(np.uint8)
    if crop is None:
        return lr, truth, None
    crop.check_inside(truth, path)
    x, y = crop.x // scale, crop.y // scale
    right, bottom = -(-(crop.x + crop.width) // scale), -(-(crop.y + crop.height) // scale)
    return lr, truth, Crop(x, y, right - x, bottom - y)
