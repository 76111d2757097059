"""Where batches come from: pictures that are damaged on the fly, pairs, or a teacher's patches.

The batch of a step depends on the seed and the step's number alone, so that a resumed run sees the
same data as one that never stopped.

Patches are for distillation: a large network for real pictures (Real-ESRGAN's ``x4plus``, arXiv
2107.10833) enlarges what went through :mod:`upscale.training.degradations`; small networks learn
from its answers. They are a folder of shards, each decided by the seed and its number alone, so
that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from upscale.checkpoints import build, load
from upscale.errors import DataError, UsageError
from upscale.evaluate.pictures import read_rgb
from upscale.fast import optimized
from upscale.files import write_bytes
from upscale.memory import keep_large_blocks
from upscale.models import Network
from upscale.training.degradations import DEGRADATIONS, second_order
from upscale.training.drawn import drawn_pictures

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
SHARDS = "patches-*.safetensors"
SIDE = 64  # LR pixels of a patch
MARGIN = 4  # LR pixels around it that the damage and the teacher see, and that are cut off
SHARD = 64  # patches of a file
BATCH = 4  # patches that the teacher enlarges together
DRAWN = 0.25  # share of drawn pictures
PIECE = 384  # pixels; larger pictures are cut so that each piece is drawn equally often

Pixels = NDArray[np.uint8]  # (H, W, 3) RGB


@dataclass(frozen=True)
class Batch:
    """Pictures of one step, float32 in [0, 1]."""

    lr: Tensor  # (N, 3, H, W)
    hr: Tensor  # (N, 3, s*H, s*W)
    teacher: Tensor | None = None  # what another network made of ``lr``, of the size of ``hr``


def load_pictures(folder: Path, side: int, *, whole: bool = False) -> list[Pixels]:
    """Read every picture below ``folder`` as pieces (H, W, 3) RGB of ``side`` pixels or more.

    ``whole`` gives every picture uncut.
    """
    files = picture_files(folder, "--data")
    pieces: list[Pixels] = []
    for picture in map(read_rgb, files):
        pieces += [picture] if whole else _pieces(picture, side)
    if not pieces:
        raise DataError(
            f"{folder}: none of the {len(files)} pictures is {side} pixels wide and high, "
            "as a patch with its margin is; use larger pictures or a recipe with smaller patches"
        )
    return pieces


def picture_files(folder: Path, option: str) -> list[Path]:
    """Every picture below ``folder``, in order."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; {option} names a folder of pictures")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in EXTENSIONS)
    if not files:
        raise DataError(f"{folder}: holds no pictures ({', '.join(sorted(EXTENSIONS))})")
    return files


def _pieces(picture: Pixels, side: int) -> list[Pixels]:
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
    pieces: Sequence[Pixels],
    *,
    scale: int,
    patch: int,
    batch: int,
    degradation: str,
    seed: int,
    step: int,
) -> Batch:
    """The batch of one step: crops at random places, flipped and turned, damaged.

    ``pieces`` have :func:`crop_side` pixels at least; ``patch`` is the side of an LR patch.
    """
    rng = np.random.default_rng((seed, step))
    damage = DEGRADATIONS[degradation]
    side = crop_side(scale, patch, degradation)
    crops = [_crop(pieces[int(rng.integers(len(pieces)))], side, rng) for _ in range(batch)]
    hr = _tensor(crops)
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


def _crop(piece: Pixels, side: int, rng: np.random.Generator) -> Pixels:
    y, x = (rng.integers(n - side + 1) for n in piece.shape[:2])
    turned: Pixels = np.rot90(piece[y : y + side, x : x + side], int(rng.integers(4)))
    return turned[:, ::-1] if rng.integers(2) else turned


def cut_batch(
    sets: Sequence[tuple[Pixels, ...]], *, scale: int, patch: int, batch: int, seed: int, step: int
) -> Batch:
    """The batch of one step from pictures whose damaged form is given, flipped and turned.

    ``sets`` has (lr, hr) or (lr, hr, teacher's) each; else as :func:`make_batch`.
    """
    rng = np.random.default_rng((seed, step))
    cut = []
    for _ in range(batch):
        pictures = sets[int(rng.integers(len(sets)))]
        y, x = (int(rng.integers(n - patch + 1)) for n in pictures[0].shape[:2])
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        crops = []
        for picture, s in zip(pictures, (1, scale, scale), strict=False):
            crop = picture[y * s : (y + patch) * s, x * s : (x + patch) * s]
            turned = np.rot90(crop, turns)
            crops.append(turned[:, ::-1] if flip else turned)
        cut.append(crops)
    return Batch(*map(_tensor, zip(*cut, strict=True)))


