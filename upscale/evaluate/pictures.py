"""The pictures of an evaluation: folders, files that belong together, and pairs by protocol.

``edsr`` (EDSR, RCAN, ESRGAN, SwinIR): the low-resolution picture is 8-bit RGB, made by MATLAB's
bicubic with rounding after each pass; the result is rounded to 8-bit RGB and compared on Y, kept as
float. ``srcnn`` (SRCNN, VDSR): Y rounded to 8 bit is the ground truth, the low-resolution picture
stays float, and the result's Y is rounded to 8 bit; a gray picture is its own Y.

In both the ground truth is cropped to a multiple of the scale (at the right and the bottom), and
``scale`` pixels are left out at each border (none at scale 1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from upscale import metrics
from upscale.errors import DataError, ImageError, UsageError, reason
from upscale.image import FORMATS, decode, probe, to_depth
from upscale.resample import resize, resize_uint8

Pixels = NDArray[Any]

PROTOCOLS = ("edsr", "srcnn")
EXTENSIONS = tuple(f".{e}" for f in FORMATS.values() for e in f.extensions)
GENERIC = frozenset({"hr", "gt", "original", "images"})  # folder names that name no set


@dataclass(frozen=True)
class PictureSet:
    """A folder of pictures, sorted; its name has the parent's where that tells what it is."""

    name: str
    pictures: tuple[Path, ...] = field(repr=False)


def find_sets(folders: Sequence[Path]) -> list[PictureSet]:
    """The pictures that lie directly in each folder.

    Raises:
        UsageError: A folder does not exist, or is a file.
        DataError: A folder holds no picture.
    """
    names = [f.resolve().name for f in folders]
    sets = []
    for folder, name in zip(folders, names, strict=True):
        if not folder.is_dir():
            what = "is a file" if folder.is_file() else "does not exist"
            raise UsageError(f"{str(folder)!r} {what}: give folders of ground-truth pictures")
        pictures = [p for p in folder.iterdir() if p.suffix.lower() in EXTENSIONS and p.is_file()]
        if not pictures:
            raise DataError(
                f"{str(folder)!r} holds no picture: give a folder with files of the formats "
                f"{', '.join(FORMATS)} directly in it"
            )
        full = name.lower() in GENERIC or names.count(name) > 1
        title = f"{folder.resolve().parent.name}/{name}" if full else name
        sets.append(PictureSet(title, tuple(sorted(pictures))))
    return sets


def read_8bit(path: Path, *, over_white: bool = False) -> Pixels:
    """Decode a picture to (H, W, 1 or 3) uint8; 16 bits are rounded to 8.

    Transparent pixels are laid over white, or else alpha is left out, as scores need it.

    Raises:
        ImageError: The file cannot be read or decoded, or scores would be of floating-point pixels.
    """
    with naming(path):
        pixels = decode(_bytes(path)).pixels
    if pixels.dtype == np.float32 and not over_white:
        raise ImageError(f"{str(path)!r} has floating-point pixels: scores need 8 or 16 bits")
    pixels = to_depth(pixels, 8)
    colours = 1 if pixels.shape[2] <= 2 else 3
    pixels, alpha = pixels[..., :colours], pixels[..., colours:]
    if over_white and alpha.size:
        cover = alpha.astype(np.float64) / 255
        pixels = np.rint(pixels * cover + 255 * (1 - cover)).astype(np.uint8)
    return np.ascontiguousarray(pixels)


