"""Scores of one picture and means over sets; beside them, scores that the papers print."""

from __future__ import annotations

import math
import re
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from upscale import metrics
from upscale.degradations import CLEAN, UNROUNDED, Chain, degrade
from upscale.errors import DataError, UsageError
from upscale.evaluate.candidates import Candidate
from upscale.evaluate.pictures import (
    PROTOCOLS,
    Pair,
    PictureSet,
    as_rgb,
    bicubic,
    border_of,
    check,
    lr_path,
    make_pair,
    naming,
    read_8bit,
    round_8bit,
    to_pixels,
    to_tensor,
)
from upscale.resample import resize, resize_uint8

NAMES = ("model", "weights", "scale", "alpha")  # what a measurement has of its candidate
NO_FIGURES = {"set", "picture", *NAMES, "denoise", "protocol", "degrade", "against"}
SUMS = ("near", "pictures", "seconds", "megapixels")  # over a set; of other figures the mean
M = TypeVar("M", bound="Measurement")
Array = NDArray[np.floating]
NORMAL_90 = 1.6448536269514722  # a normal variable is within so many deviations in 90 % of draws
SETS = frozenset({"set5", "set14", "bsd100", "bsd200", "urban100", "manga109"})
ALIASES = {"b100": "bsd100", "bsds100": "bsd100", "b200": "bsd200", "bsds200": "bsd200"}
Bits = Callable[[Tensor, Tensor], float]  # lr and hr, (1, 3, H, W) in 0..255, to bits a value


@dataclass(frozen=True)
class Measurement:
    """What was measured of one picture, or (``picture`` None) over a set."""

    set: str
    picture: str | None
    model: str
    weights: dict[str, str]
    scale: int
    alpha: float | None

    def as_dict(self) -> dict[str, Any]:
        """The fields for JSON."""
        return for_json(self)


@dataclass(frozen=True)
class Score(Measurement):
    """Scores of one picture, or (``picture`` None) the means over a set; PSNR in dB."""

    protocol: str
    psnr_y: float
    ssim_y: float
    psnr_rgb: float | None
    bicubic_psnr_y: float
    bicubic_ssim_y: float
    lr_consistency: float  # PSNR on Y of the result made small again to the undamaged picture
    seconds: float  # of the network with its conversions alone; over a set the sum
    megapixels: float  # of the result; over a set the sum
    degrade: str | None = None  # the damage; None for none
    mean_gradient: float = math.nan  # of the result (see ``metrics``)
    mean_gradient_truth: float = math.nan
    denoise: float | None = None  # share of the nets for real pictures
    # Where the model draws: Spearman's between its map of uncertainty and the error of the result
    # (root mean square over the colours), the share of values within the 90 % interval, and, where
    # the model's posterior was given, what a value of 8 bit of the truth takes at most.
    rank_correlation: float | None = None
    coverage: float | None = None
    bits: float | None = None


def enlarge(candidate: Candidate, pair: Pair, protocol: str) -> Tensor:
    """The candidate's result, (1, C, H, W) float64 in 0..255, whole where the protocol is ``edsr``.

    Raises:
        DataError: The result has another size than the ground truth.
    """
    lr = pair.lr
    if protocol == "edsr" and not torch.equal(lr, lr.round()):
        sr = _restored(candidate, lr)
    elif protocol == "edsr":
        sr = to_tensor(candidate.image(to_pixels(lr).astype(np.uint8)))
    elif lr.shape[1] == 1 and candidate.takes in ("y", "any"):
        sr = candidate.tensor((lr / 255).float()).double().cpu() * 255
    else:
        small = to_pixels((as_rgb(lr) / 255).float())
        sr = to_tensor(candidate.image(small).astype(np.float64) * 255)[:, : lr.shape[1]]
    if sr.shape[2:] != pair.hr.shape[2:]:
        raise DataError(
            f"{candidate.model} made {sr.shape[3]}x{sr.shape[2]} pixels where "
            f"{pair.hr.shape[3]}x{pair.hr.shape[2]} are the truth: it does not enlarge "
            f"{candidate.scale} times"
        )
    return sr


def _restored(candidate: Candidate, lr: Tensor) -> Tensor:
    """A picture that is not rounded, (1, 3, h, w), through the network itself; rounded after it.

    A network that takes one channel sees a gray picture as it is; of a colour picture, which it
    takes by its Y, the values are clipped first.
    """
    x = (lr / 255).float()
    gray = torch.equal(x, x[:, :1].expand_as(x))
    if candidate.takes in ("rgb", "any") or (candidate.takes == "gray" and gray):
        x = x[:, :1] if candidate.takes == "gray" else x
        out = as_rgb(candidate.tensor(x).cpu())
    else:
        out = to_tensor(candidate.image(to_pixels(x.clamp(0, 1))))
    return round_8bit(out.double() * 255)


