"""``upscale evaluate HR_DIR...``: scores by the protocols of the papers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upscale.cli import options as o
from upscale.cli.console import Column, Console, counting, show_table
from upscale.errors import UsageError
from upscale.options import option

if TYPE_CHECKING:
    from upscale.evaluate import Likeness, Score
    from upscale.training.variational import Bound


@dataclass(frozen=True)
class Evaluation:
    """What is scored, and how."""

    model: list[str] | None = o.MODELS
    scale: str | None = option(
        None, "-s, --scale N,N,...", "Whole scales, like 2,3,4.", shown="the model's"
    )
    alpha: str | None = o.ALPHAS
    denoise: str | None = option(
        None, "--denoise D,D,...", "esrgan: a list like 0,0.5,1.", shown="the default"
    )
    protocol: str = option(
        "edsr",
        "--protocol edsr|srcnn",
        "edsr: 8-bit RGB downsampled with rounding. srcnn: Y alone, downsampled without.",
    )
    lr_dir: Path | None = option(
        None,
        "--lr-dir DIR",
        "Low-resolution pictures to start from: baby.png, babyx4.png, X4/baby.png, ...",
        shown="made from the ground truth",
    )
    against: Path | None = option(
        None,
        "--against DIR",
        "Another program's results, under the names of the inputs: compared with them instead of "
        "with the truth, beside bicubic. HR_DIR then holds the low-resolution pictures, which "
        "are enlarged as they are.",
    )
    degrade: list[str] | None = option(
        None,
        "--degrade KIND,KIND,...",
        "Damage the low-resolution pictures: jpeg:50, webp:50, noise:10, gray-noise:10, "
        "blur:0.8, a chain like blur:0.8+noise:5+jpeg:75, or clean. noise-float:25 for networks "
        "of scale 1. Repeatable; a row for each.",
    )
    bound: Path | None = option(
        None,
        "--bound FILE",
        "vae: checkpoint.pt of its training; adds the bound on the likelihood of the ground "
        "truth, by --samples draws, in bits a value.",
    )
    paper: bool = option(False, "--paper", "Set the published scores beside the measured ones.")
    json: bool = option(False, "--json", "One JSON object per picture, and one per set, on stdout.")


app = typer.Typer(add_completion=False)


@app.command()
@o.spread
def evaluate(
    hr_dir: Annotated[
        list[Path],
        typer.Argument(
            metavar="HR_DIR",
            help="Folders of ground truth, each a set of its own. With --against: folders of "
            "low-resolution pictures.",
        ),
    ],
    *,
    wanted: Evaluation,
    computing: o.Computing,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="A row for each picture, not only for each set.")
    ] = False,
) -> int:
    """Score models on folders of pictures: PSNR and SSIM on Y, beside bicubic."""
    scores = _scores(hr_dir, wanted, computing)
    if wanted.json:
        for score in scores:  # each line leaves as soon as it is known
            print(json.dumps(score.as_dict() | _paper_keys(score, wanted.paper)), flush=True)
    else:
        columns = _columns(wanted) if wanted.against is None else LIKENESS
        show_table(columns, [s for s in scores if verbose or s.picture is None])
    if wanted.against is not None:
        from upscale import perceptual

        if not perceptual.is_installed():
            Console(computing.quiet).note(
                "The perceptual distance is left out: pip install 'upscale[perceptual]' adds it."
            )
    return 0


def _check_against(theirs: Path, wanted: Evaluation) -> None:
    """Refuse what is no folder, and options that go with the truth."""
    if not theirs.is_dir():
        raise UsageError(f"--against {str(theirs)!r} is no folder: give another program's results")
    for option_name, given in {
        "--lr-dir": wanted.lr_dir,
        "--degrade": wanted.degrade,
        "--bound": wanted.bound,
        "--paper": wanted.paper,
        "--protocol": wanted.protocol != "edsr",
    }.items():
        if given:
            raise UsageError(
                f"{option_name} goes with ground truth, which --against has none of: leave one out"
            )


def _scores(
    folders: list[Path], wanted: Evaluation, computing: o.Computing
) -> Iterator[Score | Likeness]:
    """Load, run and score, with a bar on a terminal; what is refused is refused at once."""
    from upscale import evaluate as e
    from upscale.degradations import parse_degradations

    if wanted.against is not None:
        _check_against(wanted.against, wanted)
    damage = parse_degradations(wanted.degrade or ["clean"])
    sets, lr_dir = e.find_sets(folders), wanted.lr_dir
    if lr_dir is not None and not lr_dir.is_dir():
        raise UsageError(f"--lr-dir {str(lr_dir)!r} is no folder: give the low-resolution pictures")
    choice = e.combinations(
        wanted.model or ["esrgan"],
        e.parse_scales(wanted.scale) if wanted.scale else [None],
        e.parse_alphas(wanted.alpha) if wanted.alpha else [],
        e.parse_denoises(wanted.denoise) if wanted.denoise else [],
        computing.settings,
    )
    bound = _bound(wanted, computing)
    candidates = (e.load_candidate(settings, computing.device) for settings in choice)
    scores: Iterator[Score] | Iterator[Likeness]
    if wanted.against is not None:
        scores, runs = e.against(sets, candidates, wanted.against), len(choice) + 1
    else:
        scores = e.evaluate(
            sets,
            candidates,
            protocol=wanted.protocol,
            lr_dir=lr_dir,
            degradations=damage,
            bound=bound,
        )
        runs = len(choice) * len(damage)
    return _counted(Console(computing.quiet), scores, runs * sum(len(s.pictures) for s in sets))


def _bound(wanted: Evaluation, computing: o.Computing) -> Bound | None:
    if wanted.bound is None:
        return None
    from upscale.training.variational import Bound

    if wanted.protocol != "edsr":
        raise UsageError(
            f"--bound is of RGB pictures, and {wanted.protocol} scores Y: leave one out"
        )
    return Bound(wanted.bound, computing.samples, computing.seed)


def _counted(
    console: Console, scores: Iterator[Score] | Iterator[Likeness], count: int
) -> Iterator[Score | Likeness]:
    """The scores as they come, with a bar on a terminal."""
    with counting(console, count, "pictures") as step:
        for score in scores:
            if score.picture is not None:
                step(f"{score.model} x{score.scale} {score.picture}")
            yield score


def _published(score: Score) -> tuple[float, float] | None:
    """What the paper prints of a whole set of clean pictures."""
    from upscale.evaluate import published

    if score.degrade is not None or score.picture is not None:
        return None
    return published([*score.weights, score.model], score.set, score.scale, score.alpha)


def _paper_keys(score: Any, paper: bool) -> dict[str, float | None]:
    psnr, ssim = (_published(score) if paper else None) or (None, None)
    return {"paper_psnr_y": psnr, "paper_ssim_y": ssim} if paper else {}


def _pair(psnr_ssim: tuple[float, float] | None) -> str:
    return "" if psnr_ssim is None else f"{psnr_ssim[0]:.2f} {psnr_ssim[1]:.4f}"


def _number(value: float | None, digits: str = ".2f") -> str:
    return "" if value is None else f"{value:{digits}}"


def _speed(score: Score) -> str:
    return f"{score.megapixels / score.seconds:.3g}" if score.seconds else ""


WHAT = [
    Column("set", lambda s: "/".join(filter(None, (s.set, s.picture))), wrap=True),
    Column("model", lambda s: ", ".join(s.weights) or s.model, wrap=True),
    Column("scale", lambda s: f"x{s.scale}", "right"),
    Column("alpha", lambda s: _number(s.alpha, "g"), "right"),
    Column("denoise", lambda s: _number(s.denoise, "g"), "right"),
]
SPEED = Column("MP/s", _speed, "right", rank=4)
LIKENESS = [
    *WHAT,
    Column("RGB PSNR", lambda s: f"{s.psnr_rgb:.2f}", "right"),
    Column("PSNR", lambda s: f"{s.psnr_y:.2f}", "right"),
    Column("SSIM", lambda s: f"{s.ssim_y:.4f}", "right"),
    Column("gradient", lambda s: f"{s.gradient:.2f}", "right"),
    Column("in 0.8-1.2", lambda s: f"{s.near} of {s.pictures}", "right"),
    Column("perceptual", lambda s: _number(s.perceptual), "right"),
    SPEED,
]


def _columns(wanted: Evaluation) -> list[Column]:
    """The table of scores, with what the papers print and what tells of damage, where asked for."""
    paper = [Column("paper", lambda s: _pair(_published(s)), "right")] if wanted.paper else []
    damage = [Column("damage", lambda s: s.degrade or "clean", wrap=True)]
    gradient = Column(
        "gradient", lambda s: f"{s.mean_gradient:.2f} / {s.mean_gradient_truth:.2f}", "right", 2
    )
    bicubic = Column(
        "bicubic", lambda s: _pair((s.bicubic_psnr_y, s.bicubic_ssim_y)), "right", rank=1
    )
    return [
        *WHAT,
        *(damage if wanted.degrade else ()),
        Column("PSNR", lambda s: f"{s.psnr_y:.2f}", "right"),
        Column("SSIM", lambda s: f"{s.ssim_y:.4f}", "right"),
        *paper,
        bicubic,
        Column("RGB PSNR", lambda s: _number(s.psnr_rgb), "right", rank=3),
        Column("LR PSNR", lambda s: f"{s.lr_consistency:.2f}", "right", rank=2),
        *([gradient] if wanted.degrade else ()),
        Column("rank corr.", lambda s: _number(s.rank_correlation), "right", rank=2),
        Column("90 %", lambda s: _number(s.coverage), "right", rank=2),
        Column("bits", lambda s: _number(s.bits), "right", rank=2),
        SPEED,
        Column("protocol", lambda s: s.protocol, rank=5),
    ]
