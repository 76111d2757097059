"""``upscale weights``: list, look into, verify, fetch, convert, blend and export checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upscale.cli.console import Column, Console, count_text, show_json, show_table, size_text
from upscale.cli.options import complete_published, complete_weights
from upscale.errors import UsageError

if TYPE_CHECKING:
    from upscale.checkpoints import Checkpoint, Saved, WeightsFile

app = typer.Typer(
    add_completion=False,
    help="List, look into, verify, fetch, convert, blend and export checkpoints.",
)

Name = Annotated[
    str,
    typer.Argument(
        help="A family, a weights name, or a checkpoint file.", autocompletion=complete_weights
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")]
Half = Annotated[bool, typer.Option("--half", help="Store as float16: half the size, rounded.")]
Scale = Annotated[
    int | None,
    typer.Option("--scale", "-s", min=1, help="Scale, where no layer tells it (SRCNN; x3 or x2)."),
]
ImgRange = Annotated[
    float | None, typer.Option("--img-range", help="SwinIR's value range: 1, or 255 (JPEG nets).")
]

LIST = (
    Column("weights", lambda e: e.name),
    Column("network", lambda e: e.architecture, rank=1),
    Column("scale", lambda e: f"x{e.scale}", "right"),
    Column("parameters", lambda e: count_text(e.parameters), "right", rank=2),
    Column("size", lambda e: size_text(e.bytes), "right"),
    Column("where", lambda e: e.origin),
    Column("licence", lambda e: e.license, rank=3, wrap=True),
    Column("sha256", lambda e: e.sha256[:16], rank=4),
)
PAIRS = (Column(""), Column("", wrap=True))
VERIFIED = (
    Column("weights", lambda r: r.name),
    Column("status", lambda r: r.status),
    Column("sha256", lambda r: r.sha256[:16], rank=1),
    Column("", lambda r: r.detail, wrap=True),
)


@app.command("list")
def list_weights(json: Json = False) -> None:
    """List the weights on this machine: embedded ones and those that were fetched."""
    from upscale.checkpoints import entries

    rows = entries()
    if json:
        show_json(_entry_row(entry) for entry in rows)
    else:
        show_table(LIST, rows)


def _entry_row(entry: WeightsFile) -> dict[str, Any]:
    row = {k: v for k, v in asdict(entry).items() if v not in ("", {}, 0, False)}
    row.pop("channels", None)  # said of published ones alone
    return {**row, "path": str(entry.path), "scores": dict(entry.scores)}


@app.command()
def info(file: Name, scale: Scale = None, img_range: ImgRange = None, json: Json = False) -> None:
    """Show what a checkpoint is: network, sizes, origin, licence. Foreign files are recognised."""
    from upscale.checkpoints import Hints, load

    description = _description(load(file, Hints(scale, img_range)))
    if json:
        show_json([description])
    else:
        show_table(PAIRS, [(k, v) for k, v in _lines(description) if v])


def _description(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "name": checkpoint.name,
        "path": str(checkpoint.path),
        "architecture": checkpoint.architecture,
        "scale": checkpoint.scale,
        "channels": checkpoint.channels,
        "parameters": checkpoint.parameters,
        "tensors": len(checkpoint.state),
        "layout": checkpoint.layout,
        "rules": list(checkpoint.rules),
        "sha256": checkpoint.sha256,
        "config": asdict(checkpoint.config),
        "metadata": {k: v for k, v in asdict(checkpoint.metadata).items() if v},
    }


def _lines(description: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Pairs for people; what configuration and metadata repeat is shown once."""
    for key, value in description.items():
        if isinstance(value, dict):
            yield from ((k, str(v)) for k, v in value.items() if k not in description)
        elif isinstance(value, list):
            yield key, "; ".join(value)
        else:
            yield key, f"{value:,}" if key == "parameters" else str(value)


@app.command()
def verify(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE", help="Weights names or files.", autocompletion=complete_weights
        ),
    ] = None,
    json: Json = False,
) -> int:
    """Compare files with the SHA-256 of their index or header; without names, all there are."""
    from upscale.checkpoints.files import check, check_all

    results = [check(file) for file in files] if files else check_all()
    if json:
        show_json(asdict(result) for result in results)
    else:
        show_table(VERIFIED, results)
    return 1 if any(result.status == "failed" for result in results) else 0