def made_small(sr: Tensor, size: tuple[int, int], protocol: str) -> Tensor:
    """The result at the size of the low-resolution picture, made small as by the protocol."""
    return resize_uint8(sr, size) if protocol == "edsr" else resize(sr.double(), size)


def score(candidate: Candidate, pair: Pair, protocol: str, bound: Bits | None = None) -> Score:
    """Enlarge one picture and score it; the names of set and picture are left empty.

    ``bound`` gives the bits of a model that draws, of the two pictures of the pair.
    """
    # 1. The result, and bicubic's.
    start = time.perf_counter()
    sr = enlarge(candidate, pair, protocol)
    seconds = time.perf_counter() - start
    base, truth = bicubic(pair.lr, candidate.scale, protocol), pair.hr
    if protocol == "srcnn":
        sr, base, truth = (round_8bit(metrics.luma(t)) for t in (sr, base, truth))
    # 2. The result downsampled again, beside the picture before any damage.
    clean = pair.lr if pair.clean is None else pair.clean
    clean = clean if protocol == "edsr" else metrics.luma(clean)
    small = made_small(sr, (clean.shape[2], clean.shape[3]), protocol)
    # 3. All other figures leave the same border out.
    border = border_of(candidate.scale)
    rgb = metrics.psnr(sr, truth, crop_border=border, luma=False) if protocol == "edsr" else None
    correlation, covered = _calibration(candidate, pair, sr)
    return Score(
        **about(candidate),
        protocol=protocol,
        psnr_y=metrics.psnr(sr, truth, crop_border=border),
        ssim_y=metrics.ssim(sr, truth, crop_border=border),
        psnr_rgb=rgb,
        bicubic_psnr_y=metrics.psnr(base, truth, crop_border=border),
        bicubic_ssim_y=metrics.ssim(base, truth, crop_border=border),
        lr_consistency=metrics.psnr(small, clean, crop_border=int(min(small.shape[2:]) > 2)),
        seconds=seconds,
        megapixels=sr.shape[2] * sr.shape[3] / 1e6,
        mean_gradient=metrics.mean_gradient(sr, crop_border=border),
        mean_gradient_truth=metrics.mean_gradient(truth, crop_border=border),
        denoise=candidate.denoise,
        rank_correlation=correlation,
        coverage=covered,
        bits=bound(pair.lr, pair.hr) if bound is not None and candidate.draws else None,
    )


def about(candidate: Candidate) -> dict[str, Any]:
    """The first fields of a :class:`Measurement`, the names of set and picture left empty."""
    return {"set": "", "picture": ""} | {name: getattr(candidate, name) for name in NAMES}


def _calibration(candidate: Candidate, pair: Pair, sr: Tensor) -> tuple[float | None, float | None]:
    """Rank correlation and coverage without the border; None where the model draws nothing."""
    if not candidate.draws or sr.shape != pair.hr.shape:
        return None, None
    border = border_of(candidate.scale)
    inner = (slice(border, -border or None),) * 2
    std = candidate.uncertainty(to_pixels(pair.lr).astype(np.uint8))[inner] * 255
    error = to_pixels(sr.double() - pair.hr.double())[inner]
    correlation = rank_correlation(std, np.sqrt((error**2).mean(-1)))
    return correlation, coverage(std[..., None], error)


def evaluate(
    sets: Sequence[PictureSet],
    candidates: Iterable[Candidate],
    *,
    protocol: str = "edsr",
    lr_dir: Path | None = None,
    degradations: Sequence[Chain] = (CLEAN,),
    bound: Bits | None = None,
) -> Iterator[Score]:
    """Score candidates on sets of ground truth, from ``find_sets``.

    Args:
        sets: Of each the scores of its pictures come, as soon as they are known, then the means.
        candidates: Taken one after another, so that a generator holds one network at a time.
        protocol: ``edsr`` or ``srcnn``.
        lr_dir: Low-resolution pictures to take instead of making them (see ``lr_path``).
        degradations: Damage of the low-resolution pictures (``parse_degradations``), one at a time.
        bound: See :func:`score`.

    Raises:
        UsageError: The protocol is unknown or has no damage; scale 1 has neither damage nor
            ``lr_dir``; or ``noise-float`` is asked for at another scale.
        ImageError: A file cannot be decoded.
        DataError: A picture is too small, or its low-resolution partner is missing or has another
            size. No means are given for a set with such a picture.
    """
    if protocol not in PROTOCOLS:
        raise UsageError(f"protocol {protocol!r} is unknown: use {' or '.join(PROTOCOLS)}")
    if protocol != "edsr" and any(degradations):
        raise UsageError(f"--degrade damages 8-bit RGB: it does not go with --protocol {protocol}")
    for candidate in candidates:
        scale = candidate.scale
        if scale == 1 and lr_dir is None and not all(degradations):
            raise UsageError(
                "at scale 1 the degraded pictures are needed: give --degrade, or --lr-dir"
            )
        if scale != 1 and any(d.unrounded for d in degradations):
            raise UsageError(
                f"--degrade {UNROUNDED} is for networks of scale 1: use noise at x{scale}"
            )
        check(sets, scale, lr_dir)
        for chain, group in product(degradations, sets):
            yield from of_set(group, _of_file, candidate, protocol, lr_dir, chain, bound)


