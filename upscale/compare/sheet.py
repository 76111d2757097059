"""Draw rows of panels as one picture: a contact sheet with labels and figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image as Canvas
from PIL import ImageDraw, ImageFont
from PIL.ImageFont import FreeTypeFont

from upscale.compare.figures import Figures, Pixels, written
from upscale.compare.rows import Panel, Row
from upscale.errors import UsageError

MAX_SHEET = 2**27  # pixels
SMALLEST_CELL = 176  # pixels; smaller parts are enlarged by whole factors
MAX_COLUMNS = 8
PAD = 12
TITLE, LABEL, SMALL = 18, 15, 12  # font sizes in pixels
LEADING = 5  # pixels between lines
GAP = 3  # pixels more between a label and its panel
PAPER, INK, FAINT = (246, 246, 244), (28, 28, 30), (104, 104, 108)
SCORED = "dB and SSIM: on Y against the ground truth. "
LEGEND = (
    "gradient: mean gradient magnitude of Y, in levels per pixel. "
    "LR: PSNR on Y between the input and the result downsampled again."
)

# Fonts with wide coverage, for names that the font inside Pillow has no letters for.
_WIDE = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "arial.ttf")


@dataclass(frozen=True)
class Layout:
    """Where things stand on a sheet.

    Attributes:
        columns: Panels beside each other.
        zoom: Whole factor by which each pixel is repeated, for each row.
        cell: Width of a column in pixels.
        lines: Lines of figures below a panel.
    """

    columns: int
    zoom: tuple[int, ...]
    cell: int
    lines: int


def contact_sheet(
    rows: Sequence[Row], *, title: str = "", zoom: int | None = None, columns: int | None = None
) -> Pixels:
    """Draw the panels of every row beside each other.

    Args:
        rows: From ``compare``.
        title: Headline.
        zoom: Repeat every pixel so many times; None enlarges small parts until they can be seen.
        columns: Panels beside each other before the next line; None for up to 8.

    Returns:
        (H, W, 3) uint8.

    Raises:
        UsageError: The sheet would have more than 134 million pixels, or there is nothing on it.
    """
    if not rows:
        raise UsageError("there is nothing to draw: give at least one picture")
    layout = _layout(rows, zoom, columns)
    width = PAD + layout.columns * (layout.cell + PAD)
    head = _wrapped(title, TITLE, width - 2 * PAD) if title else []
    scored = any(panel.figures.psnr_y is not None for row in rows for panel in row.panels)
    legend = _wrapped((SCORED if scored else "") + LEGEND, SMALL, width - 2 * PAD)
    top = PAD + len(head) * _line(TITLE) + len(legend) * _line(SMALL) + PAD
    height = top + sum(
        _row_height(row, z, layout) for row, z in zip(rows, layout.zoom, strict=True)
    )
    if width * height > MAX_SHEET:
        raise UsageError(
            f"the sheet would have {width}x{height} pixels: cut parts out with --crop, or write an "
            ".html page"
        )
    canvas = Canvas.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(canvas)
    y = _write(pen, (PAD, PAD), head, TITLE, INK)
    _write(pen, (PAD, y), legend, SMALL, FAINT)
    for row, z in zip(rows, layout.zoom, strict=True):
        _draw_row(canvas, pen, row, z, layout, top)
        top += _row_height(row, z, layout)
    return np.asarray(canvas)


def _layout(rows: Sequence[Row], zoom: int | None, columns: int | None) -> Layout:
    widest = max(len(row.panels) for row in rows)
    zooms = tuple(zoom or _zoom_of(row) for row in rows)
    pictures = max(row.panels[0].width * z for row, z in zip(rows, zooms, strict=True))
    texts = [p.label for row in rows for p in row.panels]
    wanted = [_width(text, LABEL) for text in texts]
    small = [line for row in rows for p in row.panels for line in caption(p.figures)]
    wanted += [_width(line, SMALL) for line in small]
    lines = max(len(caption(p.figures)) for row in rows for p in row.panels)
    return Layout(
        min(columns or MAX_COLUMNS, widest),
        zooms,
        max(pictures, math.ceil(min(max(wanted), 2 * SMALLEST_CELL))),
        lines,
    )


def _zoom_of(row: Row) -> int:
    panel = row.panels[0]
    return max(1, -(-SMALLEST_CELL // max(panel.height, panel.width)))


def caption(figures: Figures) -> list[str]:
    """The figures in short lines."""
    lines = []
    if figures.psnr_y is not None:
        ssim = "" if figures.ssim_y is None else f"   SSIM {figures.ssim_y:.4f}"
        lines.append(f"{written(figures.psnr_y, 2)} dB{ssim}")
    known = figures.lr_consistency is not None and math.isfinite(figures.lr_consistency)
    lr = f"   LR {figures.lr_consistency:.1f} dB" if known else ""
    lines.append(f"gradient {figures.mean_gradient:.2f}{lr}")
    return lines


def _row_height(row: Row, zoom: int, layout: Layout) -> int:
    bands = -(-len(row.panels) // layout.columns)
    return _line(LABEL) + PAD // 2 + bands * _band_height(row, zoom, layout) + PAD


def _band_height(row: Row, zoom: int, layout: Layout) -> int:
    return (
        _line(LABEL)
        + GAP
        + row.panels[0].height * zoom
        + LEADING
        + layout.lines * _line(SMALL)
        + PAD
    )


def _draw_row(
    canvas: Canvas.Image, pen: ImageDraw.ImageDraw, row: Row, zoom: int, layout: Layout, top: int
) -> None:
    name = f"{row.subject.name}   {row.panels[0].width}x{row.panels[0].height}"
    pen.line((PAD, top - PAD // 2, canvas.width - PAD, top - PAD // 2), fill=(214, 214, 212))
    room = canvas.width - 2 * PAD
    _write(pen, (PAD, top), [_fitted(name, LABEL, room)], LABEL, FAINT)
    top += _line(LABEL) + PAD // 2
    for k, panel in enumerate(row.panels):
        band, column = divmod(k, layout.columns)
        left = PAD + column * (layout.cell + PAD)
        _draw_panel(
            canvas, pen, panel, zoom, layout, (left, top + band * _band_height(row, zoom, layout))
        )


def _draw_panel(
    canvas: Canvas.Image,
    pen: ImageDraw.ImageDraw,
    panel: Panel,
    zoom: int,
    layout: Layout,
    at: tuple[int, int],
) -> None:
    left, top = at
    top = _write(pen, (left, top), [_fitted(panel.label, LABEL, layout.cell)], LABEL, INK)
    top += GAP
    pixels = panel.pixels.repeat(zoom, 0).repeat(zoom, 1)
    canvas.paste(Canvas.fromarray(pixels), (left, top))
    below = top + pixels.shape[0] + LEADING
    lines = [_fitted(line, SMALL, layout.cell) for line in caption(panel.figures)]
    _write(pen, (left, below), lines, SMALL, FAINT)


# --- text -----------------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def _wide_font(size: int) -> FreeTypeFont | None:
    """A font of the system's with letters beyond ASCII, where there is one."""
    for name in _WIDE:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return None