def _tensor(pixels: Sequence[Pixels]) -> Tensor:
    """Pictures (H, W, 3) uint8 to (N, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float().div_(255)


def prefetch(make: Callable[[int], Batch], first: int, last: int) -> Iterator[Batch]:
    """Batches of steps first .. last - 1, each made in a thread while the step before it runs."""
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        ahead = pool.submit(make, first)
        for step in range(first, last):
            ready = ahead.result()
            if step + 1 < last:
                ahead = pool.submit(make, step + 1)
            yield ready


def load_pairs(lr_folder: Path, hr_folder: Path, scale: int, side: int) -> list[tuple[Pixels, ...]]:
    """Pictures of two folders that go together by name: (lr, hr), (H, W, 3) RGB.

    Those of ``lr_folder`` are damaged and have ``side`` pixels at least.
    """
    low, high = (
        {str(p.relative_to(folder).with_suffix("")): p for p in picture_files(folder, "--pairs")}
        for folder in (lr_folder, hr_folder)
    )
    for name in sorted(low.keys() ^ high.keys()):
        file = low.get(name) or high[name]
        raise DataError(f"{file}: has no partner of that name in the other folder of --pairs")
    pairs: list[tuple[Pixels, ...]] = []
    for name, path in low.items():
        lr, hr = read_rgb(path), read_rgb(high[name])
        if hr.shape != (lr.shape[0] * scale, lr.shape[1] * scale, 3):
            raise DataError(
                f"{high[name]}: {hr.shape[1]}x{hr.shape[0]} pixels where {scale} times "
                f"{lr.shape[1]}x{lr.shape[0]} go with {path}"
            )
        if min(lr.shape[:2]) < side:
            raise DataError(f"{path}: smaller than a patch of {side}x{side} pixels; leave it out")
        pairs.append((lr, hr))
    return pairs


# --- patches with a teacher's answers -------------------------------------------------------------


class Shards(Sequence[tuple[Pixels, ...]]):
    """The patches of a folder made by :func:`make_patches`: (lr, hr, teacher's).

    They stay on the disk until they are asked for.
    """

    def __init__(self, folder: Path, scale: int) -> None:
        self.files, self.starts = [], [0]
        for path in sorted(folder.glob(SHARDS)):
            try:
                file = safe_open(path, "numpy")
                lr, *large = (_slice(file, name).get_shape() for name in ("lr", "hr", "sr"))
            except (OSError, SafetensorError) as error:
                raise DataError(f"{path}: no shard of patches ({error}); make it anew") from error
            if any(shape[1:3] != [n * scale for n in lr[1:3]] for shape in large):
                raise DataError(f"{path}: its patches are not of scale {scale}")
            self.files.append(file)
            self.starts.append(self.starts[-1] + lr[0])
        if not self.files:
            raise DataError(
                f"{folder}: holds no {SHARDS}; make them with upscale train patches, "
                "or name their folder with --data"
            )

    def __len__(self) -> int:
        return self.starts[-1]

    def __getitem__(self, number: int) -> tuple[Pixels, ...]:  # type: ignore[override]
        shard = int(np.searchsorted(self.starts, number, side="right")) - 1
        file, row = self.files[shard], number - self.starts[shard]
        return tuple(_slice(file, name)[row : row + 1][0] for name in ("lr", "hr", "sr"))


def _slice(file: safe_open, name: str) -> Any:
    return file.get_slice(name)  # type: ignore[no-untyped-call]


def make_patches(
    data: Path,
    teacher: str,
    folder: Path,
    *,
    count: int,
    seed: int,
    device: torch.device,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write ``count`` patches, rounded up to whole shards, into ``folder``; what is there stays.

    They come from the pictures below ``data``, and the answers from ``teacher``, a weights name or
    a checkpoint file. ``report`` is called with patches done and in all; the second is returned.

    Raises:
        DataError: No picture is large enough.
        CheckpointError: The teacher cannot be loaded.
        OutputError: A shard cannot be written.
    """
    if count < 1:
        raise UsageError(f"--count {count} is not positive; give the number of patches")
    keep_large_blocks()
    network = optimized(build(load(teacher)).eval().to(device), device)
    side = truth_side(network.scale)
    pictures = [p for p in load_pictures(data, side, whole=True) if min(p.shape[:2]) >= side]
    if not pictures:
        raise DataError(f"{data}: none of the pictures is {side} pixels wide and high; use larger")
    shards = -(-count // SHARD)
    for shard in range(shards):
        make_shards(pictures, network, folder, shards=[shard], seed=seed)
        report((shard + 1) * SHARD, shards * SHARD)
    return shards * SHARD


def make_shards(
    pictures: Sequence[Pixels], teacher: Network, folder: Path, *, shards: Sequence[int], seed: int
) -> None:
    """Write the shards that ``folder`` lacks: ``lr`` (N, 64, 64, 3), ``sr`` and ``hr``, uint8.

    The pictures have :func:`truth_side` pixels at least; ``teacher`` enlarges (N, 3, H, W) in
    [0, 1].
    """
    folder.mkdir(parents=True, exist_ok=True)
    for shard in shards:
        path = folder / f"patches-{shard:05}.safetensors"
        if not path.exists():
            arrays = _shard(pictures, teacher, np.random.default_rng((seed, shard)), shard)
            note = {"scale": str(teacher.scale), "seed": str(seed), "shard": str(shard)}
            write_bytes(path, [save(arrays, {"patches": json.dumps(note)})], overwrite=False)


def truth_side(scale: int) -> int:
    """HR pixels of a patch with its margin."""
    return (SIDE + 2 * MARGIN) * scale


def _shard(
    pictures: Sequence[Pixels], teacher: Network, rng: np.random.Generator, shard: int
) -> dict[str, Pixels]:
    # The order of the draws decides the data set: released weights come from it.
    side, scale = truth_side(teacher.scale), teacher.scale
    weights = np.array([p.shape[0] * p.shape[1] for p in pictures], float) ** 0.5
    weights /= weights.sum()
    # The truths: drawn, or cut from pictures, large ones likelier.
    truths = []
    for k in range(SHARD):
        if rng.random() < DRAWN:
            truths += drawn_pictures(1, side, first=10_000 + shard * SHARD + k, subjects=6)
        else:
            truths.append(_any_crop(pictures[int(rng.choice(len(pictures), p=weights))], side, rng))
    # Their damage, and what the teacher makes of it; then the margins go.
    lows = []
    for truth in truths:
        low = second_order(truth.astype(np.float32), (side // scale, side // scale), rng)
        lows.append(np.clip(low + 0.5, 0, 255).astype(np.uint8))
    lr, hr = np.stack(lows), np.stack(truths)
    sr = np.concatenate([_enlarge(teacher, lr[k : k + BATCH]) for k in range(0, SHARD, BATCH)])
    inner = slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN)
    wide = slice(MARGIN * scale, -MARGIN * scale), slice(MARGIN * scale, -MARGIN * scale)
    cut = {"lr": lr[:, *inner], "sr": sr[:, *wide], "hr": hr[:, *wide]}
    return {name: np.ascontiguousarray(pixels) for name, pixels in cut.items()}


def _any_crop(picture: Pixels, side: int, rng: np.random.Generator) -> Pixels:
    """A square of ``side``, flipped and turned; large pictures are shrunk first, at random."""
    least = side / min(picture.shape[:2])
    if least < 1 / 1.6 and rng.random() < 0.6:
        factor = rng.uniform(max(least * 1.02, 0.35), 1)
        area = cv2.INTER_AREA
        shrunk = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=area)
        picture = np.asarray(shrunk, np.uint8)
    y, x = (int(rng.integers(n - side + 1)) for n in picture.shape[:2])
    turned = np.rot90(picture[y : y + side, x : x + side], int(rng.integers(4)))
    return np.ascontiguousarray(turned[:, ::-1] if rng.random() < 0.5 else turned)


def _enlarge(teacher: Network, lr: Pixels) -> Pixels:
    device = next((p.device for p in teacher.parameters()), torch.device("cpu"))
    x = _tensor([*lr]).to(device).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        sr = teacher(x).float()
        rounded = sr.clamp(0, 1).mul(255).add(0.5).to(torch.uint8)
    return np.ascontiguousarray(rounded.permute(0, 2, 3, 1).cpu().numpy())
