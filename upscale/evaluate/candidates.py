"""Ways to enlarge a picture, as evaluation and comparison see them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from upscale.checkpoints import check_alpha, select
from upscale.errors import UsageError
from upscale.evaluate.protocol import to_pixels, to_tensor
from upscale.resample import resize, resize_uint8
from upscale.settings import TileOption
from upscale.upscaler import Upscaler, load

BICUBIC = "bicubic"  # the name of the model that is no network

Pixels = NDArray[Any]


@dataclass(frozen=True)
class Candidate:
    """A way to enlarge pictures, under evaluation.

    Attributes:
        model: Its name, as it was asked for.
        scale: Whole enlargement factor.
        rgb: (h, w, 3) uint8, or float32 in [0, 1], to (scale·h, scale·w, 3) of the same dtype.
        y: The same for studio-range Y alone, (1, 1, h, w) float32 in [0, 1]; None where the network
            takes RGB only.
        alpha: Share of the GAN net, where the model is a pair of a PSNR net and a GAN net.
        weights: SHA-256 of each checkpoint by its name.
    """

    model: str
    scale: int
    rgb: Callable[[Pixels], Pixels]
    y: Callable[[Tensor], Tensor] | None = None
    alpha: float | None = None
    weights: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Entrant:
    """What to load as a candidate: a model's name (or ``bicubic``), a scale, and alpha.

    ``scale`` None stands for the model's own, ``alpha`` None for the default of a pair.
    """

    model: str
    scale: int | None = None
    alpha: float | None = None


@dataclass(frozen=True)
class RunOptions:
    """How candidates run; the options of the command line of the same names."""

    device: str = "auto"
    dtype: str = "auto"
    tile: TileOption = "auto"
    overlap: int | None = None
    tta: bool = False


def entrants(
    models: Sequence[str],
    scales: Sequence[int | None] = (None,),
    alphas: Sequence[float] = (),
) -> list[Entrant]:
    """Every model at every scale; a pair of a PSNR net and a GAN net at every alpha.

    Raises:
        CheckpointError: There is no such model.
        UsageError: An alpha is out of range, ``alphas`` are given and no model is a pair, or
            ``bicubic`` has no scale.
    """
    for alpha in alphas:
        check_alpha(alpha)
    found: list[Entrant] = []
    for model in models:
        for scale in scales:
            if model == BICUBIC and scale is None:
                raise UsageError("bicubic has no scale of its own: give --scale")
            pair = model != BICUBIC and len(select(model, scale=scale)) > 1
            found += [Entrant(model, scale, a) for a in (alphas if pair and alphas else (None,))]
    if alphas and all(entrant.alpha is None for entrant in found):
        raise UsageError(
            f"--alpha does not apply to {', '.join(models)}: it interpolates between a PSNR net "
            "and a GAN net, as in esrgan"
        )
    return found


def load_candidate(entrant: Entrant, options: RunOptions = RunOptions()) -> Candidate:
    """Load the networks of an entrant.

    Raises:
        CheckpointError: There is no such model, or its file is damaged.
        DeviceError: This machine has no such device or precision.
        UsageError: A value is out of range, or the model's scale is no whole number.
    """
    if entrant.model == BICUBIC:
        return bicubic_candidate(entrant.scale or 1)
    upscaler = load(
        entrant.model,
        alpha=entrant.alpha,
        scale=entrant.scale,
        device=options.device,
        dtype=options.dtype,
        tile=options.tile,
        overlap=options.overlap,
        tta=options.tta,
    )
    return candidate_of(upscaler, entrant.model)


def candidate_of(upscaler: Upscaler, model: str) -> Candidate:
    """An upscaler that is loaded already, as a candidate."""
    scale = round(upscaler.scale)
    if scale != upscaler.scale:
        raise UsageError(f"scale {upscaler.scale:g} cannot be scored: give a whole number")
    native = upscaler.native()

    def rgb(lr: Pixels) -> Pixels:
        return np.asarray(upscaler.image(lr))

    takes_studio = native.channels == 1 and native.prepared.network.luma == "studio"
    takes_y = takes_studio and native.scale == scale
    return Candidate(
        model=model,
        scale=scale,
        rgb=rgb,
        y=upscaler.tensor if takes_y else None,
        alpha=native.alpha,
        weights=dict(native.weights),
    )


def bicubic_candidate(scale: int) -> Candidate:
    """MATLAB's bicubic as a model: rounded after each pass for 8-bit pictures, exact for floats."""

    def rgb(lr: Pixels) -> Pixels:
        size = (lr.shape[0] * scale, lr.shape[1] * scale)
        enlarge = resize_uint8 if lr.dtype == np.uint8 else resize
        return to_pixels(enlarge(to_tensor(lr), size)).astype(lr.dtype)

    def y(lr: Tensor) -> Tensor:
        return resize(lr, (lr.shape[2] * scale, lr.shape[3] * scale))

    return Candidate(BICUBIC, scale, rgb, y)


def parse_alphas(text: str) -> list[float]:
    """Read ``0.5``, ``0,0.5,1`` or ``START:END:STEP`` (END included), each in [0, 1].

    Raises:
        UsageError: It is none of these.
    """
    try:
        if ":" in text:
            start, end, step = (float(part) for part in text.split(":"))
            count = round((end - start) / step)
            if count < 0 or count > 100 or abs(start + count * step - end) > 1e-6:
                raise ValueError
            values = [round(start + k * step, 9) for k in range(count + 1)]
        else:
            values = [float(part) for part in text.split(",")]
    except (ValueError, ZeroDivisionError, OverflowError):
        raise UsageError(
            f"alpha {text!r} cannot be read: give 0.8, a list like 0,0.5,1, or a range with a step "
            "that divides it, like 0:1:0.2"
        ) from None
    for value in values:
        check_alpha(value)
    return values


def parse_scales(text: str) -> list[int]:
    """Read ``4`` or ``2,3,4``.

    Raises:
        UsageError: It is no list of whole numbers from 1 to 64.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) <= 64 for part in parts):
        raise UsageError(f"scale {text!r} cannot be scored: give whole numbers, like 4 or 2,3,4")
    return [int(part) for part in parts]
