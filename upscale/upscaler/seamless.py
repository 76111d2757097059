"""Textures that tile: beyond each edge the network sees what lies at the other side.

The picture is enlarged with margins of itself, and the result cut to the middle.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from upscale.color.drift import CELL
from upscale.image import Pixels, Reader
from upscale.models import Network
from upscale.settings import Settings
from upscale.tiling import BLEND

CHOICE = 64  # margins that are tried
BICUBIC_REACH = 4  # pixels that the bicubic kernel and the limits of alpha look at, and some more


def margins(
    settings: Settings,
    networks: Sequence[Network],
    shape: tuple[int, int],
    full: tuple[int, int],
) -> tuple[int, int]:
    """Rows and columns of the picture to be put before and behind it; 0 where it does not wrap.

    As many as the networks see, and a few more, so that in the result they are a whole number of
    pixels (or nearly, in an odd ratio: the middle is then off by a few hundredths of a pixel).

    ``shape`` and ``full`` are height and width of the picture and of the result.
    """
    # 1. What one pixel of the result depends on, through all networks.
    scale, reach = 1, float(BICUBIC_REACH)
    for network in networks:
        reach += (network.halo + (0 if network.halo_is_exact else BLEND)) / scale
        scale *= network.scale
    reach += 3 * CELL * settings.color_fix
    # 2. Of the margins from that width on, the first that is nearest to whole pixels of the result.
    widths = range(math.ceil(reach), math.ceil(reach) + CHOICE)

    def nearest(side: int, after: int) -> int:
        return min(widths, key=lambda n: min(n * after % side, -n * after % side))

    down, across = map(nearest, shape, full)
    return down * ("y" in settings.seamless), across * ("x" in settings.seamless)


def wrapped(reader: Reader, down: int, across: int) -> Reader:
    """The picture with so many rows and columns of its other side beyond each edge.

    Of the rows, those of both margins are held in memory; a file is read once more for them.
    """
    edges: list[Pixels] = []

    def rows() -> Iterator[Pixels]:
        if not edges:
            edges.extend(_edges(reader, down))
        above, below = edges
        for strips in ([above], reader.rows(), [below]):
            for strip in strips:
                if len(strip):
                    yield np.pad(strip, ((0, 0), (across, across), (0, 0)), mode="wrap")

    height, width = reader.height + 2 * down, reader.width + 2 * across
    return replace(reader, height=height, width=width, start=rows)


def _edges(reader: Reader, down: int) -> tuple[Pixels, Pixels]:
    """The last ``down`` rows, which come above the picture, and the first, which come below."""
    first = last = np.empty((0, reader.width, reader.channels), reader.dtype)
    for strip in reader.rows() if down else ():
        if len(first) < down:
            first = np.concatenate((first, strip))[:down]
        last = np.concatenate((last, strip))[-down:]
    if down > reader.height:  # the picture again and again
        at = np.arange(down) % reader.height
        first, last = first[at], last[::-1][at][::-1]
    return last, first
