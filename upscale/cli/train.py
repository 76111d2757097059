"""``upscale train RECIPE --data DIR``: the recipes behind the weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upscale.cli import completion
from upscale.cli.console import Console
from upscale.cli.interrupt import signals
from upscale.cli.progress import draw
from upscale.errors import UsageError

PATCHES = "patches"  # in a recipe's place: the data set of a teacher's answers

if TYPE_CHECKING:
    from upscale.training.trainer import LogLine


app = typer.Typer(add_completion=False)


@app.command()
def train(
    recipe: Annotated[
        str | None,
        typer.Argument(
            help="Name of a recipe; --list shows them.", autocompletion=completion.recipes
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of training pictures, searched recursively.")
    ] = None,
    pairs: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="LR_DIR HR_DIR",
            help="Damaged pictures and the same ones as they should be, in place of --data.",
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps, instead of the recipe's.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder of the run.", show_default="runs/RECIPE"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the run's checkpoint.")
    ] = False,
    minutes: Annotated[
        float | None, typer.Option(help="Stop after so many minutes, with a checkpoint to resume.")
    ] = None,
    watch: Annotated[
        Path | None, typer.Option(help="Folder of ground truth (Set5) whose Y PSNR is followed.")
    ] = None,
    release: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the finished weights, index row and card.", show_default="--out"
        ),
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option(
            help="Weights name or file to start from, instead of the recipe's.",
            autocompletion=completion.weights,
        ),
    ] = None,
    perceptual_weights: Annotated[
        Path | None, typer.Option(help="VGG19 or MINC weights (safetensors) for a perceptual loss.")
    ] = None,
    data_note: Annotated[
        str, typer.Option(help="What the data are and their terms; written in the weights' header.")
    ] = "",
    teacher: Annotated[
        str | None,
        typer.Option(
            help="For `train patches`: weights name or file of the network that answers.",
            autocompletion=completion.weights,
        ),
    ] = None,
    count: Annotated[int, typer.Option(help="For `train patches`: how many.")] = 5000,
    seed: Annotated[int, typer.Option(help="For `train patches`: decides them.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads.", min=1)] = None,
    list_recipes: Annotated[bool, typer.Option("--list", help="List the recipes and end.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but errors.")] = False,
) -> int:
    """Train a network by a recipe; Ctrl-C or SIGTERM leaves a checkpoint for --resume.

    `upscale train patches` makes the data of recipes that learn from another network.
    """
    if list_recipes:
        return _list()
    if recipe == PATCHES:
        return _patches(Console(quiet), data, teacher, out, count, seed, _device(device, threads))
    if teacher is not None:
        raise UsageError(f"--teacher goes with: upscale train {PATCHES} --data DIR --teacher FILE")
    if recipe is None or (data is None) == (pairs is None):
        raise UsageError(
            "name a recipe and its pictures: upscale train RECIPE --data DIR, or --pairs LR_DIR "
            "HR_DIR (--list shows the recipes)"
        )
    from upscale.training.release import prepare, run_recipe
    from upscale.training.trainer import RunSettings

    run = RunSettings(
        data=data,
        out=out or Path("runs") / Path(recipe).stem,
        pairs=pairs,
        device=_device(device, threads),
        resume=resume,
        minutes=minutes,
        watch=watch,
        perceptual_weights=perceptual_weights,
    )
    plan, run = prepare(recipe, run, steps=steps, start_from=start_from)
    with _bar(Console(quiet), plan.name, plan.steps) as report:
        done = run_recipe(plan, run, folder=release, data_note=data_note, report=report)
    return _finish(Console(quiet), run.out, plan.name, done)


def _patches(
    console: Console,
    data: Path | None,
    teacher: str | None,
    out: Path | None,
    count: int,
    seed: int,
    device: Any,
) -> int:
    if data is None or teacher is None or out is None:
        raise UsageError(
            f"patches need pictures, a network and a folder: upscale train {PATCHES} --data DIR "
            "--teacher FILE -o FOLDER"
        )
    from upscale.training.teacher import make_patches

    def report(done: int, total: int) -> None:
        console.note(f"{out}: {done} of {total} patches")

    make_patches(data, teacher, out, count=count, seed=seed, device=device, report=report)
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
    from upscale.training.curve import plot
    from upscale.training.trainer import LOG

    try:
        plot(out / LOG, out / "curve.png", name)
    except UpscaleError as error:
        console.detail(str(error))
    score = "" if done.psnr is None else f", {done.psnr:.2f} dB on the watched pictures"
    if done.saved is not None:
        console.note(f"{done.saved.path}: {done.outcome.step} steps{score}")
    elif not done.outcome.finished:
        console.note(f"{name}: {done.reason}; go on with --resume")
    else:
        console.note(f"{name}: {done.reason}")
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
                from upscale.training.release import describe

                console.note(f"{name}: {describe(progress)}")
                said = time.monotonic()
            return bool(signals.status)

        with signals.stopping(lambda: None):
            yield report