@lru_cache(maxsize=16)
def _own_font(size: int) -> FreeTypeFont | ImageFont.ImageFont:
    """The font inside Pillow, which has ASCII letters."""
    return ImageFont.load_default(size)


def _set_in(text: str, size: int) -> tuple[str, FreeTypeFont | ImageFont.ImageFont]:
    """``text`` as it can be drawn (with ``?`` for what no font here has), and its font."""
    visible = "".join(c if c.isprintable() else "?" for c in text)
    wide = None if visible.isascii() else _wide_font(size)
    if wide is not None:
        return visible, wide
    return visible.encode("ascii", "replace").decode(), _own_font(size)


def _line(size: int) -> int:
    return size + LEADING


def _width(text: str, size: int) -> float:
    visible, font = _set_in(text, size)
    return float(font.getlength(visible))


def _write(
    pen: ImageDraw.ImageDraw,
    at: tuple[int, int],
    lines: Sequence[str],
    size: int,
    fill: tuple[int, int, int],
) -> int:
    """Write lines below each other; return the y below them."""
    x, y = at
    for line in lines:
        visible, font = _set_in(line, size)
        pen.text((x, y), visible, fill=fill, font=font)
        y += _line(size)
    return y


def _fitted(text: str, size: int, width: float) -> str:
    """``text``, its middle left out where it is wider than ``width``."""
    if _width(text, size) <= width:
        return text
    keep = len(text)
    while keep > 1:
        keep -= 1
        short = f"{text[: keep - keep // 2]}...{text[len(text) - keep // 2 :]}"
        if _width(short, size) <= width:
            return short
    return text[:1]


def _wrapped(text: str, size: int, width: float) -> list[str]:
    """``text`` broken between words into lines of at most ``width`` pixels."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and _width(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(_fitted(word, size, width))
    return lines
