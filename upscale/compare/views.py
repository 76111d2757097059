"""Rows of panels for people: a contact sheet, which is one picture, or one HTML file."""

from __future__ import annotations

import base64
import hashlib
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from html import escape
from importlib import resources
from string import Template

import numpy as np
from PIL import Image as Canvas
from PIL import ImageDraw, ImageFont
from PIL.ImageFont import FreeTypeFont

from upscale.compare.rows import TRUTH, Figures, Panel, Row
from upscale.compare.subjects import Pixels
from upscale.errors import UsageError
from upscale.image import Image, encode

Ink = tuple[int, int, int]  # R, G, B

MAX_SHEET = 2**27  # pixels
SMALLEST_CELL = 176  # pixels; smaller parts are enlarged by whole factors
MAX_COLUMNS = 8
PAD = 12
TITLE, LABEL, SMALL = 18, 15, 12  # font sizes in pixels
LEADING = 5  # pixels between lines
GAP = 3  # pixels more between a label and its panel
PAPER, INK, FAINT, RULE = (246, 246, 244), (28, 28, 30), (104, 104, 108), (214, 214, 212)
SCORED = "dB and SSIM: on Y against the ground truth. "
LEGEND = (
    "gradient: mean gradient magnitude of Y, in levels per pixel. "
    "LR: PSNR on Y between the input and the result downsampled again."
)

ZOOMS = (("0", "fit width"), ("1", "1:1"), ("2", "2:1"), ("4", "4:1"), ("8", "8:1"))  # of a page

# Fonts with wide coverage, for names that the font inside Pillow has no letters for.
_WIDE = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "arial.ttf")


@dataclass
class Sheet:
    """What stands where, before there is a canvas for it."""

    width: int
    bottom: int = PAD  # where the next thing goes; the height in the end
    # Left, top, text, size and colour; left, top, pixels and how often each is repeated; tops of
    # the lines between rows.
    texts: list[tuple[int, int, str, int, Ink]] = field(default_factory=list)
    panels: list[tuple[int, int, Pixels, int]] = field(default_factory=list)
    rules: list[int] = field(default_factory=list)

    def write(self, lines: Sequence[str], size: int, colour: Ink, left: int = PAD) -> None:
        """Put lines below each other."""
        for line in lines:
            self.texts.append((left, self.bottom, line, size, colour))
            self.bottom += size + LEADING

    def drawn(self) -> Pixels:
        """The sheet as a picture."""
        canvas = Canvas.new("RGB", (self.width, self.bottom), PAPER)
        pen = ImageDraw.Draw(canvas)
        for top in self.rules:
            pen.line((PAD, top, self.width - PAD, top), fill=RULE)
        for left, top, pixels, zoom in self.panels:
            canvas.paste(Canvas.fromarray(pixels.repeat(zoom, 0).repeat(zoom, 1)), (left, top))
        for left, top, text, size, colour in self.texts:
            visible, font = _set_in(text, size)
            pen.text((left, top), visible, fill=colour, font=font)
        return np.asarray(canvas)