@app.command()
def pull(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME", help="See 'upscale models'.", autocompletion=complete_published
        ),
    ],
    offline: Annotated[
        bool, typer.Option("--offline", help="Never touch the network; cached files only.")
    ] = False,
    url: Annotated[
        str | None, typer.Option("--url", help="Another address of the same file.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Fetch it again.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only errors.")] = False,
    json: Json = False,
) -> None:
    """Fetch published checkpoints into the cache, verify them, and convert them to safetensors.

    The name of a family fetches all of it.
    """
    from upscale.checkpoints import pull as fetch
    from upscale.checkpoints.index import members

    console = Console(quiet=quiet)
    chosen = [entry for name in names for entry in members(name)]
    if url and len(chosen) > 1:
        raise UsageError(f"--url is the address of one checkpoint, not {len(chosen)}; name one")
    progress = not quiet and Console.is_terminal()
    for published in chosen:
        console.note(_announcement(published))
        entry = fetch(published, url=url, offline=offline, overwrite=overwrite, progress=progress)
        console.note(f"{entry.name}: verified, in {entry.path}")
        if json:
            show_json([_entry_row(entry)])


def _announcement(published: WeightsFile) -> str:
    size = f", {size_text(published.bytes)}" if published.bytes else ""
    proof = "" if published.sha256 else "; no whole SHA-256 is published for it"
    note = f"; {published.note}" if published.note else ""
    return f"{published.name}: {published.title}{size}; licence {published.license}{proof}{note}"


@app.command()
def convert(
    src: Annotated[
        Path, typer.Argument(help=".pth, .pt, .tar, .ckpt, .mat, .param, .safetensors.")
    ],
    dst: Annotated[Path, typer.Argument(help="The .safetensors file to write.")],
    scale: Scale = None,
    img_range: ImgRange = None,
    title: Annotated[str, typer.Option(help="Title for the header.")] = "",
    license: Annotated[str, typer.Option(help="Licence for the header.")] = "",  # noqa: A002
    half: Half = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Convert a checkpoint to self-describing safetensors; nothing of a pickle is ever run."""
    from upscale.checkpoints import CheckpointInfo, Hints
    from upscale.checkpoints import convert as write

    given = CheckpointInfo(title=title, license=license) if title or license else None
    hints = Hints(scale, img_range)
    done = write(src, dst, hints=hints, metadata=given, half=half, overwrite=overwrite)
    _report(done.checkpoint, done.saved, json)


def _report(checkpoint: Checkpoint, saved: Saved, json: bool) -> None:
    """What was written: a line on stderr, or the description as JSON on stdout."""
    if json:
        wrote = {"path": str(saved.path), "sha256": saved.sha256, "bytes": saved.bytes}
        show_json([{**_description(checkpoint), **wrote}])
        return
    console = Console()
    for rule in checkpoint.rules:
        console.note(f"note: {rule}")
    console.note(
        f"{saved.path}: {checkpoint.architecture} x{checkpoint.scale}, "
        f"{count_text(checkpoint.parameters)} parameters, {size_text(saved.bytes)}, "
        f"SHA-256 {saved.sha256[:16]}…"
    )


@app.command()
def blend(
    parts: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME=SHARE",
            help="Such as esrgan-psnr-x4=0.2 esrgan-gan-x4=0.8.",
            autocompletion=complete_weights,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DST", help="What to write.")],
    half: Half = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Interpolate between checkpoints of one layout; the shares sum to 1."""
    from upscale.checkpoints import blend as mean
    from upscale.checkpoints import load, save
    from upscale.files import refuse_existing

    refuse_existing(output, overwrite)
    names, shares = zip(*map(_part, parts), strict=True)
    blended = mean([load(name) for name in names], shares)
    _report(blended, save(output, blended, half=half, overwrite=overwrite), json)


@app.command()
def export(
    name: Name,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DST", help="The .onnx file.")],
    alpha: Annotated[float | None, typer.Option(help="As in the main job.")] = None,
    denoise: Annotated[float | None, typer.Option(help="As in the main job.")] = None,
    scale: Annotated[
        float | None, typer.Option("--scale", "-s", help="Chooses among a family's networks.")
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write a network as ONNX, for other runtimes; batch, height and width stay open.

    Input lr and output sr are N x C x H x W, float32 in [0, 1].
    """
    from upscale.checkpoints import export_onnx, resolve

    checkpoint = resolve(name, alpha=alpha, denoise=denoise, scale=scale)
    _report(checkpoint, export_onnx(checkpoint, output, overwrite=overwrite), json)


def _part(text: str) -> tuple[str, float]:
    """``NAME=SHARE`` as a pair; the name may hold ``=`` itself."""
    name, _, share = text.rpartition("=")
    try:
        if not name:
            raise ValueError
        return name, float(share)
    except ValueError as error:
        raise UsageError(
            f"{text!r} is no NAME=SHARE such as esrgan-psnr-x4=0.2; give a share to each"
        ) from error
