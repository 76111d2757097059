"""Run the candidates over the subjects: a row of panels for each picture, and their figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from upscale import metrics
from upscale.checkpoints.index import BICUBIC
from upscale.compare.subjects import Pixels, Subject
from upscale.errors import DataError, UsageError
from upscale.evaluate import MAP, Baseline, Candidate
from upscale.evaluate.pictures import to_tensor
from upscale.evaluate.scores import for_json, made_small

TRUTH = "ground truth"

Colour = tuple[float, float, float]  # R, G, B in 0..255


@dataclass(frozen=True)
class Figures:
    """What can be counted of an enlarged picture, in 8-bit levels and dB."""

    mean_gradient: float  # of Y, a pixel: how much texture
    mean_colour: Colour
    colour_shift: float  # largest difference of a mean from that of the low-resolution picture
    lr_consistency: float | None  # PSNR on Y of this one downsampled to the low-resolution picture
    psnr_y: float | None = None  # against the ground truth
    ssim_y: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The fields for JSON; an infinite PSNR (equal pictures) is null."""
        return for_json(self, 4)

    def cells(self) -> dict[str, str]:
        """Every figure for people, by its heading; empty where there is none."""
        return {
            "PSNR": written(self.psnr_y, 2),
            "SSIM": written(self.ssim_y, 4),
            "LR PSNR": written(self.lr_consistency, 2),
            "gradient": written(self.mean_gradient, 2),
            "mean R, G, B": ", ".join(f"{c:.1f}" for c in self.mean_colour),
            "shift": written(self.colour_shift, 2),
        }


def mean_colour(picture: Pixels) -> Colour:
    """Mean of R, G and B in 8-bit levels of a picture (H, W, 3)."""
    r, g, b = picture.mean((0, 1), dtype=np.float64).tolist()
    return r, g, b


def figures(sr: Pixels, lr: Pixels, *, hr: Pixels | None = None, cut: bool = False) -> Figures:
    """Count what can be counted of ``sr``, (scale·h, scale·w, 3), made of ``lr``, (h, w, 3) uint8.

    Where the two are ``cut`` out of larger pictures, a wider border is left out of the comparison
    with ``lr``, whose pixels depend on what is cut off. ``hr`` is the ground truth.
    """
    ours, truth = to_tensor(sr), None if hr is None else to_tensor(hr)
    scale, colours = sr.shape[0] // lr.shape[0], (mean_colour(sr), mean_colour(lr))
    small = made_small(ours, (lr.shape[0], lr.shape[1]), "edsr")
    return Figures(
        mean_gradient=metrics.mean_gradient(ours),
        mean_colour=colours[0],
        colour_shift=max(abs(a - b) for a, b in zip(*colours, strict=True)),
        lr_consistency=_counted(metrics.psnr, small, to_tensor(lr), 2 if cut else 1, 1),
        psnr_y=_counted(metrics.psnr, ours, truth, scale, 1),
        ssim_y=_counted(metrics.ssim, ours, truth, scale, metrics.SSIM_WINDOW),
    )


def _counted(
    metric: Callable[..., float], a: Any, b: Any, border: int, smallest: int
) -> float | None:
    """A metric without a border; None without ``b``, and for less than ``smallest`` pixels."""
    if b is None or min(a.shape[2:]) - 2 * border < smallest:
        return None
    return metric(a, b, crop_border=border)


def written(value: float | None, digits: int) -> str:
    """A figure for people: empty where there is none, ``equal`` for an infinite PSNR."""
    if value is None:
        return ""
    return f"{value:.{digits}f}" if math.isfinite(value) else "equal"


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
