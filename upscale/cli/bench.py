"""``upscale bench``: how fast models, tiles and precisions run on this machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import typer

from upscale.cli import options as o
from upscale.cli.console import Column, Console, show_json, show_table
from upscale.errors import UsageError
from upscale.options import between, option, word_or
from upscale.settings import TileOption

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


def _counts(text: str) -> list[int]:
    """The numbers in ``text``, separated by commas."""
    parts = [part.strip() for part in text.split(",")]
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


def _tiles(text: str) -> list[TileOption]:
    """``auto``, ``off`` or a number, several separated by commas."""
    return [word_or(int)(part) for part in text.split(",")]


@dataclass(frozen=True)
class Contest:
    """What is timed, where, and how often."""

    model: list[str] | None = option(
        None,
        "-m, --model NAME",
        "Family, weights name, checkpoint file, or a full-size network of the papers with random "
        "weights: srcnn-9-5-5-x4, rrdb-23-x4, swinir-s-x4, swinir-m-x4; may be repeated.",
        shown="every family",
    )
    size: list[tuple[int, int]] = option(
        "128", "--size WxH,...", "Sizes of the input; 128 stands for 128x128.", parse=_sizes
    )
    backend: list[str] | None = option(
        None,
        "--backend NAME",
        "plain (as trained) or upscale (as the main job runs it); may be repeated. The plain form "
        "in fp32 always runs: the others are compared with it.",
        shown="both",
    )
    device: str = option("auto", "--device NAME", "auto, cpu, cuda, cuda:N, or mps.")
    dtype: list[str] = option(
        "auto",
        "--dtype NAME,...",
        "fp32, bf16, fp16, or auto; several.",
        parse=lambda text: text.split(","),
    )
    tile: list[TileOption] = option(
        "auto", "-t, --tile auto|off|N,...", "Tile side in LR pixels; several.", parse=_tiles
    )
    rounds: int = option(
        5, "--rounds N", "Timed rounds; each runs every form once.", check=between(1, 1 << 20)
    )
    threads: list[int] | None = option(
        None, "--threads N,...", "CPU threads to use; several.", shown="PyTorch's", parse=_counts
    )
    json: bool = option(False, "--json", "One JSON object per row on stdout.")


app = typer.Typer(add_completion=False)


@app.command()
@o.spread
def bench(*, wanted: Contest) -> int:
    """Time models, tiles and precisions beside the plain PyTorch form: medians, round by round."""
    timings = _timings(wanted)
    if wanted.json:
        show_json(asdict(timing) for timing in timings)
    else:
        show_table(COLUMNS, list(timings))
    return 0


def _timings(wanted: Contest) -> Iterator[Timing]:
    """One model after another."""
    from upscale.benchmark import PAPER, benchmark
    from upscale.checkpoints import families
    from upscale.device import choose_device
    from upscale.inference import check_options as check_tile

    Console().show_log()
    for side in wanted.tile:
        check_tile(side, None)
    device = choose_device(wanted.device)
    for name in wanted.model or list(families()) or list(PAPER):
        yield from benchmark(
            name,
            wanted.size,
            device=device,
            dtypes=wanted.dtype,
            backends=wanted.backend or (),
            threads=wanted.threads or (),
            tiles=wanted.tile,
            rounds=wanted.rounds,
        )
