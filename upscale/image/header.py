"""What the structure of a file says, beside what libvips tells of its pixels."""

from __future__ import annotations

from dataclasses import dataclass

from upscale.image.model import Metadata
from upscale.image.source import ALL, Pieces


@dataclass(frozen=True)
class Header:
    """What was read before libvips is asked.

    Attributes:
        metadata: As they stand in the file: not yet turned upright.
        pieces: The parts of the file that make its pixels, which libvips is given.
        kind: In words what the picture is stored as, for example "palette", "4:2:0".
        frames: How many pictures there are in the file.
        spare: Rows that the pieces promise below the last one of the picture.
        unlimited: The decoder may allocate as much as the header asks for, which was checked.
    """

    metadata: Metadata
    pieces: Pieces = ALL
    kind: str = ""
    frames: int = 1
    spare: int = 0
    unlimited: bool = False
