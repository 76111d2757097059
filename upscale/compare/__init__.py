"""Compare models side by side: contact sheet, alpha sweep, HTML page with a slider.

In come pictures (``subjects.py`` cuts parts of them) and the candidates of ``upscale.evaluate``;
``rows.py`` makes a row of panels of each, with the figures of ``figures.py``. ``sheet.py`` draws
the rows as one picture, ``page.py`` writes them as one HTML file. Begin with ``rows.py``.
"""

from __future__ import annotations

from upscale.compare.figures import Figures, figures, mean_colour, written
from upscale.compare.page import html_page
from upscale.compare.rows import Panel, Row, compare
from upscale.compare.sheet import contact_sheet
from upscale.compare.subjects import Crop, Subject, hr_path, subjects

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
    "subjects",
    "written",
]
