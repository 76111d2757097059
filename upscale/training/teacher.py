"""Patches for distillation: damaged input, what a teacher makes of it, and the truth.

A large network for real pictures (Real-ESRGAN's ``x4plus``, arXiv 2107.10833) enlarges patches that
went through :mod:`upscale.training.degradations`; small networks learn from its answers. The data
set is a folder of shards, each decided by the seed and its number alone, so that a run that was
stopped goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.numpy import save

from upscale import files
from upscale.checkpoints import build, load
from upscale.errors import DataError, UsageError
from upscale.fast import optimized
from upscale.memory import keep_large_blocks
from upscale.models import Network
from upscale.training.data import Pixels, load_pictures
from upscale.training.degradations import second_order
from upscale.training.drawn import drawn_pictures

SIDE = 64  # LR pixels of a patch
MARGIN = 4  # LR pixels around it that the damage and the teacher see, and that are cut off
SHARD = 64  # patches of a file
BATCH = 4  # patches that the teacher enlarges together
DRAWN = 0.25  # share of drawn pictures


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
            files.write_bytes(path, [save(arrays, {"patches": json.dumps(note)})], overwrite=False)


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
            truths.append(_crop(pictures[int(rng.choice(len(pictures), p=weights))], side, rng))
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


def _crop(picture: Pixels, side: int, rng: np.random.Generator) -> Pixels:
    """A square of ``side``, flipped and turned; large pictures are shrunk first, at random."""
    least = side / min(picture.shape[:2])
    if least < 1 / 1.6 and rng.random() < 0.6:
        factor = rng.uniform(max(least * 1.02, 0.35), 1)
        picture = np.asarray(
            cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8
        )
    y = int(rng.integers(picture.shape[0] - side + 1))
    x = int(rng.integers(picture.shape[1] - side + 1))
    turned = np.rot90(picture[y : y + side, x : x + side], int(rng.integers(4)))
    return np.ascontiguousarray(turned[:, ::-1] if rng.random() < 0.5 else turned)


def _enlarge(teacher: Network, lr: Pixels) -> Pixels:
    device = next((p.device for p in teacher.parameters()), torch.device("cpu"))
    x = torch.from_numpy(lr).permute(0, 3, 1, 2).float().div_(255).to(device)
    with torch.inference_mode():
        sr = teacher(x.contiguous(memory_format=torch.channels_last)).float()
        rounded = sr.clamp(0, 1).mul(255).add(0.5).to(torch.uint8)
    return np.ascontiguousarray(rounded.permute(0, 2, 3, 1).cpu().numpy())
