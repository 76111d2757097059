"""Write rows of panels as one HTML file with a before-and-after slider; it loads nothing else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from importlib import resources
from string import Template

from upscale.compare.rows import TRUTH, Panel, Row
from upscale.errors import UsageError
from upscale.image import Image, encode

ZOOMS = (("0", "fit width"), ("1", "1:1"), ("2", "2:1"), ("4", "4:1"), ("8", "8:1"))


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
