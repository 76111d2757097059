"""The pictures of an evaluation: folders, the reader of 8 bits, and files that belong together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upscale import metrics
from upscale.errors import DataError, ImageError, UsageError, reason
from upscale.evaluate.protocol import border_of
from upscale.image import FORMATS, decode, probe, to_depth

Pixels = NDArray[Any]

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
    extensions = {f".{e}" for f in FORMATS.values() for e in f.extensions}
    sets = []
    for folder, name in zip(folders, names, strict=True):
        if not folder.is_dir():
            what = "is a file" if folder.is_file() else "does not exist"
            raise UsageError(f"{str(folder)!r} {what}: give folders of ground-truth pictures")
        pictures = [p for p in folder.iterdir() if p.suffix.lower() in extensions and p.is_file()]
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
    if over_white and pixels.shape[2] > colours:
        cover = pixels[..., colours:].astype(np.float64) / 255
        laid = pixels[..., :colours] * cover + 255 * (1 - cover)
        pixels = np.rint(laid).astype(np.uint8)
    return np.ascontiguousarray(pixels[..., :colours])


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
        text = str(error)
        if str(path) in text:
            raise
        raise type(error)(f"{str(path)!r}: {text}") from error


def file_called(folders: Sequence[Path], stems: Sequence[str], like: Path, missing: str) -> Path:
    """The first file in one of ``folders`` by one of some names, with any extension of a picture.

    The extension of ``like`` comes first, and ``like`` itself does not count. Where there is none,
    ``missing`` is the text of the ``DataError``.
    """
    extensions = [like.suffix, *(f".{e}" for f in FORMATS.values() for e in f.extensions)]
    for folder, stem, extension in product(folders, stems, extensions):
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
