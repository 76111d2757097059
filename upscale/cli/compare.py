"""``upscale compare INPUT...``: contact sheet, alpha sweep, HTML page with a slider."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from upscale.cli import options as o
from upscale.cli.console import Column, Console, counting, show_json, show_table
from upscale.errors import UsageError
from upscale.options import between, option

if TYPE_CHECKING:
    from upscale.compare import Row
    from upscale.settings import Settings

PAGES = (".html", ".htm")


@dataclass(frozen=True)
class Comparison:
    """What is shown side by side, and where."""

    output: Path = option(
        Path("comparison.png"),
        "-o, --output FILE",
        "A picture (.png, .jpg, ...) for a contact sheet, .html for a page with a slider.",
    )
    model: list[str] | None = o.MODELS
    scale: int | None = option(
        None, "-s, --scale N", "Whole scale.", shown="the model's", check=between(1, 64)
    )
    alpha: str | None = o.ALPHAS
    crop: list[str] | None = option(
        None,
        "--crop X,Y,W,H",
        "A part, in pixels of the input: one for all inputs, one for each, or several of one "
        "input (repeat the option).",
    )
    hr: Path | None = option(
        None, "--hr FILE|DIR", "Ground truth of the inputs: shown beside them, and scored against."
    )
    against: Path | None = option(
        None,
        "--against DIR",
        "Another program's results, under the names of the inputs: shown beside ours.",
    )
    from_hr: bool = option(
        False, "--from-hr", "The inputs are ground truth: they are downsampled by bicubic first."
    )
    mix: float | None = option(
        None,
        "--mix ALPHA",
        "Set the networks mixed at ALPHA beside the two networks' pictures mixed at ALPHA.",
    )
    zoom: int | None = option(
        None,
        "--zoom N",
        "Repeat every pixel of a sheet.",
        shown="small parts are enlarged",
        check=between(1, 16),
    )
    columns: int | None = option(
        None, "--columns N", "Panels side by side on a sheet.", shown="8", check=between(1, 1000)
    )
    title: str | None = option(None, "--title TEXT", "Headline.", shown="the models")
    json: bool = option(False, "--json", "The figures as one JSON object per panel.")
    overwrite: bool = option(False, "--overwrite", "Replace FILE if it exists.")

    def __post_init__(self) -> None:
        if self.hr is not None and not self.hr.exists():
            raise UsageError(
                f"--hr {str(self.hr)!r} does not exist: give the ground truth, or leave it out"
            )
        if self.against is not None and not self.against.is_dir():
            raise UsageError(
                f"--against {str(self.against)!r} is no folder: give another program's results"
            )


app = typer.Typer(add_completion=False)


@app.command()
@o.spread
def compare(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT", help="Pictures.")],
    *,
    wanted: Comparison,
    computing: o.Computing,
) -> int:
    """Show models, or one model from alpha 0 to 1, side by side, with figures."""
    kind, console = _kind(wanted.output, wanted.overwrite), Console(computing.quiet)
    rows = _rows(console, inputs, wanted, computing)
    _write(kind, rows, wanted)
    _print_figures(rows, wanted.json)
    console.note(f"{wanted.output} written")
    return 0


def _kind(output: Path, overwrite: bool) -> str:
    """``page`` or the name of a picture format; what cannot be written is refused before work."""
    from upscale.files import refuse_existing
    from upscale.image import format_of

    kind = "page" if output.suffix.lower() in PAGES else format_of(output.name)
    refuse_existing(output, overwrite)
    return kind


def _combinations(wanted: Comparison, settings: Settings) -> list[Settings]:
    from upscale.checkpoints.index import BICUBIC
    from upscale.evaluate import combinations, parse_alphas

    models, alpha, mix = wanted.model or ["esrgan"], wanted.alpha, wanted.mix
    if mix is not None and (alpha is not None or len(models) > 1):
        raise UsageError("--mix compares one pair at alpha 0, ALPHA and 1: give one --model alone")
    if mix is not None and not 0 < mix < 1:
        raise UsageError(f"--mix {mix:g} mixes nothing: give a number between 0 and 1")
    alphas = [0.0, mix, 1.0] if mix is not None else parse_alphas(alpha) if alpha else []
    others = [name for name in models if name != BICUBIC]  # it is always there
    if not others:
        raise UsageError("bicubic alone compares nothing: give a --model")
    return combinations(others, [wanted.scale], alphas, (), settings)


def _rows(
    console: Console, inputs: list[Path], wanted: Comparison, computing: o.Computing
) -> list[Row]:
    """Load, run, and count, with a bar on a terminal."""
    from upscale.compare import Crop, subjects
    from upscale.compare import compare as run
    from upscale.evaluate import load_candidate, load_draws

    choice, device = _combinations(wanted, computing.settings), computing.device
    parts = [Crop.parse(text) for text in wanted.crop or []]
    scale = round(choice[0].scale or load_candidate(choice[0], device).scale)
    shown = subjects(
        inputs, scale, crops=parts, hr=wanted.hr, from_hr=wanted.from_hr, against=wanted.against
    )
    theirs = "" if wanted.against is None else wanted.against.resolve().name
    candidates = (c for one in choice for c in load_draws(replace(one, scale=scale), device))
    with counting(console, len(shown) * (len(choice) + 1), "panels") as step:
        return run(shown, candidates, scale, mix=wanted.mix, theirs=theirs, step=step)


def _write(kind: str, rows: list[Row], wanted: Comparison) -> None:
    from upscale.compare import contact_sheet, html_page
    from upscale.files import write_bytes
    from upscale.image import Image, encode

    title = wanted.title or f"{', '.join(wanted.model or ['esrgan'])}, x{rows[0].scale}"
    if kind == "page":
        data = html_page(rows, title=title).encode()
    else:
        sheet = contact_sheet(rows, title=title, zoom=wanted.zoom, columns=wanted.columns)
        data = encode(Image(sheet), kind)
    write_bytes(wanted.output, [data], overwrite=wanted.overwrite)


def _print_figures(rows: list[Row], json_lines: bool) -> None:
    if json_lines:
        show_json(record for row in rows for record in row.records())
        return
    panels = [("" if k else r.subject.name, p) for r in rows for k, p in enumerate(r.panels)]
    lines = [(name, panel.label, *panel.figures.cells().values()) for name, panel in panels]
    headings = list(panels[0][1].figures.cells())
    columns = [Column("picture", wrap=True), Column("", wrap=True)]
    columns += [Column(h, align="right", rank=int(h.startswith("mean"))) for h in headings]
    show_table(columns, lines)
