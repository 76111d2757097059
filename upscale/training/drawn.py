"""Drawn training pictures: letters, lines, shapes, patterns, which photographs teach little of.

Every picture follows from its number alone. They are drawn at twice the size and averaged down, so
that edges are as soft as a clean scan's.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from upscale.errors import UsageError

Pixels = NDArray[np.uint8]  # (side, side, 3)
Ink = tuple[int, int, int]  # R, G, B
FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSerif-Italic", "DejaVuSansMono")
LETTERS = np.array(
    list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,;:!?&%()-")
)


def drawn_pictures(count: int, side: int, first: int = 0, subjects: int = 4) -> list[Pixels]:
    """``count`` pictures of ``side`` pixels: text, line art, patterns and gradients in turn.

    ``first`` is the number of the first one; 6 ``subjects`` add comics and screenshots.
    """
    return [
        _drawn(np.random.default_rng((1, number)), number % subjects, side)
        for number in range(first, first + count)
    ]


def _font(number: int, size: int) -> ImageFont.FreeTypeFont:
    try:
        import matplotlib as mpl
    except ModuleNotFoundError as error:
        raise UsageError(
            "drawn pictures need matplotlib's fonts: pip install 'upscale[train]'"
        ) from error
    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(folder / f"{FONTS[number]}.ttf", size)


def _drawn(rng: np.random.Generator, subject: int, side: int) -> Pixels:
    large = 2 * side
    canvas = Image.fromarray(_ground(rng, large))
    draw = ImageDraw.Draw(canvas)
    if subject == 0:
        _text(draw, rng, large)
    elif subject == 1:
        _lines(draw, rng, large)
    elif subject == 2:
        canvas = Image.fromarray(_pattern(rng, large))
    elif subject == 3:
        _shapes(draw, rng, large)
        _text(draw, rng, large, lines=2)
    elif subject == 4:
        _comic(draw, rng, large)
        _text(draw, rng, large, lines=int(rng.integers(0, 3)))
    else:
        _screenshot(draw, rng, large)
    small = cv2.resize(np.asarray(canvas), (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def _ground(rng: np.random.Generator, side: int) -> Pixels:
    """Paper: one colour, or a gradient between two."""
    first, last = _colour(rng, 140, 256), _colour(rng, 60, 256)
    if rng.random() < 0.6:
        return np.full((side, side, 3), first, np.uint8)
    slope = np.linspace(0, 1, side)[:, None, None]
    ground = np.broadcast_to(first * (1 - slope) + last * slope, (side, side, 3))
    return np.ascontiguousarray(ground if rng.random() < 0.5 else ground.swapaxes(0, 1), np.uint8)


def _colour(rng: np.random.Generator, low: int, high: int) -> NDArray[np.int64]:
    """Gray in one of two cases, else any colour."""
    return rng.integers(low, high, 1 if rng.random() < 0.5 else 3) * np.ones(3, np.int64)


def _ink(rng: np.random.Generator, low: int = 0, high: int = 120) -> Ink:
    red, green, blue = (int(v) for v in _colour(rng, low, high))
    return red, green, blue


def _words(rng: np.random.Generator, count: int) -> str:
    return " ".join("".join(rng.choice(LETTERS, int(rng.integers(1, 9)))) for _ in range(count))


def _text(draw: ImageDraw.ImageDraw, rng: np.random.Generator, side: int, lines: int = 99) -> None:
    """Lines of random words, 8 to 40 pixels high once the picture is averaged down."""
    y = int(rng.integers(0, 40))
    for _ in range(lines):
        size = int(16 + 64 * rng.random() ** 2)
        font, words = _font(int(rng.integers(len(FONTS))), size), _words(rng, 16)
        draw.text((int(rng.integers(0, 60)), y), words, font=font, fill=_ink(rng))
        y += int(size * 1.4)
        if y > side:
            break


def _lines(draw: ImageDraw.ImageDraw, rng: np.random.Generator, side: int) -> None:
    """Strokes, arcs and outlines, one to six pixels wide once averaged down."""
    for _ in range(int(rng.integers(15, 50))):
        width = int(rng.integers(2, 13))
        points = rng.integers(0, side, (2, 2))
        box = [*points.min(0).tolist(), *(points.max(0) + 1).tolist()]
        shape = rng.random()
        if shape < 0.5:
            stroke = np.cumsum(rng.normal(0, side / 12, (int(rng.integers(2, 8)), 2)), 0)
            path = [(float(x), float(y)) for x, y in stroke + points[0]]
            draw.line(path, fill=_ink(rng), width=width, joint="curve")
        elif shape < 0.8:
            draw.ellipse(box, outline=_ink(rng), width=width)
        else:
            draw.rectangle(box, outline=_ink(rng), width=width)


def _shapes(draw: ImageDraw.ImageDraw, rng: np.random.Generator, side: int) -> None:
    """Filled polygons and discs of one colour each, as in drawings and diagrams."""
    for _ in range(int(rng.integers(6, 20))):
        fill = _ink(rng, 0, 256)
        corners = rng.integers(0, side, (int(rng.integers(3, 6)), 2))
        if rng.random() < 0.4:
            box = [*corners.min(0).tolist(), *(corners.max(0) + 1).tolist()]
            draw.ellipse(box, fill=fill, outline=_ink(rng), width=int(rng.integers(0, 9)))
        else:
            draw.polygon([(int(x), int(y)) for x, y in corners], fill=fill)


def _pattern(rng: np.random.Generator, side: int) -> Pixels:
    """Stripes, a checkerboard or rings of a changing period, between two colours."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float64)
    angle, period = rng.uniform(0, np.pi), rng.uniform(10, 60)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    draw = rng.random()
    if draw < 0.4:
        wave = np.sin(2 * np.pi * along / (period * (1 + along / (4 * side))))
    elif draw < 0.7:
        wave = np.sin(2 * np.pi * along / period) * np.sin(2 * np.pi * across / period)
    else:
        centre = rng.uniform(0, side, 2)
        wave = np.sin(2 * np.pi * np.hypot(x - centre[0], y - centre[1]) / period)
    share = np.clip(0.5 + wave * rng.choice([0.5, 4.0]), 0, 1)[:, :, None]  # soft or hard edges
    mixed = _colour(rng, 0, 120) * share + _colour(rng, 120, 256) * (1 - share)
    return np.asarray(mixed, np.uint8)


