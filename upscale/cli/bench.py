"""``upscale bench``: how fast models, tiles and precisions run on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from upscale.cli import completion
from upscale.cli.options import tile_of
from upscale.cli.table import Column, show_json, show_table
from upscale.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upscale.inference.benchmark import Row
    from upscale.models import Network

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
Rounds = Annotated[int, typer.Option(min=1, help="Timed rounds; each runs every backend once.")]
Threads = Annotated[
    int | None, typer.Option(min=1, show_default="PyTorch's", help="CPU threads to use.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object per row on stdout.")]

COLUMNS = (
    Column("model"),
    Column("backend"),
    Column("dtype"),
    Column("input", "right"),
    Column("tile", "right", rank=2),
    Column("ms", "right"),
    Column("min", "right", rank=3),
    Column("max", "right", rank=3),
    Column("kpx/s in", "right", rank=1),
    Column("GFLOP/s", "right", rank=1),
    Column("of ceiling", "right", rank=2),
    Column("ratio", "right"),
    Column("difference", "right", rank=1),
    Column("MiB", "right", rank=2),
)


def bench(
    model: Models = None,
    size: Sizes = "128",
    device: Device = "auto",
    dtype: Dtypes = "auto",
    tile: Tile = "auto",
    rounds: Rounds = 5,
    threads: Threads = None,
    json_lines: Json = False,
) -> None:
    """Time models beside their plain PyTorch form: medians of interleaved rounds."""
    rows = _rows(model, _sizes(size), device, dtype.split(","), tile, rounds, threads)
    if json_lines:
        show_json(row.to_dict() for row in rows)
    else:
        show_table(COLUMNS, [_cells(row) for row in rows])


def _rows(
    models: list[str] | None,
    sizes: list[tuple[int, int]],
    device_name: str,
    dtypes: list[str],
    tile: str,
    rounds: int,
    threads: int | None,
) -> Iterator[Row]:
    import torch

    from upscale.checkpoints import families
    from upscale.device import choose_device, choose_dtype, keep_large_blocks
    from upscale.inference import check_options
    from upscale.inference.benchmark import PAPER, benchmark

    keep_large_blocks()
    if threads is not None:
        torch.set_num_threads(threads)
    option = tile_of(tile)
    check_options(option, None)
    device = choose_device(device_name)
    for name in models or list(families()) or list(PAPER):
        network = _network(name)
        chosen = [choose_dtype(dtype, device, network.precisions) for dtype in dtypes]
        for size in sizes:
            yield from benchmark(
                name,
                network,
                size,
                device=device,
                dtypes=tuple(dict.fromkeys(chosen)),
                tile=option,
                rounds=rounds,
            )


def _network(name: str) -> Network:
    from upscale.checkpoints import build, resolve
    from upscale.inference.benchmark import PAPER, paper_network

    return paper_network(name) if name in PAPER else build(resolve(name))


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
        row.dtype,
        f"{row.lr_width}x{row.lr_height}",
        "whole" if row.tile is None else str(row.tile),
        f"{row.seconds_median * 1e3:.1f}",
        f"{row.seconds_min * 1e3:.1f}",
        f"{row.seconds_max * 1e3:.1f}",
        f"{pixels / row.seconds_median / 1e3:.1f}",
        f"{row.gflops:.0f}",
        f"{row.share_of_ceiling:.0%}",
        f"x{row.ratio_to_reference:.2f}",
        f"{row.max_abs_diff:.1e}",
        f"{row.peak_rss_mib:.0f}",
    ]
