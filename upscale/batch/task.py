"""One picture and its output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from upscale.batch.discover import Input

STDOUT = "-"

Action = Literal["do", "skip", "fail"]


@dataclass(frozen=True)
class MapFile:
    """Where a map of uncertainty goes.

    Attributes:
        path: The file.
        format: Its format.
        is_view: Whether it is in colour, for people.
    """

    path: str
    format: str
    is_view: bool


@dataclass(frozen=True)
class Task:
    """One picture and its output.

    Attributes:
        source: The input.
        output: Location of the output; ``-`` is stdout.
        format: Name of the output's format; empty: the input's, known once it is read.
        root: Folder whose journal records it, or ``None``.
        relative: The output's place in ``root``, with forward slashes.
        action: ``do``, ``skip``, or ``fail`` (the input cannot be read).
        reason: Why it is skipped, failed, or made anew.
        replace: Whether an existing output may be replaced.
        maps: Maps of uncertainty that are written too.
        replaces_maps: Whether existing maps may be replaced.
        seed: Of the one draw that it is, or ``None``: as the settings say.
    """

    source: Input
    output: str
    format: str
    root: str | None = None
    relative: str = ""
    action: Action = "do"
    reason: str = ""
    replace: bool = False
    maps: tuple[MapFile, ...] = ()
    replaces_maps: bool = False
    seed: int | None = None
