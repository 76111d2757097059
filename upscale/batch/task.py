"""What is asked for, and one picture of it with its output."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from upscale.batch.discover import Input
from upscale.batch.naming import Labels
from upscale.settings import Outputs

STDOUT = "-"

Action = Literal["do", "skip", "fail"]


@dataclass(frozen=True)
class Request(Outputs):
    """Where outputs go, and what names and the journal need to know besides.

    Attributes:
        samples: Draws of each picture.
        seed: Of the first draw.
        digest: Of settings and weights.
        labels: What templates may name.
        format: Output format (an extension), or ``None``: the input's.
    """

    samples: int = 1
    seed: int = 0
    digest: str = ""
    labels: Labels = field(default_factory=lambda: Labels("esrgan", "4"))
    format: str | None = None

    @property
    def has_extras(self) -> bool:
        """Whether anything is asked for beside the outputs, or their names tell draws apart."""
        return bool(self.needs_draws or "{sample}" in (self.output or ""))

    @property
    def needs_draws(self) -> str:
        """The option that a model must draw for, or ""."""
        wanted = {
            "--uncertainty": self.uncertainty,
            "--uncertainty-view": self.uncertainty_view,
            "--keep-samples": self.keep_samples,
            "--samples": self.samples > 1,
        }
        return next((name for name, value in wanted.items() if value), "")


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
