"""The sheet of ``docs/images/denoise-sheet.jpg``: damaged pictures, enlarged three ways.

    python tests/tools/denoise_sheet.py OUT.jpg

The pictures are scikit-image's (astronaut: NASA, public domain; cat and coffee: CC0), halved so
that they show no earlier compression, and a page of text that is drawn here.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import data

sys.path.insert(0, str(Path(__file__).parents[2]))

import upscale
from upscale.training.drawn import drawn_pictures

HEIGHT, WIDTH = 72, 96
Pixels = NDArray[np.uint8]


def jpeg(x: Pixels, quality: int) -> Pixels:
    """Through OpenCV's codec; the order of the channels does not matter to what is seen."""
    coded = cv2.imencode(".jpg", x[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.ascontiguousarray(np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))[:, :, ::-1])


def noisy(x: Pixels, sigma: float) -> Pixels:
    """White noise from seed 0, rounded and clipped."""
    drawn = np.random.default_rng(0).normal(0, sigma, x.shape)
    return np.clip(np.rint(x + drawn), 0, 255).astype(np.uint8)


def half(x: Pixels, top: int, left: int) -> Pixels:
    """A part of the picture at half its size."""
    small = cv2.resize(x, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(small[top : top + HEIGHT, left : left + WIDTH])


def main() -> None:
    """Enlarge each picture by bicubic, by the nets for clean pictures, and by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    text = drawn_pictures(5, 384)[4][:288, :384]
    subjects = {
        "web JPEG, quality 40": jpeg(half(data.astronaut(), 8, 70), 40),
        "noise, sigma 12": noisy(half(data.cat(), 30, 55), 12),
        "noise 6, then JPEG 60": jpeg(noisy(half(data.coffee(), 60, 120), 6), 60),
        "text, JPEG 50": jpeg(half(text, 10, 10), 50),
        "clean": half(data.astronaut(), 8, 70),
    }
    ways = [
        ("bicubic", upscale.load("bicubic", scale=4)),
        ("--denoise 0", upscale.load("esrgan", denoise=0)),
        ("default", upscale.load("esrgan")),
    ]
    rows = []
    for label, lr in subjects.items():
        panels = [np.ascontiguousarray(up.image(lr)) for _, up in ways]
        for panel, (name, _) in zip(panels, ways, strict=True):
            note = f"{name}: {label}"
            cv2.rectangle(panel, (0, 0), (8 * len(note) + 10, 18), (0, 0, 0), -1)
            cv2.putText(panel, note, (5, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1)
        rows.append(np.hstack(panels))
    sheet = np.vstack(rows)
    cv2.imwrite(str(out), sheet[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()
