"""Compare models side by side: contact sheet, alpha sweep, HTML page with a slider.

In come pictures (``subjects.py`` cuts parts of them) and the candidates of ``upscale.evaluate``;
``rows.py`` makes a row of panels of each, with their figures, and ``views.py`` shows the rows as
one picture or one HTML file. Begin with ``rows.py``.
"""

from __future__ import annotations

from upscale.compare.rows import Figures, Panel, Row, compare, figures, mean_colour, written
from upscale.compare.subjects import Crop, Subject, hr_path, subjects
from upscale.compare.views import contact_sheet, html_page

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
