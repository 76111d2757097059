"""``upscale bench``: how fast models, tiles and precisions run on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from upscale.cli import completion
from upscale.cli.console import Console
from upscale.cli.options import tile_of
from upscale.cli.table import Column, show_json, show_table
from upscale.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upscale.inference.benchmark import Row
    from upscale.settings import TileOption

Models = Annotated[
    list[str] | None,
    typer.Option(
        "-m",
        "--model",
        metavar="NAME",
        show_default="every family",
        help="Family, weights name, checkpoint file, or a full-size network of the papers with "
        "random weights: srcnn-9-5-5-x4, rrdb-23-x4, swinir-s-x4, swinir-m-x4; may be repeated.",
        autocompletion=completion.models,
    ),
]
Sizes = Annotated[
    str,
    typer.Option("--size", metavar="WxH,...", help="Sizes of the input; 128 stands for 128x128."),
]
Dtypes = Annotated[
    str,
    typer.Option("--dtype", metavar="NAME,...", help="fp32, bf16, fp16, or auto; several."),
]
Tile = Annotated[
    str, typer.Option("-t", "--tile", metavar="auto|off|N", help="Tile side in LR pixels.")
]
Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:N, or mps.")]
Backends = Annotated[
    list[str] | None,
    typer.Option(
        "--backend",
        metavar="NAME",
        show_default="all installed",
        help="plain, upscale, onnxruntime, openvino: which to compare; may be repeated. The plain "
        "form always runs: the others are compared with it. (extra bench)",
    ),
]
Rounds = Annotated[int, typer.Option(min=1, help="Timed rounds; each runs every back end once.")]
Threads = Annotated[
    str | None,
    typer.Option(metavar="N,...", show_default="PyTorch's", help="CPU threads to use; several."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object per row on stdout.")]

COLUMNS = (
    Column("model"),
    Column("backend"),
    Column("form", rank=2),
    Column("dtype"),
    Column("threads", "right", rank=1),
    Column("input", "right"),
    Column("tile", "right", rank=4),
    Column("ms", "right"),
    Column("min", "right", rank=3),
    Column("max", "right", rank=3),
    Column("s/MP in", "right", rank=2),
    Column("kpx/s in", "right", rank=4),
    Column("GFLOP/s", "right", rank=1),
    Column("of ceiling", "right", rank=2),
    Column("ratio", "right"),
    Column("difference", "right", rank=1),
    Column("MiB", "right", rank=2),
)


def bench(
    model: Models = None,
    size: Sizes = "128",
    backend: Backends = None,
    device: Device = "auto",
    dtype: Dtypes = "auto",
    tile: Tile = "auto",
    rounds: Rounds = 5,
    threads: Threads = None,
    json_lines: Json = False,
) -> None:
    """Time models beside their plain PyTorch form and other runtimes: medians, round by round."""
    counts = _counts(threads)
    rows = _rows(
        model, _sizes(size), backend, device, dtype.split(","), tile_of(tile), rounds, counts
    )
    if json_lines:
        show_json(row.to_dict() for row in rows)
    else:
        show_table(COLUMNS, [_cells(row) for row in rows])


def _rows(
    models: list[str] | None,
    sizes: list[tuple[int, int]],
    backends: list[str] | None,
    device_name: str,
    dtypes: list[str],
    tile: TileOption,
    rounds: int,
    threads: list[int],
) -> Iterator[Row]:
    from upscale.checkpoints import families
    from upscale.cli.main_job import log_to
    from upscale.device import choose_device
    from upscale.inference import check_options
    from upscale.inference.benchmark import PAPER, benchmark

    log_to(Console())
    check_options(tile, None)
    device = choose_device(device_name)
    for name in models or list(families()) or list(PAPER):
        yield from benchmark(
            name,
            sizes,
            device=device,
            dtypes=dtypes,
            backends=tuple(backends or ()),
            threads=threads,
            tile=tile,
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
    """(height, width) of each size in ``text``: ``128``, ``640x480``, separated by commas."""
    sizes = []
    for part in text.lower().split(","):
        width, _, height = part.strip().partition("x")
        if not width.isdecimal() or not (height or width).isdecimal() or int(width) < 1:
            raise UsageError(f"size {part!r} is no size: give W, or WxH, such as 128 or 640x480")
        sizes.append((int(height or width), int(width)))
    return sizes


def _cells(row: Row) -> list[str]:
    pixels = row.lr_width * row.lr_height
    return [
        row.model,
        row.backend,
        row.form,
        row.dtype,
        str(row.threads),
        f"{row.lr_width}x{row.lr_height}",
        "whole" if row.tile is None else str(row.tile),
        f"{row.seconds_median * 1e3:.1f}",
        f"{row.seconds_min * 1e3:.1f}",
        f"{row.seconds_max * 1e3:.1f}",
        f"{row.seconds_per_megapixel:.1f}",
        f"{pixels / row.seconds_median / 1e3:.1f}",
        f"{row.gflops:.0f}",
        f"{row.share_of_ceiling:.0%}",
        f"x{row.ratio_to_reference:.2f}",
        f"{row.max_rel_diff:.1e}",
        f"{row.peak_rss_mib:.0f}",
    ]
