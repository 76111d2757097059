"""``upscale train RECIPE --data DIR``: the recipes behind the weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upscale.cli import options as o
from upscale.cli.console import Console, draw
from upscale.cli.interrupt import signals
from upscale.errors import UsageError
from upscale.options import option

PATCHES = "patches"  # in a recipe's place: the data set of a teacher's answers

if TYPE_CHECKING:
    from upscale.training.trainer import LogLine


@dataclass(frozen=True)
class Training:
    """What is trained on what, and what is left of it."""

    data: Path | None = option(
        None, "--data DIR", "Folder of training pictures, searched recursively, or of patches."
    )
    steps: int | None = option(None, "--steps N", "Steps, instead of the recipe's.")
    out: Path | None = option(None, "-o, --out DIR", "Folder of the run.", shown="runs/RECIPE")
    resume: bool = option(False, "--resume", "Go on from the run's checkpoint.")
    minutes: float | None = option(
        None, "--minutes N", "Stop after so many minutes, with a checkpoint to resume."
    )
    watch: Path | None = option(
        None, "--watch DIR", "Folder of ground truth (Set5) whose Y PSNR is followed."
    )
    release: Path | None = option(
        None, "--release DIR", "Folder for the finished weights, index row and card.", shown="--out"
    )
    perceptual_weights: Path | None = option(
        None, "--perceptual-weights FILE", "VGG19 or MINC weights (safetensors) of a loss."
    )
    data_note: str = option(
        "", "--data-note TEXT", "What the data are and their terms; written in the weights' header."
    )
    count: int = option(5000, "--count N", "For `train patches`: how many.")
    seed: int = option(0, "--seed N", "For `train patches`: decides them.")
    device: str = option("auto", "--device NAME", "auto, cpu, cuda, cuda:N or mps.")
    list_recipes: bool = option(False, "--list", "List the recipes and end.")
    quiet: bool = option(False, "-q, --quiet", "Say nothing but errors.")
    pairs: tuple[Path, Path] | None = option(
        None,
        "--pairs LR_DIR HR_DIR",
        "Damaged pictures and the same ones as they should be, in place of --data.",
    )
    start_from: str | None = option(
        None, "--start-from NAME", "Weights name or file to start from, instead of the recipe's."
    )
    teacher: str | None = option(
        None,
        "--teacher NAME",
        "For `train patches`: weights name or file of the network that answers.",
    )


app = typer.Typer(add_completion=False)


@app.command()
@o.spread
def train(
    recipe: Annotated[
        str | None,
        typer.Argument(
            help="Name of a recipe, or a file NAME.toml; --list shows them.",
            autocompletion=o.complete_recipes,
        ),
    ] = None,
    *,
    wanted: Training,
    threads: Annotated[int | None, typer.Option(help="CPU threads.", min=1)] = None,
) -> int:
    """Train a network by a recipe; Ctrl-C or SIGTERM leaves a checkpoint for --resume.

    `upscale train patches` makes the data of recipes that learn from another network.
    """
    if wanted.list_recipes:
        return _list()
    if recipe == PATCHES:
        return _patches(wanted, threads)
    if wanted.teacher is not None:
        raise UsageError(f"--teacher goes with: upscale train {PATCHES} --data DIR --teacher FILE")
    if recipe is None or (wanted.data is None) == (wanted.pairs is None):
        raise UsageError(
            "name a recipe and its pictures: upscale train RECIPE --data DIR, or --pairs LR_DIR "
            "HR_DIR (--list shows the recipes)"
        )
    return _run(recipe, threads, wanted)


def _run(recipe: str, threads: int | None, wanted: Training) -> int:
    from upscale.training.release import prepare, run_recipe
    from upscale.training.trainer import RunSettings

    run = RunSettings(
        data=wanted.data,
        out=wanted.out or Path("runs") / Path(recipe).stem,
        pairs=wanted.pairs,
        device=_device(wanted.device, threads),
        resume=wanted.resume,
        minutes=wanted.minutes,
        watch=wanted.watch,
        perceptual_weights=wanted.perceptual_weights,
    )
    plan, run = prepare(recipe, run, steps=wanted.steps, start_from=wanted.start_from)
    note, console = wanted.data_note, Console(wanted.quiet)
    with _bar(console, plan.name, plan.steps) as report:
        done = run_recipe(plan, run, folder=wanted.release, data_note=note, report=report)
    return _finish(console, run.out, plan.name, done)


def _patches(wanted: Training, threads: int | None) -> int:
    data, teacher, out = wanted.data, wanted.teacher, wanted.out
    if data is None or teacher is None or out is None:
        raise UsageError(
            f"patches need pictures, a network and a folder: upscale train {PATCHES} --data DIR "
            "--teacher FILE -o FOLDER"
        )
    from upscale.training.data import make_patches

    device = _device(wanted.device, threads)
    console = Console(wanted.quiet)
    with draw(console, None, PATCHES, unit="patches") as bar:

        def report(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)
            if bar.disable:
                console.note(f"{out}: {done} of {total} patches")

        count = make_patches(
            data, teacher, out, count=wanted.count, seed=wanted.seed, device=device, report=report
        )
    console.note(f"{out}: {count} patches")
    return 0


def _device(name: str, threads: int | None) -> Any:
    import torch

    from upscale.device import choose_device

    if threads is not None:
        torch.set_num_threads(threads)
    return choose_device(name)


def _list() -> int:
    from upscale.training.recipes import RECIPES

    width = max(map(len, RECIPES))
    for name, recipe in RECIPES.items():
        start = f", from {recipe.start_from}" if recipe.start_from else ""
        print(f"{name:<{width}}  {recipe.steps:>9,} steps of {recipe.batch} patches{start}")
    return 0


def _finish(console: Console, out: Path, name: str, done: Any) -> int:
    from upscale.errors import UpscaleError
    from upscale.training.trainer import LOG, plot

    try:
        plot(out / LOG, out / "curve.png", name)
    except UpscaleError as error:
        console.detail(str(error))
    score = "" if done.psnr is None else f", {done.psnr:.2f} dB on the watched pictures"
    if done.saved is not None:
        console.note(f"{done.saved.path}: {done.outcome.step} steps{score}")
    else:
        more = "" if done.outcome.finished else "; go on with --resume"
        console.note(f"{name}: {done.reason}{more}")
    return 0


@contextmanager
def _bar(console: Console, name: str, steps: int) -> Iterator[Callable[[LogLine], bool]]:
    """A bar on a terminal, a line every half minute elsewhere."""
    said, psnr = time.monotonic(), ""

    with draw(console, steps, name, unit="steps") as bar:

        def report(progress: LogLine) -> bool:
            nonlocal said, psnr
            if progress.psnr is not None:
                psnr = f", {progress.psnr:.2f} dB"
            bar.set_postfix_str(f"loss {sum(progress.losses.values()):.4f}{psnr}", refresh=False)
            bar.update(progress.step - bar.n)
            if bar.disable and (time.monotonic() - said > 30 or progress.psnr is not None):
                console.note(f"{name}: {progress}")
                said = time.monotonic()
            return bool(signals.status)

        with signals.stopping(lambda: None):
            yield report
