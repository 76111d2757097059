"""Results beside those of another program: how near they come to it, where there is no truth.

Inputs are low-resolution pictures, enlarged as they are; the other program's results stand in a
folder under the same names. Nothing is rounded twice: both are 8-bit RGB.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from upscale import metrics, perceptual
from upscale.checkpoints.index import BICUBIC
from upscale.errors import DataError
from upscale.evaluate.candidates import Baseline, Candidate
from upscale.evaluate.pictures import (
    PictureSet,
    border_of,
    file_called,
    read_rgb,
    size_of,
    to_tensor,
)
from upscale.evaluate.scores import Measurement, about, of_set

NEAR = (0.8, 1.2)  # gradients over theirs that count as near
_TAILS = ("", "_out", "-out", "_x{scale}", "-x{scale}", "x{scale}")  # of the other program's names


@dataclass(frozen=True)
class Likeness(Measurement):
    """How near the result of one picture comes to theirs, or (``picture`` None) the means of a set.

    PSNR in dB and SSIM without a border of ``scale`` pixels. The last four are sums over a set.
    """

    denoise: float | None
    against: str
    psnr_rgb: float
    psnr_y: float
    ssim_y: float
    gradient: float  # mean gradient of the result over that of theirs (see ``metrics``)
    perceptual: float | None  # distance of features; None where their network is not installed
    near: int  # whether ``gradient`` is within :data:`NEAR`
    pictures: int
    seconds: float
    megapixels: float


def against(
    sets: Sequence[PictureSet], candidates: Iterable[Candidate], theirs: Path
) -> Iterator[Likeness]:
    """Enlarge the pictures of each set and compare them with another program's results.

    Args:
        sets: Low-resolution pictures, from ``find_sets``.
        candidates: Taken one after another, so that a generator holds one network at a time.
        theirs: The folder of the other program's results, ``scale`` times as large.

    Yields:
        For bicubic, each candidate and set: each picture as soon as it is known, then the means.

    Raises:
        ImageError: A file cannot be decoded.
        DataError: A result is missing or has another size; before the work of its candidate.
    """
    for candidate in _with_bicubic(candidates):
        partners = {p: partner(theirs, p, candidate.scale) for s in sets for p in s.pictures}
        for group in sets:
            yield from of_set(group, _compared, candidate, partners, str(theirs))


def _with_bicubic(candidates: Iterable[Candidate]) -> Iterator[Candidate]:
    """The candidates, bicubic before the first of each scale."""
    seen = set()
    for candidate in candidates:
        if candidate.scale not in seen:
            seen.add(candidate.scale)
            yield Baseline(scale=candidate.scale)
        if candidate.model != BICUBIC:
            yield candidate


def _compared(
    _: str, path: Path, candidate: Candidate, partners: Mapping[Path, Path], against: str
) -> Likeness:
    lr, reference = read_rgb(path), read_rgb(partners[path])
    start = time.perf_counter()
    sr = candidate.image(lr)
    seconds = time.perf_counter() - start
    ours, theirs, border = to_tensor(sr), to_tensor(reference), border_of(candidate.scale)
    edges = [metrics.mean_gradient(picture, crop_border=border) for picture in (ours, theirs)]
    gradient, distance = edges[0] / edges[1] if edges[1] else math.nan, None
    if perceptual.is_installed():
        with torch.inference_mode():
            distance = float(perceptual.distance(ours.float() / 255, theirs.float() / 255))
    return Likeness(
        **about(candidate),
        denoise=candidate.denoise,
        against=against,
        psnr_rgb=metrics.psnr(ours, theirs, crop_border=border, luma=False),
        psnr_y=metrics.psnr(ours, theirs, crop_border=border),
        ssim_y=metrics.ssim(ours, theirs, crop_border=border),
        gradient=gradient,
        perceptual=distance,
        near=int(NEAR[0] <= gradient <= NEAR[1]),
        pictures=1,
        seconds=seconds,
        megapixels=sr.shape[0] * sr.shape[1] / 1e6,
    )


def partner(theirs: Path, path: Path, scale: int) -> Path:
    """Their result of ``path``, whose header says that it is ``scale`` times as large.

    Raises:
        ImageError: One of the two is no picture.
        DataError: It is missing, has another size, or is too small.
    """
    stems = [path.stem + tail.format(scale=scale) for tail in _TAILS]
    missing = f"{str(theirs)!r} holds no result for {path.name!r}: name it {path.stem}.png"
    result = file_called([theirs], stems, path, missing)
    (width, height), got = size_of(path), size_of(result)
    if sorted(got) != sorted((width * scale, height * scale)):  # EXIF may turn one of the two
        raise DataError(
            f"{str(result)!r} has {got[0]}x{got[1]} pixels where {width * scale}x{height * scale} "
            f"are {str(path)!r} at x{scale}: give results of the same scale, or --scale"
        )
    if min(got) - 2 * border_of(scale) < metrics.SSIM_WINDOW:
        raise DataError(f"{str(path)!r} has {width}x{height} pixels, too few to be compared")
    return result
