"""``upscale compare INPUT...``: contact sheet, alpha sweep, HTML page with a slider."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from upscale.cli import options as o
from upscale.cli.console import Console
from upscale.cli.table import Column, show_json, show_table
from upscale.errors import UsageError

if TYPE_CHECKING:
    from upscale.compare import Figures, Row
    from upscale.settings import Settings

PAGES = (".html", ".htm")
COLUMNS = (
    Column("picture", wrap=True),
    Column("", wrap=True),
    Column("PSNR", "right"),
    Column("SSIM", "right"),
    Column("LR PSNR", "right"),
    Column("gradient", "right"),
    Column("mean R, G, B", "right", rank=1),
    Column("shift", "right"),
)

Inputs = Annotated[list[Path], typer.Argument(metavar="INPUT", help="Pictures.")]
Output = Annotated[
    Path,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        help="A picture (.png, .jpg, ...) for a contact sheet, .html for a page with a slider.",
    ),
]
Scale = Annotated[
    int | None,
    typer.Option(
        "-s", "--scale", metavar="N", min=1, max=64, show_default="the model's", help="Whole scale."
    ),
]
Crops = Annotated[
    list[str] | None,
    typer.Option(
        "--crop",
        metavar="X,Y,W,H",
        show_default=False,
        help="A part, in pixels of the input: one for all inputs, one for each, or several of one "
        "input (repeat the option).",
    ),
]
Hr = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE|DIR",
        show_default=False,
        help="Ground truth of the inputs: shown beside them, and scored against.",
    ),
]
FromHr = Annotated[
    bool,
    typer.Option(
        "--from-hr", help="The inputs are ground truth: they are downsampled by bicubic first."
    ),
]
Mix = Annotated[
    float | None,
    typer.Option(
        metavar="ALPHA",
        show_default=False,
        help="Set the networks mixed at ALPHA beside the two networks' pictures mixed at ALPHA.",
    ),
]
Zoom = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        max=16,
        show_default="small parts are enlarged",
        help="Repeat every pixel of a sheet.",
    ),
]
Columns = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, show_default="8", help="Panels side by side on a sheet."),
]
Title = Annotated[
    str | None, typer.Option(metavar="TEXT", show_default="the models", help="Headline.")
]
Json = Annotated[bool, typer.Option("--json", help="The figures as one JSON object per panel.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace FILE if it exists.")]


@o.flat
def compare(
    inputs: Inputs,
    output: Output = Path("comparison.png"),
    model: o.Models = None,
    scale: Scale = None,
    alpha: o.Alphas = None,
    crop: Crops = None,
    hr: Hr = None,
    from_hr: FromHr = False,
    mix: Mix = None,
    zoom: Zoom = None,
    columns: Columns = None,
    title: Title = None,
    json_lines: Json = False,
    overwrite: Overwrite = False,
    *,
    computing: o.Computing,
) -> int:
    """Show models, or one model from alpha 0 to 1, side by side, with figures."""
    kind = _kind(output, overwrite)
    if hr is not None and not hr.exists():
        raise UsageError(f"--hr {str(hr)!r} does not exist: give the ground truth, or leave it out")
    choice = _combinations(model or ["esrgan"], scale, alpha, mix, computing.settings)
    console, crops = Console(computing.quiet), crop or []
    rows = _rows(
        console, inputs, choice, computing.device, crops=crops, hr=hr, from_hr=from_hr, mix=mix
    )
    headline = title or f"{', '.join(model or ['esrgan'])}, x{rows[0].scale}"
    _write(output, kind, rows, headline, zoom=zoom, columns=columns, overwrite=overwrite)
    _print_figures(rows, json_lines)
    console.note(f"{output} written")
    return 0


def _kind(output: Path, overwrite: bool) -> str:
    """``page`` or the name of a picture format; what cannot be written is refused before work."""
    from upscale.files import refuse_existing
    from upscale.image import format_of

    kind = "page" if output.suffix.lower() in PAGES else format_of(output.name)
    refuse_existing(output, overwrite)
    return kind


def _combinations(
    models: list[str], scale: int | None, alpha: str | None, mix: float | None, settings: Settings
) -> list[Settings]:
    from upscale.evaluate import BICUBIC, combinations, parse_alphas

    if mix is not None and (alpha is not None or len(models) > 1):
        raise UsageError("--mix compares one pair at alpha 0, ALPHA and 1: give one --model alone")
    if mix is not None and not 0 < mix < 1:
        raise UsageError(f"--mix {mix:g} mixes nothing: give a number between 0 and 1")
    alphas = [0.0, mix, 1.0] if mix is not None else parse_alphas(alpha) if alpha else []
    wanted = [name for name in models if name != BICUBIC]  # it is always there
    return combinations(wanted, [scale], alphas, (), settings) if wanted else []


def _rows(
    console: Console,
    inputs: list[Path],
    choice: list[Settings],
    device: str,
    *,
    crops: list[str],
    hr: Path | None,
    from_hr: bool,
    mix: float | None,
) -> list[Row]:
    """Load, run, and count, with a bar on a terminal."""
    from dataclasses import replace

    from upscale.cli.bar import counting
    from upscale.compare import Crop, subjects
    from upscale.compare import compare as run
    from upscale.evaluate import load_candidate, load_draws

    if not choice:
        raise UsageError("bicubic alone compares nothing: give a --model")
    parts = [Crop.parse(text) for text in crops]
    scale = round(choice[0].scale or load_candidate(choice[0], device).scale)
    shown = subjects(inputs, scale, crops=parts, hr=hr, from_hr=from_hr)
    candidates = (c for one in choice for c in load_draws(replace(one, scale=scale), device))
    with counting(console, len(shown) * (len(choice) + 1), "panels") as step:
        return run(shown, candidates, scale, mix=mix, step=step)


def _write(
    output: Path,
    kind: str,
    rows: list[Row],
    title: str,
    *,
    zoom: int | None,
    columns: int | None,
    overwrite: bool,
) -> None:
    from upscale.compare import contact_sheet, html_page
    from upscale.files import write_bytes
    from upscale.image import Image, encode

    if kind == "page":
        data = html_page(rows, title=title).encode()
    else:
        data = encode(Image(contact_sheet(rows, title=title, zoom=zoom, columns=columns)), kind)
    write_bytes(output, [data], overwrite=overwrite)


def _print_figures(rows: list[Row], json_lines: bool) -> None:
    if json_lines:
        show_json(record for row in rows for record in row.records())
        return
    lines = [
        ("" if k else row.subject.name, panel.label, *_cells(panel.figures))
        for row in rows
        for k, panel in enumerate(row.panels)
    ]
    show_table(COLUMNS, lines)


def _cells(figures: Figures) -> tuple[str, ...]:
    from upscale.compare import written

    return (
        written(figures.psnr_y, 2),
        written(figures.ssim_y, 4),
        written(figures.lr_consistency, 2),
        written(figures.mean_gradient, 2),
        ", ".join(f"{c:.1f}" for c in figures.mean_colour),
        written(figures.colour_shift, 2),
    )
