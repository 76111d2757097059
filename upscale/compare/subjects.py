"""What is compared: pictures, or parts of them, with ground truth where there is one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from upscale.compare.figures import Pixels
from upscale.errors import DataError, ImageError, UsageError
from upscale.evaluate.pictures import named, pictures_called, read
from upscale.evaluate.protocol import to_pixels, to_tensor
from upscale.image import decode, to_depth
from upscale.resample import resize_uint8

CONTEXT = 48  # LR pixels around a part that the networks see too
_TAILS = r"(_LRBI)?[-_]?x{scale}|[-_]lr"  # what a low-resolution file's name may have at its end


@dataclass(frozen=True)
class Crop:
    """A part of a picture, in pixels of the input: left, top, width, height."""

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


@dataclass(frozen=True)
class Subject:
    """A picture to compare, or a part of one.

    Attributes:
        name: File name, and the part.
        path: The input.
        lr: (h, w, 3) uint8 with the context around the part.
        part: The part within ``lr``: top, bottom, left, right.
        hr: Ground truth of the part alone, (scale·height, scale·width, 3) uint8.
        crop: The part as it was asked for; None for the whole picture.
    """

    name: str
    path: Path
    lr: Pixels
    part: tuple[int, int, int, int]
    hr: Pixels | None = None
    crop: Crop | None = None

    @property
    def lr_part(self) -> Pixels:
        """The part of the low-resolution picture, (h, w, 3) uint8."""
        top, bottom, left, right = self.part
        return self.lr[top:bottom, left:right]

    def cut(self, sr: Pixels, scale: int) -> Pixels:
        """The part of an enlarged ``lr``."""
        top, bottom, left, right = (scale * side for side in self.part)
        return np.ascontiguousarray(sr[top:bottom, left:right])


def subjects(
    inputs: Sequence[Path],
    scale: int,
    *,
    crops: Sequence[Crop] = (),
    hr: Path | None = None,
    from_hr: bool = False,
) -> list[Subject]:
    """Read the pictures and cut the parts.

    Args:
        inputs: Low-resolution pictures, or ground truth with ``from_hr``.
        scale: Whole enlargement.
        crops: One for all inputs, one for each, or several of a single input.
        hr: Ground truth: a file for a single input, or a folder with files of the same names.
        from_hr: The inputs are ground truth, and are downsampled by MATLAB's bicubic.

    Raises:
        UsageError: ``crops`` do not go with ``inputs``, or ``hr`` with ``from_hr``.
        ImageError: A file cannot be read or decoded.
        DataError: A part lies outside its picture, or ground truth is missing or too small.
    """
    if hr is not None and from_hr:
        raise UsageError("--hr and --from-hr are both given: the inputs are either small or true")
    if hr is not None and hr.is_file() and len(inputs) > 1:
        raise UsageError(f"--hr {str(hr)!r} is one picture for {len(inputs)} inputs: give a folder")
    found = []
    for path, crop in _paired(inputs, crops):
        picture = read_rgb(path)
        if from_hr:
            found.append(_from_truth(path, picture, crop, scale))
        else:
            truth = None if hr is None else read_rgb(hr_path(hr, path, scale))
            found.append(_from_small(path, picture, truth, crop, scale))
    return found


def _paired(inputs: Sequence[Path], crops: Sequence[Crop]) -> list[tuple[Path, Crop | None]]:
    if not crops:
        return [(path, None) for path in inputs]
    if len(crops) == 1:
        return [(path, crops[0]) for path in inputs]
    if len(inputs) == 1:
        return [(inputs[0], crop) for crop in crops]
    if len(inputs) == len(crops):
        return list(zip(inputs, crops, strict=True))
    raise UsageError(
        f"{len(crops)} crops for {len(inputs)} inputs: give one for all, or one for each input"
    )


def read_rgb(path: Path) -> Pixels:
    """Decode a picture to (H, W, 3) uint8; alpha is laid over white.

    Raises:
        ImageError: The file cannot be read or decoded.
    """
    try:
        pixels = decode(read(path)).pixels
    except ImageError as error:
        raise named(path, error) from error
    pixels = to_depth(pixels, 8)
    if pixels.shape[2] in (2, 4):
        cover = pixels[..., -1:].astype(np.float64) / 255
        pixels = np.rint(pixels[..., :-1] * cover + 255 * (1 - cover)).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


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
    for path in pictures_called(hr, (lr.stem, bare), lr.suffix):
        return path
    raise DataError(f"{str(hr)!r} holds no ground truth for {lr.name!r}: name it {bare}.png")


def _from_truth(path: Path, truth: Pixels, crop: Crop | None, scale: int) -> Subject:
    h, w = truth.shape[0] // scale, truth.shape[1] // scale
    if min(h, w) < 1:
        raise DataError(f"{str(path)!r} is too small for x{scale}: use a larger picture")
    truth = truth[: h * scale, : w * scale]
    lr = to_pixels(resize_uint8(to_tensor(truth), (h, w))).astype(np.uint8)
    small = None
    if crop is not None:
        _check_inside(path, crop, truth)
        right, bottom = crop.x + crop.width, crop.y + crop.height
        x, y = crop.x // scale, crop.y // scale
        small = Crop(x, y, -(-right // scale) - x, -(-bottom // scale) - y)
    return _subject(path, lr, truth, crop, small, scale)


def _from_small(
    path: Path, lr: Pixels, truth: Pixels | None, crop: Crop | None, scale: int
) -> Subject:
    h, w = lr.shape[:2]
    if truth is not None and (truth.shape[0] // scale, truth.shape[1] // scale) != (h, w):
        raise DataError(
            f"the ground truth of {str(path)!r} has {truth.shape[1]}x{truth.shape[0]} pixels where "
            f"{w * scale}x{h * scale} go with {w}x{h} at x{scale}: give the picture it was made of"
        )
    if crop is not None:
        _check_inside(path, crop, lr)
    return _subject(path, lr, truth, crop, crop, scale)


def _check_inside(path: Path, crop: Crop, picture: Pixels) -> None:
    height, width = picture.shape[:2]
    if crop.x + crop.width > width or crop.y + crop.height > height:
        raise DataError(
            f"crop {crop} lies outside {str(path)!r}, which has {width}x{height} pixels: "
            "give X,Y,WIDTH,HEIGHT inside it"
        )


def _subject(
    path: Path,
    lr: Pixels,
    truth: Pixels | None,
    crop: Crop | None,
    small: Crop | None,
    scale: int,
) -> Subject:
    """Cut the part ``small`` (LR pixels) with its context; the ground truth without."""
    height, width = lr.shape[:2]
    box = small or Crop(0, 0, width, height)
    bottom, right = box.y + box.height, box.x + box.width
    top0, left0 = max(0, box.y - CONTEXT), max(0, box.x - CONTEXT)
    with_context = lr[top0 : bottom + CONTEXT, left0 : right + CONTEXT]
    if truth is not None:
        truth = truth[box.y * scale : bottom * scale, box.x * scale : right * scale]
    name = path.name if crop is None else f"{path.name} [{crop}]"
    part = (box.y - top0, bottom - top0, box.x - left0, right - left0)
    return Subject(name, path, np.ascontiguousarray(with_context), part, truth, crop)
