"""Run the candidates over the subjects: a row of panels for each picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from upscale.checkpoints.index import BICUBIC
from upscale.compare.figures import Figures, Pixels, figures
from upscale.compare.subjects import Subject
from upscale.errors import DataError, UsageError
from upscale.evaluate import MAP, Baseline, Candidate

TRUTH = "ground truth"


@dataclass(frozen=True)
class Panel:
    """One enlarged picture, or the ground truth."""

    label: str  # for people
    pixels: Pixels = field(repr=False)
    figures: Figures  # of these pixels
    model: str  # or ``bicubic``, ``ground truth``, another program
    alpha: float | None = None  # share of the GAN net, where the model is a pair
    weights: dict[str, str] = field(default_factory=dict)  # SHA-256 of each checkpoint by its name
    mixed: str | None = None  # what was interpolated: ``networks`` or ``images``
    variant: str = ""  # which of several pictures of the model: a draw, the mean, the map

    @property
    def height(self) -> int:
        """Rows of pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns of pixels."""
        return int(self.pixels.shape[1])


@dataclass(frozen=True)
class Row:
    """A subject and its panels, in the order of the columns."""

    subject: Subject
    scale: int
    panels: tuple[Panel, ...]

    def records(self) -> list[dict[str, Any]]:
        """The figures for JSON, one object a panel."""
        return [
            {
                "picture": str(self.subject.path),
                "crop": None if self.subject.crop is None else str(self.subject.crop),
                "label": panel.label,
                "model": panel.model,
                "weights": panel.weights,
                "scale": self.scale,
                "alpha": panel.alpha,
                "mixed": panel.mixed,
                "variant": panel.variant,
                **panel.figures.as_dict(),
            }
            for panel in self.panels
        ]


def compare(
    subjects: Sequence[Subject],
    candidates: Iterable[Candidate],
    scale: int,
    *,
    mix: float | None = None,
    theirs: str = "",
    step: Callable[[str], None] = lambda name: None,
) -> list[Row]:
    """A row for each subject: bicubic, the candidates, another program's result, the truth.

    All enlarge ``scale`` times. Candidates are taken one after another, so that a generator holds
    one network at a time; ``step`` is called with the subject's name after each panel. With ``mix``
    image interpolation stands beside network interpolation: the candidates are a pair at alpha 0,
    ``mix`` and 1. ``theirs`` names the other program.

    Raises:
        DataError: A candidate does not enlarge ``scale`` times.
        UsageError: The candidates are not what ``mix`` needs.
    """
    columns: list[list[Panel]] = [[] for _ in subjects]
    for candidate in chain([Baseline(scale=scale)], candidates):
        for subject, panels in zip(subjects, columns, strict=True):
            panels.append(_panel(candidate, subject, scale))
            step(subject.name)
    rows = []
    for subject, panels in zip(subjects, columns, strict=True):
        mixed = panels if mix is None else _with_mixture(panels, subject, mix)
        several = len({panel.model for panel in mixed} - {BICUBIC}) > 1
        shown = [replace(panel, label=_label(panel, several)) for panel in mixed]
        if subject.theirs is not None:
            shown.append(Panel(theirs, subject.theirs, _figures(subject.theirs, subject), theirs))
        if subject.hr is not None:
            counted = _figures(subject.hr, replace(subject, hr=None))
            shown.append(Panel(TRUTH, subject.hr, counted, TRUTH))
        rows.append(Row(subject, scale, tuple(shown)))
    return rows


def _panel(candidate: Candidate, subject: Subject, scale: int) -> Panel:
    sr = candidate.image(subject.lr)
    height, width = subject.lr.shape[0] * scale, subject.lr.shape[1] * scale
    if sr.shape[:2] != (height, width):
        raise DataError(
            f"{candidate.model} made {sr.shape[1]}x{sr.shape[0]} pixels of {subject.name!r} where "
            f"{width}x{height} are wanted: compare models of one scale"
        )
    part = subject.cut(sr, scale)
    counted = _figures(part, subject)
    if candidate.variant == MAP:
        counted = replace(counted, lr_consistency=None, psnr_y=None, ssim_y=None)
    return Panel(
        label=candidate.model,
        pixels=part,
        figures=counted,
        model=candidate.model,
        alpha=candidate.alpha,
        weights=candidate.weights,
        variant=candidate.variant,
    )


def _figures(pixels: Pixels, subject: Subject) -> Figures:
    return figures(pixels, subject.lr_part, hr=subject.hr, cut=subject.crop is not None)


def _with_mixture(panels: list[Panel], subject: Subject, mix: float) -> list[Panel]:
    """Bicubic, the PSNR net, the images mixed, the networks mixed, the GAN net."""
    if [panel.alpha for panel in panels[1:]] != [0.0, mix, 1.0]:
        raise UsageError("only a pair of a PSNR net and a GAN net can be mixed: give such a model")
    bicubic, psnr, networks, gan = panels
    exact = (1 - mix) * psnr.pixels.astype(np.float64) + mix * gan.pixels
    pixels = np.floor(exact + 0.5).astype(np.uint8)
    images = replace(
        networks,
        pixels=pixels,
        figures=_figures(pixels, subject),
        weights={**psnr.weights, **gan.weights},
        mixed="images",
    )
    return [bicubic, psnr, images, replace(networks, mixed="networks"), gan]


def _label(panel: Panel, several: bool) -> str:
    """A short label: what all panels share is left out."""
    alpha = "" if panel.alpha is None else f"alpha {panel.alpha:g}"
    name = next(iter(panel.weights)) if len(panel.weights) == 1 else Path(panel.model).stem
    if panel.variant:
        return f"{name} {panel.variant}" if several else panel.variant
    if panel.mixed is not None:
        return f"{panel.mixed} mixed, {alpha}"
    if panel.alpha is None:
        return name or panel.model
    return f"{name} {alpha}" if several else alpha
