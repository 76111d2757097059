"""Ways to enlarge a picture, as evaluation and comparison see them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from upscale.checkpoints import check_alpha, check_denoise, select
from upscale.checkpoints.names import chain_of
from upscale.errors import UsageError
from upscale.evaluate.protocol import to_pixels, to_tensor
from upscale.resample import resize, resize_uint8
from upscale.settings import DEFAULT_DENOISE, Settings
from upscale.upscaler import Upscaler, load_settings
from upscale.upscaler.uncertainty import coloured

LIGHTEST = 0.1  # standard deviation, of pixels in [0, 1]
MAP = "map"  # the variant that is no picture
BICUBIC = "bicubic"  # the name of the model that is no network

Pixels = NDArray[Any]


@dataclass(frozen=True)
class Candidate:
    """A way to enlarge pictures, under evaluation.

    Attributes:
        model: Its name, as it was asked for.
        scale: Whole enlargement factor.
        rgb: (h, w, 3) uint8, or float32 in [0, 1], to (scale·h, scale·w, 3) of the same dtype.
        y: The network itself where it takes studio-range Y, (1, 1, h, w) float32 in [0, 1]; it does
            not clip. None where it takes another gray, or RGB.
        network: The network itself where it takes RGB or full-range gray, (1, channels, h, w)
            float32; it neither clips nor rounds.
        channels: Of ``network``, 1 or 3.
        alpha: Share of the GAN net, where the model is a pair of a PSNR net and a GAN net.
        denoise: Share of the pair for real pictures, where the model has one.
        weights: SHA-256 of each checkpoint by its name.
        uncertainty: Where the model draws: the predicted standard deviation of every pixel of the
            result, (scale·h, scale·w) float32, of pixels in [0, 1].
        bits: Where a model's bound is known: of (1, 3, h, w) and its ground truth, 0 to 255, the
            bits that a value takes at most.
        variant: Which of several pictures of one model: a draw, the mean, the map; or "".
    """

    model: str
    scale: int
    rgb: Callable[[Pixels], Pixels]
    y: Callable[[Tensor], Tensor] | None = None
    network: Callable[[Tensor], Tensor] | None = None
    channels: int = 3
    alpha: float | None = None
    denoise: float | None = None
    weights: dict[str, str] = field(default_factory=dict)
    uncertainty: Callable[[Pixels], Pixels] | None = None
    bits: Callable[[Tensor, Tensor], float] | None = None
    variant: str = ""


def combinations(
    models: Sequence[str],
    scales: Sequence[int | None] = (None,),
    alphas: Sequence[float] = (),
    denoises: Sequence[float] = (),
    settings: Settings = Settings(),  # noqa: B008 - frozen
) -> list[Settings]:
    """Every model at every scale; a pair of a PSNR net and a GAN net at every alpha.

    A family that has such a pair for real pictures too is there with every one of ``denoises``.

    Args:
        models: Names of models, or ``bicubic``.
        scales: Whole factors; None: the model's own.
        alphas: Shares of the GAN net; none: the default.
        denoises: Shares of the nets for real pictures; none: the default.
        settings: Of all of them.

    Raises:
        CheckpointError: There is no such model.
        UsageError: An alpha is out of range, ``alphas`` or ``denoises`` are given and no model
            takes them, or ``bicubic`` has no scale.
    """
    found: list[Settings] = []
    for model in models:
        for scale in scales:
            if model == BICUBIC and scale is None:
                raise UsageError("bicubic has no scale of its own: give --scale")
            # Nets between which a model interpolates: 2 with alpha, 4 with denoise too.
            nets = 1 if model == BICUBIC else max(len(select(name)) for name in chain_of(model))
            found += [
                replace(settings, model=model, scale=scale, alpha=alpha, denoise=denoise)
                for alpha in (alphas if nets > 1 and alphas else (None,))
                for denoise in (denoises if nets > 2 and denoises else (None,))
            ]
    if alphas and all(one.alpha is None for one in found):
        raise UsageError(
            f"--alpha does not apply to {', '.join(models)}: it interpolates between a PSNR net "
            "and a GAN net, as in esrgan"
        )
    if denoises and all(one.denoise is None for one in found):
        raise UsageError(
            f"--denoise does not apply to {', '.join(models)}: it interpolates between a pair of "
            "nets for clean pictures and one for real ones, as in esrgan"
        )
    return found


def load_candidate(settings: Settings, device: str = "auto") -> Candidate:
    """Load the networks that settings name.

    Raises:
        CheckpointError: There is no such model, or its file is damaged.
        DeviceError: This machine has no such device or precision.
        UsageError: The model's scale is no whole number.
    """
    if settings.model == BICUBIC:
        return bicubic_candidate(round(settings.scale or 1))
    return candidate_of(load_settings(settings, device), settings.model)


def load_draws(settings: Settings, device: str = "auto") -> list[Candidate]:
    """The draws that settings ask for, each as a candidate, their mean, and a map of the spread.

    A model that draws nothing is one candidate. The map is in colour: black for certain, yellow for
    a deviation of :data:`LIGHTEST` and more.
    """
    mean = load_candidate(settings, device)
    std, count = mean.uncertainty, settings.samples
    if std is None or count < 2:
        return [mean]
    draws = []
    for k in range(count):
        one = load_candidate(replace(settings, samples=1, seed=settings.seed + k), device)
        draws.append(replace(one, variant=f"draw {k}", uncertainty=None))
    chart = replace(mean, variant=MAP, rgb=lambda lr: coloured(std(lr), LIGHTEST))
    return [*draws, replace(mean, variant=f"mean of {count}"), chart]


def candidate_of(upscaler: Upscaler, model: str) -> Candidate:
    """An upscaler that is loaded already, as a candidate."""
    scale = round(upscaler.scale)
    if scale != upscaler.scale:
        raise UsageError(f"scale {upscaler.scale:g} cannot be scored: give a whole number")
    chain = upscaler.chain()
    native = chain[-1]

    def rgb(lr: Pixels) -> Pixels:
        return np.asarray(upscaler.image(lr))

    def uncertainty(lr: Pixels) -> Pixels:
        return upscaler.uncertainty(lr, upscaler.settings.samples).std

    alone = upscaler.tensor if len(chain) == 1 and native.scale == scale else None
    is_studio = native.channels == 1 and native.network.luma == "studio"
    return Candidate(
        model=model,
        scale=scale,
        rgb=rgb,
        y=alone if is_studio else None,
        network=None if is_studio else alone,
        channels=native.channels,
        alpha=native.alpha,
        denoise=next((stage.denoise for stage in chain if stage.denoise is not None), None),
        weights=upscaler.weights,
        uncertainty=uncertainty if native.network.noise_channels else None,
    )


def bicubic_candidate(scale: int) -> Candidate:
    """MATLAB's bicubic as a model: rounded after each pass for 8-bit pictures, exact for floats."""

    def rgb(lr: Pixels) -> Pixels:
        size = (lr.shape[0] * scale, lr.shape[1] * scale)
        enlarge = resize_uint8 if lr.dtype == np.uint8 else resize
        return to_pixels(enlarge(to_tensor(lr), size)).astype(lr.dtype)

    def exact(lr: Tensor) -> Tensor:
        return resize(lr, (lr.shape[2] * scale, lr.shape[3] * scale))

    return Candidate(BICUBIC, scale, rgb, exact, exact)


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


def parse_denoises(text: str) -> list[float]:
    """Read ``0.5`` or ``0,0.5,1``; ``auto`` is the default.

    Raises:
        UsageError: It is none of these.
    """
    try:
        found = [DEFAULT_DENOISE if p == "auto" else float(p) for p in text.split(",")]
    except ValueError:
        raise UsageError(
            f"denoise {text!r} cannot be read: give a number in [0, 1], or a list like 0,0.5,1"
        ) from None
    return [check_denoise(value) for value in found]


def parse_scales(text: str) -> list[int]:
    """Read ``4`` or ``2,3,4``.

    Raises:
        UsageError: It is no list of whole numbers from 1 to 64.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) <= 64 for part in parts):
        raise UsageError(f"scale {text!r} cannot be scored: give whole numbers, like 4 or 2,3,4")
    return [int(part) for part in parts]
