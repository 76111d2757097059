"""Compare models side by side: contact sheet, alpha sweep, HTML page with a slider."""

from __future__ import annotations

from upscale.compare.figures import Figures, figures, mean_colour, written
from upscale.compare.page import html_page
from upscale.compare.rows import Panel, Row, compare
from upscale.compare.sheet import contact_sheet
from upscale.compare.subjects import Crop, Subject, hr_path, read_rgb, subjects

__all__ = [
    "Crop",
    "Figures",
    "Panel",
    "Row",
    "Subject",
    "compare",
    "contact_sheet",
    "figures",
    "hr_path",
    "html_page",
    "mean_colour",
    "read_rgb",
    "subjects",
    "written",
]