def read_rgb(path: Path) -> Pixels:
    """Decode a picture to (H, W, 3) uint8; alpha is laid over white. See :func:`read_8bit`."""
    pixels = read_8bit(path, over_white=True)
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def size_of(path: Path) -> tuple[int, int]:
    """Width and height by the header."""
    with naming(path):
        info = probe(_bytes(path))
    return info.width, info.height


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{str(path)!r} cannot be read: {reason(error)}") from error


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of a picture get its path at the beginning of their message."""
    try:
        yield
    except (DataError, ImageError) as error:
        if str(path) in str(error):
            raise
        raise type(error)(f"{str(path)!r}: {error}") from error


def file_called(folders: Sequence[Path], stems: Sequence[str], like: Path, missing: str) -> Path:
    """The first file in one of ``folders`` by one of some names, with any extension of a picture.

    The extension of ``like`` comes first, and ``like`` itself does not count. Where there is none,
    ``missing`` is the text of the ``DataError``.
    """
    for folder, stem, extension in product(folders, stems, [like.suffix, *EXTENSIONS]):
        path = folder / f"{stem}{extension}"
        if path.is_file() and path.resolve() != like.resolve():
            return path
    raise DataError(missing)


def lr_path(lr_dir: Path, hr: Path, set_name: str, scale: int) -> Path:
    """The low-resolution partner of ``hr`` in ``lr_dir``.

    Looked for in ``lr_dir`` and its folders ``X4``, ``x4`` and those in ``<set>``, under the names
    ``baby``, ``babyx4``, ``baby_x4``, ``baby-x4`` and ``baby_LRBI_x4``, with any extension that is
    a picture's.

    Raises:
        DataError: There is none.
    """
    tails = (f"x{scale}", f"_x{scale}", f"-x{scale}", f"_LRBI_x{scale}", "")
    stems = [f"{hr.stem}{tail}" for tail in tails]
    roots, parts = (lr_dir / set_name, lr_dir), (f"X{scale}", f"x{scale}", ".")
    missing = (
        f"{str(lr_dir)!r} holds no low-resolution picture for {hr.name!r} at x{scale}: "
        f"name it {stems[0]}.png"
    )
    return file_called([root / part for root in roots for part in parts], stems, hr, missing)


def check(sets: Sequence[PictureSet], scale: int, lr_dir: Path | None = None) -> None:
    """Read the headers of all pictures, before any work, and look for their partners.

    Raises:
        ImageError: A file is no picture.
        DataError: A picture is too small, or its low-resolution partner is missing.
    """
    least = metrics.SSIM_WINDOW + 2 * border_of(scale)
    for group in sets:
        for path in group.pictures:
            width, height = size_of(path)
            if min(width, height) // scale * scale < least:
                raise DataError(
                    f"{str(path)!r} has {width}x{height} pixels, too few to be scored at "
                    f"x{scale}: take it away or lower the scale"
                )
            if lr_dir is not None:
                lr_path(lr_dir, path, group.name, scale)


# --- pairs ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """Ground truth and its low-resolution picture, as (1, C, H, W) tensors in levels 0..255.

    C is 1 (Y) where the protocol scores Y alone.
    """

    hr: Tensor  # whole values
    lr: Tensor  # whole values where it is 8-bit RGB (``edsr``)
    clean: Tensor | None = None  # ``lr`` before it was damaged; None where nothing damaged it


def make_pair(
    hr: Pixels, scale: int, protocol: str, *, lr: Pixels | None = None, y_only: bool = False
) -> Pair:
    """Crop the ground truth and make the low-resolution picture, or take the given one.

    ``hr`` is (H, W, 1 or 3) uint8, ``lr`` (H // scale, W // scale, 1 or 3) uint8. ``protocol`` is
    ``edsr`` or ``srcnn``, which gives Y instead of RGB with ``y_only``.

    Raises:
        DataError: ``hr`` is too small for the scale, or ``lr`` has another size.
    """
    h, w = hr.shape[0] // scale, hr.shape[1] // scale
    border = border_of(scale)
    if min(h, w) * scale - 2 * border < metrics.SSIM_WINDOW:
        least = metrics.SSIM_WINDOW + 2 * border + scale - 1
        raise DataError(
            f"{hr.shape[1]}x{hr.shape[0]} pixels are too few to be scored at x{scale}: "
            f"use pictures of at least {least}x{least}"
        )
    if lr is not None and lr.shape[:2] != (h, w):
        raise DataError(
            f"the low-resolution picture has {lr.shape[1]}x{lr.shape[0]} pixels where "
            f"{w}x{h} go with {hr.shape[1]}x{hr.shape[0]} at x{scale}: "
            "give the picture of the same scale"
        )
    truth = to_tensor(hr)[..., : h * scale, : w * scale]
    small = None if lr is None else to_tensor(lr)
    if protocol == "edsr":
        truth = as_rgb(truth)
        return Pair(truth, resize_uint8(truth, (h, w)) if small is None else as_rgb(small))
    if y_only or truth.shape[1] == 1:
        truth = round_8bit(metrics.luma(truth))
        small = None if small is None else metrics.luma(small)
    return Pair(truth, resize(truth, (h, w)) if small is None else small)


def border_of(scale: int) -> int:
    """Pixels at each border that are not scored."""
    return scale if scale > 1 else 0


def bicubic(lr: Tensor, scale: int, protocol: str) -> Tensor:
    """Enlarge ``lr`` (1, C, h, w) as the protocol's tables do; at scale 1 it is ``lr`` itself.

    Whole values 0..255 where the protocol is ``edsr``.
    """
    size = (lr.shape[2] * scale, lr.shape[3] * scale)
    return round_8bit(resize_uint8(lr, size)) if protocol == "edsr" else resize(lr, size)


def psnr_y(sr: Tensor, hr: Tensor, scale: int) -> float:
    """PSNR on Y in dB as ``edsr`` counts it: RGB rounded to 8 bit, no border of ``scale`` pixels.

    Both are (1, 1 or 3, H, W) in levels 0..255; Y (one channel) is clipped and not rounded.
    """
    shown = round_8bit(sr) if sr.shape[1] == 3 else sr.clamp(0, 255)
    return metrics.psnr(shown, hr, crop_border=border_of(scale))


def to_tensor(pixels: Pixels) -> Tensor:
    """(H, W, C) of any dtype -> (1, C, H, W) float64, the same values."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float64))


def to_pixels(x: Tensor) -> Pixels:
    """(1, C, H, W) -> (H, W, C), the same values."""
    return np.ascontiguousarray(x[0].permute(1, 2, 0).cpu().numpy())


def as_rgb(x: Tensor) -> Tensor:
    """(1, 1 or 3, H, W) -> (1, 3, H, W): gray becomes three equal channels."""
    return x.expand(-1, 3, -1, -1).contiguous() if x.shape[1] == 1 else x


def round_8bit(x: Tensor) -> Tensor:
    """Round half up and clip to 0..255, as MATLAB's uint8 does."""
    return (x + 0.5).floor().clamp(0, 255)