def contact_sheet(
    rows: Sequence[Row], *, title: str = "", zoom: int | None = None, columns: int | None = None
) -> Pixels:
    """Draw the panels of every row beside each other, at most ``columns``: (H, W, 3) uint8.

    Every pixel is repeated ``zoom`` times; None enlarges small parts until they can be seen.

    Raises:
        UsageError: The sheet would have more than 134 million pixels, or there is nothing on it.
    """
    if not rows:
        raise UsageError("there is nothing to draw: give at least one picture")
    panels = [panel for row in rows for panel in row.panels]
    # 1. The columns are as wide as the widest panel, and as their texts within limits.
    shown = [row.panels[0] for row in rows]
    zooms = [zoom or max(1, -(-SMALLEST_CELL // max(p.height, p.width))) for p in shown]
    widest = max(panel.width * z for panel, z in zip(shown, zooms, strict=True))
    texts = [_width(panel.label, LABEL) for panel in panels]
    texts += [_width(line, SMALL) for panel in panels for line in caption(panel.figures)]
    cell = max(widest, math.ceil(min(max(texts), 2 * SMALLEST_CELL)))
    count = min(columns or MAX_COLUMNS, max(len(row.panels) for row in rows))
    # 2. Title and legend, then row below row.
    sheet = Sheet(PAD + count * (cell + PAD))
    room = sheet.width - 2 * PAD
    sheet.write(_wrapped(title, TITLE, room), TITLE, INK)
    scored = any(panel.figures.psnr_y is not None for panel in panels)
    sheet.write(_wrapped((SCORED if scored else "") + LEGEND, SMALL, room), SMALL, FAINT)
    sheet.bottom += PAD
    for row, z in zip(rows, zooms, strict=True):
        _place_row(sheet, row, z, cell, count)
    # 3. Nothing is drawn before the size is known.
    if sheet.width * sheet.bottom > MAX_SHEET:
        raise UsageError(
            f"the sheet would have {sheet.width}x{sheet.bottom} pixels: cut parts out with --crop, "
            "or write an .html page"
        )
    return sheet.drawn()


def _place_row(sheet: Sheet, row: Row, zoom: int, cell: int, columns: int) -> None:
    """The name of a row, then its panels in bands of ``columns``."""
    name = f"{row.subject.name}   {row.panels[0].width}x{row.panels[0].height}"
    sheet.rules.append(sheet.bottom - PAD // 2)
    sheet.write([_fitted(name, LABEL, sheet.width - 2 * PAD)], LABEL, FAINT)
    sheet.bottom += PAD // 2
    for first in range(0, len(row.panels), columns):
        band = row.panels[first : first + columns]
        top, ends = sheet.bottom, []
        for place, panel in enumerate(band):
            left, sheet.bottom = PAD + place * (cell + PAD), top
            sheet.write([_fitted(panel.label, LABEL, cell)], LABEL, INK, left)
            sheet.panels.append((left, sheet.bottom + GAP, panel.pixels, zoom))
            sheet.bottom += GAP + panel.height * zoom + LEADING
            lines = [_fitted(line, SMALL, cell) for line in caption(panel.figures)]
            sheet.write(lines, SMALL, FAINT, left)
            ends.append(sheet.bottom)
        sheet.bottom = max(ends) + PAD
    sheet.bottom += PAD


def caption(figures: Figures) -> list[str]:
    """The figures in short lines."""
    cells, lines = figures.cells(), []
    if cells["PSNR"]:
        ssim = f"   SSIM {cells['SSIM']}" if cells["SSIM"] else ""
        lines.append(f"{cells['PSNR']} dB{ssim}")
    known = figures.lr_consistency is not None and math.isfinite(figures.lr_consistency)
    lr = f"   LR {figures.lr_consistency:.1f} dB" if known else ""
    lines.append(f"gradient {cells['gradient']}{lr}")
    return lines


# --- text -----------------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def _font(size: int, wide: bool) -> FreeTypeFont | ImageFont.ImageFont | None:
    """The font inside Pillow, which has ASCII letters, or a font of the system's with more."""
    if not wide:
        return ImageFont.load_default(size)
    for name in _WIDE:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return None


def _set_in(text: str, size: int) -> tuple[str, FreeTypeFont | ImageFont.ImageFont]:
    """``text`` as it can be drawn (with ``?`` for what no font here has), and its font."""
    visible = "".join(c if c.isprintable() else "?" for c in text)
    font = None if visible.isascii() else _font(size, wide=True)
    if font is None:
        visible, font = visible.encode("ascii", "replace").decode(), _font(size, wide=False)
    assert font is not None
    return visible, font


def _width(text: str, size: int) -> float:
    visible, font = _set_in(text, size)
    return float(font.getlength(visible))


def _fitted(text: str, size: int, width: float) -> str:
    """``text``, its middle left out where it is wider than ``width``."""
    if _width(text, size) <= width:
        return text

    def short(keep: int) -> str:
        return f"{text[: keep - keep // 2]}...{text[len(text) - keep // 2 :]}"

    fitting = bisect_right(range(1, len(text)), width, key=lambda keep: _width(short(keep), size))
    return short(fitting) if fitting else text[:1]


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


# --- one HTML file --------------------------------------------------------------------------------


def html_page(rows: Sequence[Row], *, title: str = "Comparison") -> str:
    """An HTML page that needs no network: pictures, style and script stand in it.

    The content security policy allows the page's own style and script (by their hashes) and
    pictures that stand in the page, nothing else. Every name is escaped.

    Raises:
        UsageError: There is nothing to show.
    """
    if not rows:
        raise UsageError("there is nothing to show: give at least one picture")
    style, script = _asset("page.css"), _asset("page.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; "
        f"script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    return Template(_asset("page.html")).substitute(
        policy=policy,
        title=escape(title),
        style=style,
        sections="\n".join(_section(row, f"subject-{k}") for k, row in enumerate(rows)),
        script=script,
    )


def _asset(name: str) -> str:
    return resources.files("upscale.compare").joinpath(name).read_text("utf-8")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _hash(text: str) -> str:
    return f"'sha256-{_base64(hashlib.sha256(text.encode()).digest())}'"


def _section(row: Row, key: str) -> str:
    labels = [(panel.label, panel.label) for panel in row.panels]
    networks = [k for k, panel in enumerate(row.panels) if panel.model != TRUTH]
    # Of the figures those that any panel has, a line a panel.
    lines = [panel.figures.cells() for panel in row.panels]
    headings = [heading for heading in lines[0] if any(cells[heading] for cells in lines)]
    body = [
        f'<tr><th scope="row">{escape(panel.label)}</th>'
        + "".join(f"<td>{cells[heading]}</td>" for heading in headings)
        + "</tr>"
        for panel, cells in zip(row.panels, lines, strict=True)
    ]
    return Template(_asset("section.html").rstrip()).substitute(
        key=key,
        name=escape(row.subject.name),
        scale=row.scale,
        width=row.panels[0].width,
        height=row.panels[0].height,
        left=_select("Left", "choose-left", labels, 0),
        right=_select("Right", "choose-right", labels, networks[-1]),
        zoom=_select("Zoom", "choose-zoom", ZOOMS, 1),
        figures="\n".join(map(_figure, row.panels)),
        head="".join(f'<th scope="col">{heading}</th>' for heading in headings),
        body="\n".join(body),
    )


def _select(label: str, name: str, options: Sequence[tuple[str, str]], chosen: int) -> str:
    items = "".join(
        f'<option value="{escape(value)}"{" selected" * (k == chosen)}>{escape(text)}</option>'
        for k, (value, text) in enumerate(options)
    )
    # Firefox keeps form fields over a reload unless told otherwise.
    return f'<label>{label}<select class="{name}" autocomplete="off">{items}</select></label>'


def _figure(panel: Panel) -> str:
    label = escape(panel.label)
    source = f"data:image/png;base64,{_base64(encode(Image(panel.pixels), 'png'))}"
    return (
        f'<figure><img src="{source}" width="{panel.width}" height="{panel.height}" alt="{label}">'
        f"<figcaption>{label}</figcaption></figure>"
    )