def _comic(draw: ImageDraw.ImageDraw, rng: np.random.Generator, side: int) -> None:
    """Flat fills with dark outlines, overlapping curved shapes, hatching and halftone dots."""
    outline = _ink(rng) if rng.random() < 0.3 else (0, 0, 0)
    width = int(rng.integers(2, 11))
    for _ in range(int(rng.integers(8, 26))):
        fill = _ink(rng, 20, 256)
        centre, radius = rng.integers(0, side, 2), side * rng.uniform(0.05, 0.35)
        turns = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(5, 12))))
        wave = 1 + rng.uniform(0, 0.5) * np.sin(turns[:, None] * rng.integers(1, 5) + rng.random())
        ring = centre + radius * wave * np.stack([np.cos(turns), np.sin(turns)], 1)
        path = [(float(x), float(y)) for x, y in _smooth(ring)]
        draw.polygon(path, fill=fill)
        draw.line([*path, path[0]], fill=outline, width=width, joint="curve")
        if rng.random() < 0.4:
            _hatching(draw, rng, (int(centre[0]), int(centre[1]), int(radius)), outline)


def _smooth(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """Corners of a closed path cut twice (Chaikin), which rounds them."""
    for _ in range(2):
        after = np.roll(ring, -1, 0)
        ring = np.stack([0.75 * ring + 0.25 * after, 0.25 * ring + 0.75 * after], 1).reshape(-1, 2)
    return ring


def _hatching(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, box: tuple[int, int, int], ink: Ink
) -> None:
    """Parallel strokes or dots over a square: its middle and half its side."""
    pitch, dots = int(rng.integers(8, 22)), rng.random() < 0.4
    x, y, radius = box
    for at in range(-radius, radius, pitch):
        if not dots:
            draw.line((x + at, y - radius, x + at + radius // 2, y + radius), fill=ink, width=3)
            continue
        for down in range(-radius, radius, pitch):
            left, top, size = x + at, y + down, pitch / 4
            draw.ellipse((left - size, top - size, left + size, top + size), fill=ink)


def _screenshot(draw: ImageDraw.ImageDraw, rng: np.random.Generator, side: int) -> None:
    """Windows, buttons and icons of flat colours with small type, edges on whole pixels."""
    dark = rng.random() < 0.3
    low, high = (20, 70) if dark else (215, 256)
    draw.rectangle((0, 0, side, side), fill=_ink(rng, low, high))
    for _ in range(int(rng.integers(4, 14))):
        x, y = (int(v) // 4 * 4 for v in rng.integers(0, side, 2))
        width, height = (int(v) // 4 * 4 for v in rng.integers(40, side // 2, 2))
        fill = _ink(rng, 30, 256)
        edge = _ink(rng, 60, 200)
        box = (x, y, x + width, y + height)
        draw.rounded_rectangle(box, int(rng.integers(0, 24)), fill, edge, width=2)
        size = int(rng.integers(16, 36))
        font = _font(int(rng.integers(2)) if rng.random() < 0.8 else 4, size)
        ink = (240, 240, 240) if sum(fill) < 380 else (20, 20, 20)
        for row in range(y + 8, y + height - size, int(size * 1.5)):
            room = max(1, int(width / (size * 0.62)))
            draw.text((x + 12, row), _words(rng, 8)[:room], font=font, fill=ink)
