"""Rows of panels with chosen names and pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from upscale.compare import Crop, Panel, Row, Subject, figures


def rows(
    *sizes: tuple[int, int], panels: int = 3, name: str = "a.png", truth: bool = False
) -> list[Row]:
    """One row for each size (height, width) of a panel, at scale 2; the pixels are noise."""
    random = np.random.default_rng(0)
    found = []
    for height, width in sizes:
        lr = random.integers(0, 256, (height // 2, width // 2, 3), np.uint8)
        pictures = random.integers(0, 256, (panels, height, width, 3), np.uint8)
        hr = pictures[0] if truth else None
        subject = Subject(name, Path(name), lr, Crop(0, 0, width // 2, height // 2), hr)
        shown = [
            Panel(f"panel {k}", picture, figures(picture, lr, hr=hr), "model")
            for k, picture in enumerate(pictures)
        ]
        found.append(Row(subject, 2, tuple(shown)))
    return found