def _of_file(
    set_name: str,
    path: Path,
    candidate: Candidate,
    protocol: str,
    lr_dir: Path | None,
    chain: Chain,
    bound: Bits | None,
) -> Score:
    """The score of one file, whose name seeds its damage."""
    scale, y_only = candidate.scale, candidate.takes in ("y", "any")
    lr = None if lr_dir is None else read_8bit(lr_path(lr_dir, path, set_name, scale))
    pair = make_pair(read_8bit(path), scale, protocol, lr=lr, y_only=y_only)
    if chain:
        damaged = degrade(to_pixels(pair.lr), chain, path.stem)
        pair = replace(pair, lr=to_tensor(damaged), clean=pair.lr)
    return replace(score(candidate, pair, protocol, bound), degrade=chain.name)


def of_set(group: PictureSet, measure: Callable[..., M], *arguments: Any) -> Iterator[M]:
    """``measure(set name, file, *arguments)`` of each picture as soon as it is known; means."""
    rows = []
    for path in group.pictures:
        with naming(path):
            row = replace(measure(group.name, path, *arguments), set=group.name, picture=path.name)
        rows.append(row)
        yield row
    yield mean(rows)


def mean(rows: Sequence[M]) -> M:
    """The means of the figures of one set, None where one is None, and the :data:`SUMS`."""
    figures: dict[str, Any] = {}
    for name in (f.name for f in fields(rows[0]) if f.name not in NO_FIGURES):
        values = [getattr(row, name) for row in rows]
        total = None if None in values else sum(values)
        figures[name] = total if total is None or name in SUMS else float(total) / len(values)
    return replace(rows[0], picture=None, **figures)


def for_json(row: Any, digits: int = 6) -> dict[str, Any]:
    """The fields of a dataclass, rounded; an infinite PSNR (equal pictures) is null."""

    def plain(value: Any) -> Any:
        if isinstance(value, float):
            return round(value, digits) if math.isfinite(value) else None
        return [plain(part) for part in value] if isinstance(value, tuple) else value

    return {key: plain(value) for key, value in asdict(row).items()}


# --- whether a map of uncertainty tells the truth -------------------------------------------------


def rank_correlation(a: Array, b: Array) -> float:
    """Spearman's: Pearson's correlation of the ranks, ties sharing their mean rank; -1 to 1.

    NaN where one of the two is constant.
    """
    with np.errstate(invalid="ignore"):
        return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: Array) -> NDArray[np.float64]:
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank: NDArray[np.float64] = (2 * np.cumsum(counts) - counts - 1) / 2.0
    return mean_rank[index.ravel()]


def coverage(std: Array, error: Array, deviations: float = NORMAL_90) -> float:
    """Share of values whose error is within ``deviations`` standard deviations, 0 to 1."""
    return float((np.abs(error) <= deviations * std).mean())


# --- scores that the papers print -----------------------------------------------------------------


def published(
    names: Sequence[str], set_name: str, scale: int, alpha: float | None = None
) -> tuple[float, float] | None:
    """The paper's PSNR (dB) and SSIM on Y of a network on a set; None where no paper prints it.

    ``names`` are of the weights, or of the model. Of a PSNR net and a GAN net that are interpolated
    ``alpha`` 0 alone, the PSNR net itself, has a row. A set is ``Set5``, ``Set14/HR``, ``BSDS100``.
    """
    words = re.findall(r"[a-z]+\d+", set_name.lower())
    benchmark = next((w for w in (ALIASES.get(word, word) for word in words) if w in SETS), "")
    wanted = {name.lower() for name in names}
    text = resources.files("upscale.evaluate").joinpath("published.toml").read_text("utf-8")
    for row in () if alpha else tomllib.loads(text).values():
        if wanted & {name.format(s=scale) for name in row["weights"]}:
            scores = row.get(f"x{scale}", {}).get(benchmark)
            return None if scores is None else (scores[0], scores[1])
    return None
