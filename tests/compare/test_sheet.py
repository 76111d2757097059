"""The contact sheet shows every pixel of every panel, where it should."""

from __future__ import annotations

import numpy as np
import pytest

from tests.compare.rows_at_hand import rows
from upscale.compare import contact_sheet
from upscale.compare.views import MAX_SHEET, PAD, PAPER, SMALLEST_CELL
from upscale.errors import UsageError


def places(sheet: np.ndarray, picture: np.ndarray) -> list[tuple[int, int]]:
    """Top and left of every exact occurrence of ``picture``."""
    h, w, _ = picture.shape
    corner = (sheet[: len(sheet) - h + 1, : sheet.shape[1] - w + 1] == picture[0, 0]).all(2)
    return [
        (y, x)
        for y, x in np.argwhere(corner).tolist()
        if np.array_equal(sheet[y : y + h, x : x + w], picture)
    ]


def test_panels_stand_in_rows_pixel_by_pixel() -> None:
    shown = rows((190, 200), (180, 220))
    sheet = contact_sheet(shown, title="A title")
    assert sheet.dtype == np.uint8
    found = [[places(sheet, p.pixels) for p in row.panels] for row in shown]
    assert all(len(place) == 1 for row in found for place in row)
    (tops_1, lefts_1), (tops_2, lefts_2) = (
        zip(*(place[0] for place in row), strict=True) for row in found
    )
    assert len(set(tops_1)) == len(set(tops_2)) == 1
    assert tops_2[0] > tops_1[0] + 190
    assert lefts_1 == lefts_2  # columns are aligned
    assert lefts_1[0] == PAD
    assert lefts_1[1] - lefts_1[0] >= 220 + PAD
    assert (sheet[:, : PAD - 1] == PAPER).all()
    assert (sheet[:, -PAD + 1 :] == PAPER).all()


def test_small_parts_are_enlarged_by_whole_factors() -> None:
    (row,) = rows((40, 60))
    factor = -(-SMALLEST_CELL // 60)
    pixels = row.panels[1].pixels
    assert places(contact_sheet([row]), pixels.repeat(factor, 0).repeat(factor, 1))
    assert places(contact_sheet([row], zoom=1), pixels)
    assert places(contact_sheet([row], zoom=5), pixels.repeat(5, 0).repeat(5, 1))


def test_columns_wrap() -> None:
    (row,) = rows((180, 180), panels=5)
    sheet = contact_sheet([row], columns=2)
    found = [places(sheet, p.pixels)[0] for p in row.panels]
    assert [left for _, left in found] == [found[0][1], found[1][1]] * 2 + [found[0][1]]
    assert len({top for top, _ in found}) == 3
    assert sheet.shape[1] < contact_sheet([row]).shape[1] / 2


@pytest.mark.parametrize("name", ["a" * 300, "é你\x1b\u202e.png", "", "tab\tnewline\n"])
def test_any_name_fits(name: str) -> None:
    (row,) = rows((180, 180), name=name, truth=True)
    sheet = contact_sheet([row], title=f"{name} {'long ' * 100}")
    assert sheet.shape[1] == contact_sheet([row], title="short").shape[1]
    assert (sheet[:, -PAD + 1 :] == PAPER).all(), "text runs into the margin"
    assert all(places(sheet, p.pixels) for p in row.panels), "text runs into a picture"


def test_scores_are_explained_only_where_there_are_any() -> None:
    without, scored = (contact_sheet(rows((180, 180), truth=t)) for t in (False, True))
    assert scored.shape[0] > without.shape[0]


def test_sheets_that_cannot_be_drawn() -> None:
    with pytest.raises(UsageError, match="nothing to draw"):
        contact_sheet([])
    row = rows((20, 20))
    side = int(MAX_SHEET**0.5)
    with pytest.raises(UsageError, match=r"--crop"):
        contact_sheet(row, zoom=side // 20)
