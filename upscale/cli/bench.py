"""``upscale bench``: how fast models, tiles and precisions run on this machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from upscale.cli import completion
from upscale.cli.console import Console
from upscale.cli.table import Column, show_json, show_table
from upscale.errors import UsageError
from upscale.options import word_or

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upscale.benchmark import Timing

COLUMNS = (
    Column("model", lambda r: r.model),
    Column("backend", lambda r: r.backend),
    Column("form", lambda r: r.form, rank=2),
    Column("dtype", lambda r: r.dtype),
    Column("threads", lambda r: str(r.threads), "right", rank=1),
    Column("input", lambda r: f"{r.lr_width}x{r.lr_height}", "right"),
    Column("tile", lambda r: "whole" if r.tile is None else str(r.tile), "right", rank=4),
    Column("ms", lambda r: f"{r.seconds_median * 1e3:.1f}", "right"),
    Column("min", lambda r: f"{r.seconds_min * 1e3:.1f}", "right", rank=3),
    Column("max", lambda r: f"{r.seconds_max * 1e3:.1f}", "right", rank=3),
    Column("s/MP in", lambda r: f"{r.seconds_per_megapixel:.1f}", "right", rank=2),
    Column("kpx/s in", lambda r: f"{1e3 / r.seconds_per_megapixel:.1f}", "right", rank=4),
    Column("GFLOP/s", lambda r: f"{r.gflops:.0f}", "right", rank=1),
    Column("of ceiling", lambda r: f"{r.share_of_ceiling:.0%}", "right", rank=2),
    Column("ratio", lambda r: f"x{r.ratio_to_reference:.2f}", "right"),
    Column("difference", lambda r: f"{r.max_rel_diff:.1e}", "right", rank=1),
    Column("MiB", lambda r: f"{r.peak_rss_mib:.0f}", "right", rank=2),
)


app = typer.Typer(add_completion=False)


@app.command()
def bench(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "-m",
            "--model",
            metavar="NAME",
            show_default="every family",
            help="Family, weights name, checkpoint file, or a full-size network of the papers with "
            "random weights: srcnn-9-5-5-x4, rrdb-23-x4, swinir-s-x4, swinir-m-x4; may be "
            "repeated.",
            autocompletion=completion.models,
        ),
    ] = None,
    size: Annotated[
        str, typer.Option(metavar="WxH,...", help="Sizes of the input; 128 stands for 128x128.")
    ] = "128",
    backend: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            show_default="both",
            help="plain (as trained) or upscale (as the main job runs it); may be repeated. The "
            "plain form in fp32 always runs: the others are compared with it.",
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:N, or mps.")
    ] = "auto",
    dtype: Annotated[
        str, typer.Option(metavar="NAME,...", help="fp32, bf16, fp16, or auto; several.")
    ] = "auto",
    tile: Annotated[
        str,
        typer.Option(
            "-t", "--tile", metavar="auto|off|N,...", help="Tile side in LR pixels; several."
        ),
    ] = "auto",
    rounds: Annotated[
        int, typer.Option(min=1, help="Timed rounds; each runs every form once.")
    ] = 5,
    threads: Annotated[
        str | None,
        typer.Option(
            metavar="N,...", show_default="PyTorch's", help="CPU threads to use; several."
        ),
    ] = None,
    json: Annotated[bool, typer.Option(help="One JSON object per row on stdout.")] = False,
) -> None:
    """Time models, tiles and precisions beside the plain PyTorch form: medians, round by round."""
    timings = _timings(
        model or [], size, backend or [], device, dtype.split(","), tile.split(","), rounds, threads
    )
    if json:
        show_json(asdict(timing) for timing in timings)
    else:
        show_table(COLUMNS, list(timings))


def _timings(
    models: list[str],
    size: str,
    backends: list[str],
    device: str,
    dtypes: list[str],
    tiles: list[str],
    rounds: int,
    threads: str | None,
) -> Iterator[Timing]:
    """Read what was given, then time one model after another."""
    counts, sizes = _counts(threads), _sizes(size)
    from upscale.benchmark import PAPER, benchmark
    from upscale.checkpoints import families
    from upscale.device import choose_device
    from upscale.inference import check_options

    Console().show_log()
    sides = [word_or(int)(part) for part in tiles]
    for side in sides:
        check_options(side, None)
    chosen = choose_device(device)
    for name in models or list(families()) or list(PAPER):
        yield from benchmark(
            name,
            sizes,
            device=chosen,
            dtypes=dtypes,
            backends=backends,
            threads=counts,
            tiles=sides,
            rounds=rounds,
        )


def _counts(text: str | None) -> list[int]:
    """The numbers in ``text``, separated by commas; none: PyTorch's own."""
    parts = [] if text is None else [part.strip() for part in text.split(",")]
    for part in parts:
        if not part.isdecimal() or int(part) < 1:
            raise UsageError(f"threads {part!r} is no number of threads: give 1 or more, or 1,2")
    return [int(part) for part in parts]


def _sizes(text: str) -> list[tuple[int, int]]:
    """(width, height) of each size in ``text``: ``128``, ``640x480``, separated by commas."""
    sizes = []
    for part in text.lower().split(","):
        width, _, height = part.strip().partition("x")
        if not width.isdecimal() or not (height or width).isdecimal() or int(width) < 1:
            raise UsageError(f"size {part!r} is no size: give W, or WxH, such as 128 or 640x480")
        sizes.append((int(width), int(height or width)))
    return sizes
