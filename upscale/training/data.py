"""Training pictures in memory, and batches cut from them.

The batch of a step depends on the seed and the step's number alone, so that a resumed run sees the
same data as one that never stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from upscale.errors import DataError, ImageError
from upscale.image import decode
from upscale.training.degradations import DEGRADATIONS

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
PIECE = 384  # pixels; larger pictures are cut so that each piece is drawn equally often


@dataclass(frozen=True)
class Batch:
    """``lr`` (N, 3, H, W) and ``hr`` (N, 3, s*H, s*W), float32 in [0, 1]."""

    lr: Tensor
    hr: Tensor


def load_pictures(folder: Path, side: int, *, whole: bool = False) -> list[NDArray[np.uint8]]:
    """Read every picture below ``folder`` as pieces (H, W, 3) RGB of ``side`` pixels or more.

    ``whole`` gives every picture uncut.

    Raises:
        DataError: No folder, no pictures, or none as large as a patch.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; --data names a folder of pictures")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in EXTENSIONS)
    if not files:
        raise DataError(f"{folder}: holds no pictures ({', '.join(sorted(EXTENSIONS))})")
    pieces: list[NDArray[np.uint8]] = []
    for file in files:
        picture = _read_rgb(file)
        pieces += [picture] if whole else _pieces(picture, side)
    if not pieces:
        raise DataError(
            f"{folder}: none of the {len(files)} pictures is {side} pixels wide and high, "
            "as a patch with its margin is; use larger pictures or a recipe with smaller patches"
        )
    return pieces


def _read_rgb(file: Path) -> NDArray[np.uint8]:
    try:
        pixels = decode(file.read_bytes()).pixels
    except ImageError as error:
        raise ImageError(f"{file}: {error}") from error
    if pixels.dtype == np.uint16:
        pixels = (pixels // 257).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise DataError(f"{file}: {pixels.dtype} pixels; training takes 8- or 16-bit pictures")
    if pixels.shape[2] in (1, 2):
        pixels = np.repeat(pixels[:, :, :1], 3, axis=2)
    return np.ascontiguousarray(pixels[:, :, :3])


def _pieces(picture: NDArray[np.uint8], side: int) -> list[NDArray[np.uint8]]:
    height, width = picture.shape[:2]
    if min(height, width) < side:
        return []
    piece = max(PIECE, side)
    rows = range(0, max(height - piece, 0) + 1, piece)
    columns = range(0, max(width - piece, 0) + 1, piece)
    return [
        np.ascontiguousarray(picture[y : y + piece, x : x + piece]) for y in rows for x in columns
    ]


def make_batch(
    pieces: Sequence[NDArray[np.uint8]],
    *,
    scale: int,
    patch: int,
    batch: int,
    degradation: str,
    seed: int,
    step: int,
) -> Batch:
    """The batch of one step: crops at random places, flipped and turned, degraded.

    Args:
        pieces: From :func:`load_pictures` with ``side >= crop_side(scale, patch, degradation)``.
        scale: Enlargement.
        patch: Side of an LR patch in pixels.
        batch: Number of patches.
        degradation: A key of :data:`DEGRADATIONS`.
        seed: Seed of the run.
        step: Number of the step.
    """
    rng = np.random.default_rng((seed, step))
    damage = DEGRADATIONS[degradation]
    side = crop_side(scale, patch, degradation)
    crops = np.stack(
        [_crop(pieces[int(rng.integers(len(pieces)))], side, rng) for _ in range(batch)]
    )
    hr = torch.from_numpy(crops).permute(0, 3, 1, 2).float().div_(255)
    lr = damage.apply(hr, scale, rng)
    starts = np.full((batch, 2), damage.margin)
    if damage.shift:
        starts += rng.integers(damage.shift + 1, size=starts.shape)
    return Batch(_patches(lr, starts, patch), _patches(hr, starts * scale, patch * scale))


def _patches(batch: Tensor, starts: NDArray[np.int64], side: int) -> Tensor:
    """From (N, C, H, W), of each picture ``side`` squared from its (top, left) on."""
    cut = [x[:, y : y + side, z : z + side] for x, (y, z) in zip(batch, starts, strict=True)]
    return torch.stack(cut)


def crop_side(scale: int, patch: int, degradation: str = "bicubic") -> int:
    """HR pixels that an LR patch of ``patch`` pixels and what its damage may read cover."""
    damage = DEGRADATIONS[degradation]
    return (patch + 2 * damage.margin + damage.shift) * scale


def _crop(piece: NDArray[np.uint8], side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    y = rng.integers(piece.shape[0] - side + 1)
    x = rng.integers(piece.shape[1] - side + 1)
    turned: NDArray[np.uint8] = np.rot90(piece[y : y + side, x : x + side], int(rng.integers(4)))
    return turned[:, ::-1] if rng.integers(2) else turned


def prefetch(
    pieces: Sequence[NDArray[np.uint8]],
    first: int,
    last: int,
    *,
    scale: int,
    patch: int,
    batch: int,
    degradation: str,
    seed: int,
) -> Iterator[Batch]:
    """Batches of steps first .. last - 1, each made in a thread while the step before it runs."""

    def make(step: int) -> Batch:
        return make_batch(
            pieces,
            scale=scale,
            patch=patch,
            batch=batch,
            degradation=degradation,
            seed=seed,
            step=step,
        )

    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        ahead = pool.submit(make, first) if first < last else None
        for step in range(first, last):
            assert ahead is not None
            ready = ahead.result()
            ahead = pool.submit(make, step + 1) if step + 1 < last else None
            yield ready
