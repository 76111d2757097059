"""``upscale evaluate HR_DIR...``: scores by the protocols of the papers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upscale.cli import options as o
from upscale.cli.console import Console
from upscale.cli.table import Column, show_table
from upscale.errors import UsageError

if TYPE_CHECKING:
    from upscale.evaluate import Candidate, Score
    from upscale.training.variational import Bound

COLUMNS = (
    Column("set", wrap=True),
    Column("model", wrap=True),
    Column("scale", "right"),
    Column("alpha", "right"),
    Column("denoise", "right"),
    Column("damage", wrap=True),
    Column("PSNR", "right"),
    Column("SSIM", "right"),
    Column("paper", "right"),
    Column("bicubic", "right", rank=1),
    Column("RGB PSNR", "right", rank=3),
    Column("LR PSNR", "right", rank=2),
    Column("gradient", "right", rank=2),
    Column("noise", "right", rank=2),
    Column("blocks", "right", rank=2),
    Column("rank corr.", "right", rank=2),
    Column("90 %", "right", rank=2),
    Column("bits", "right", rank=2),
    Column("MP/s", "right", rank=4),
    Column("protocol", rank=5),
)

Folders = Annotated[
    list[Path],
    typer.Argument(metavar="HR_DIR", help="Folders of ground truth, each a set of its own."),
]
Scales = Annotated[
    str | None,
    typer.Option(
        "-s",
        "--scale",
        metavar="N,N,...",
        show_default="the model's",
        help="Whole scales, like 2,3,4.",
    ),
]
Protocol = Annotated[
    str,
    typer.Option(
        metavar="edsr|srcnn",
        help="edsr: 8-bit RGB downsampled with rounding. srcnn: Y alone, downsampled without.",
    ),
]
Degrade = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KIND,KIND,...",
        show_default=False,
        help="Damage the low-resolution pictures: jpeg:50, webp:50, noise:10, gray-noise:10, "
        "blur:0.8, a chain like blur:0.8+noise:5+jpeg:75, or clean. noise-float:25 for networks of "
        "scale 1. Repeatable; a row for each.",
    ),
]
LrDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        show_default="made from the ground truth",
        help="Low-resolution pictures to start from: baby.png, babyx4.png, X4/baby.png, ...",
    ),
]
BoundFile = Annotated[
    Path | None,
    typer.Option(
        "--bound",
        metavar="FILE",
        show_default=False,
        help="vae: checkpoint.pt of its training; adds the bound on the likelihood of the ground "
        "truth, by --samples draws, in bits a value.",
    ),
]
Paper = Annotated[
    bool, typer.Option("--paper", help="Set the published scores beside the measured ones.")
]
Json = Annotated[
    bool,
    typer.Option("--json", help="One JSON object per picture, and one per set, on stdout."),
]
Verbose = Annotated[
    bool, typer.Option("-v", "--verbose", help="A row for each picture, not only for each set.")
]


@o.flat
def evaluate(
    hr_dir: Folders,
    model: o.Models = None,
    scale: Scales = None,
    alpha: o.Alphas = None,
    denoise: o.Denoises = None,
    protocol: Protocol = "edsr",
    lr_dir: LrDir = None,
    degrade: Degrade = None,
    bound: BoundFile = None,
    paper: Paper = False,
    json_lines: Json = False,
    *,
    computing: o.Computing,
    verbose: Verbose = False,
) -> int:
    """Score models on folders of pictures: PSNR and SSIM on Y, beside bicubic."""
    from upscale.evaluate import (
        CLEAN,
        combinations,
        find_sets,
        load_candidate,
        parse_alphas,
        parse_degradations,
        parse_denoises,
        parse_scales,
    )
    from upscale.evaluate import evaluate as score_all

    damage = parse_degradations(degrade) if degrade else [CLEAN]
    sets = find_sets(hr_dir)
    if lr_dir is not None and not lr_dir.is_dir():
        raise UsageError(f"--lr-dir {str(lr_dir)!r} is no folder: give the low-resolution pictures")
    choice = combinations(
        model or ["esrgan"],
        parse_scales(scale) if scale else [None],
        parse_alphas(alpha) if alpha else [],
        parse_denoises(denoise) if denoise else [],
        computing.settings,
    )
    bits = _bound(bound, computing, protocol)
    candidates = (_with_bound(load_candidate(one, computing.device), bits) for one in choice)
    count = len(choice) * len(damage) * sum(len(s.pictures) for s in sets)
    scores = score_all(sets, candidates, protocol=protocol, lr_dir=lr_dir, degradations=damage)
    shown = _counted(Console(computing.quiet), scores, count)
    if json_lines:
        for score in shown:  # each line leaves as soon as it is known
            print(json.dumps(_record(score, paper)), flush=True)
    else:
        _print_table([s for s in shown if verbose or s.picture is None], paper, bool(degrade))
    return 0


def _bound(file: Path | None, computing: o.Computing, protocol: str) -> Bound | None:
    if file is None:
        return None
    from upscale.training.variational import Bound

    if protocol != "edsr":
        raise UsageError(f"--bound is of RGB pictures, and {protocol} scores Y: leave one out")
    return Bound(file, computing.samples, computing.seed)


def _counted(console: Console, scores: Iterator[Score], count: int) -> Iterator[Score]:
    """The scores as they come, with a bar on a terminal."""
    from upscale.cli.bar import counting

    with counting(console, count, "pictures") as step:
        for score in scores:
            if score.picture is not None:
                step(f"{score.model} x{score.scale} {score.degrade or ''} {score.picture}")
            yield score


def _with_bound(candidate: Candidate, bits: Bound | None) -> Candidate:
    """The candidate with its bound; one that draws nothing has none."""
    return replace(candidate, bits=bits if candidate.uncertainty is not None else None)


def _published(score: Score) -> tuple[float, float] | None:
    from upscale.evaluate import published

    if score.degrade is not None:
        return None
    return published([*score.weights, score.model], score.set, score.scale, score.alpha)


def _record(score: Score, paper: bool) -> dict[str, Any]:
    record = score.as_dict()
    if paper:
        row = _published(score) if score.picture is None else None
        record["paper_psnr_y"], record["paper_ssim_y"] = row or (None, None)
    return record


def _print_table(scores: list[Score], paper: bool, damaged: bool) -> None:
    show_table(COLUMNS, [_cells(score, paper, damaged) for score in scores])


def _share(denoise: float | str | None) -> str:
    return denoise if isinstance(denoise, str) else "" if denoise is None else f"{denoise:g}"


def _cells(score: Score, paper: bool, damaged: bool) -> list[str]:
    name = score.set if score.picture is None else f"{score.set}/{score.picture}"
    cells = [
        name,
        ", ".join(score.weights) or score.model,
        f"x{score.scale}",
        "" if score.alpha is None else f"{score.alpha:g}",
        _share(score.denoise),
        (score.degrade or "clean") if damaged else "",
        f"{score.psnr_y:.2f}",
        f"{score.ssim_y:.4f}",
    ]
    row = _published(score) if paper and score.picture is None else None
    cells.append("" if row is None else f"{row[0]:.2f} {row[1]:.4f}")
    rgb = "" if score.psnr_rgb is None else f"{score.psnr_rgb:.2f}"
    speed = f"{score.megapixels / score.seconds:.3g}" if score.seconds else ""
    bicubic = f"{score.bicubic_psnr_y:.2f} {score.bicubic_ssim_y:.4f}"
    blind = ["", "", ""]
    if damaged:
        gradient = f"{score.mean_gradient:.2f} / {score.mean_gradient_truth:.2f}"
        blind = [gradient, f"{score.noise:.2f}", f"{score.blockiness:.2f}"]
    cells += [bicubic, rgb, f"{score.lr_consistency:.2f}", *blind]
    known = [
        "" if v is None else f"{v:.2f}"
        for v in (score.rank_correlation, score.coverage, score.bits)
    ]
    return [*cells, *known, speed, score.protocol]
