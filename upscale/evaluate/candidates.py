"""Ways to enlarge a picture, as evaluation and comparison see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from upscale.checkpoints import check_alpha, check_denoise, select
from upscale.checkpoints.index import BICUBIC, chain_of
from upscale.errors import UsageError
from upscale.evaluate.pictures import to_pixels, to_tensor
from upscale.resample import resize, resize_uint8
from upscale.settings import DEFAULT_DENOISE, Settings
from upscale.upscaler import Upscaler, load_settings
from upscale.upscaler.uncertainty import coloured

LIGHTEST = 0.1  # standard deviation, of pixels in [0, 1]
MAP = "map"  # the variant that is no picture

Pixels = NDArray[Any]
Takes = Literal["y", "gray", "rgb", "any", "nothing"]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A way to enlarge pictures, under evaluation; a subclass says how."""

    model: str  # its name, as it was asked for
    scale: int  # whole factor
    alpha: float | None = None  # share of the GAN net, where there is a pair with a PSNR net
    denoise: float | None = None  # share of the pair for real pictures, where there is one
    weights: dict[str, str] = field(default_factory=dict)  # SHA-256 of each checkpoint by its name
    variant: str = ""  # which of several pictures of one model: a draw, the mean, the map
    takes: Takes = "nothing"  # what ``tensor`` takes; y: of the studio range
    draws: bool = False  # whether the model draws, so that there is an ``uncertainty``

    def image(self, lr: Pixels) -> Pixels:
        """(h, w, 3) uint8, or float32 in [0, 1], to (scale·h, scale·w, 3) of the same dtype."""
        raise NotImplementedError

    def tensor(self, lr: Tensor) -> Tensor:
        """The network itself on (1, channels, h, w) float32: it neither clips nor rounds."""
        raise NotImplementedError

    def uncertainty(self, lr: Pixels) -> Pixels:
        """Predicted standard deviation of every pixel of the result, (scale·h, scale·w) float32."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Baseline(Candidate):
    """MATLAB's bicubic: rounded after each pass for 8-bit pictures, exact for floats."""

    model: str = BICUBIC
    takes: Takes = "any"

    def image(self, lr: Pixels) -> Pixels:
        """See :class:`Candidate`."""
        shape = (lr.shape[0] * self.scale, lr.shape[1] * self.scale)
        enlarge = resize_uint8 if lr.dtype == np.uint8 else resize
        return to_pixels(enlarge(to_tensor(lr), shape)).astype(lr.dtype)

    def tensor(self, lr: Tensor) -> Tensor:
        """See :class:`Candidate`."""
        return resize(lr, (lr.shape[2] * self.scale, lr.shape[3] * self.scale))


@dataclass(frozen=True, kw_only=True)
class Model(Candidate):
    """A loaded model."""

    upscaler: Upscaler

    def image(self, lr: Pixels) -> Pixels:
        """See :class:`Candidate`."""
        return np.asarray(self.upscaler.image(lr))

    def tensor(self, lr: Tensor) -> Tensor:
        """See :class:`Candidate`."""
        return self.upscaler.tensor(lr)

    def uncertainty(self, lr: Pixels) -> Pixels:
        """See :class:`Candidate`."""
        return self.upscaler.uncertainty(lr, self.upscaler.settings.samples).std


class UncertaintyMap(Model):
    """Where a model's draws differ, in colour: black for certain, yellow for :data:`LIGHTEST`."""

    def image(self, lr: Pixels) -> Pixels:
        """See :class:`Candidate`."""
        return coloured(self.uncertainty(lr), LIGHTEST)


def combinations(
    models: Sequence[str],
    scales: Sequence[int | None] = (None,),
    alphas: Sequence[float] = (),
    denoises: Sequence[float] = (),
    settings: Settings = Settings(),  # noqa: B008 - frozen
) -> list[Settings]:
    """Every model at every scale; a pair of a PSNR net and a GAN net at every alpha.

    A family that has such a pair for real pictures too is there with every one of ``denoises``.
    ``bicubic`` is a model; scale None is the model's own; without alphas or denoises the default is
    taken, and for the rest ``settings``.

    Raises:
        CheckpointError: There is no such model.
        UsageError: An alpha is out of range, ``alphas`` or ``denoises`` are given and no model
            takes them, or ``bicubic`` has no scale.
    """
    chosen: list[Settings] = []
    for model in models:
        for scale in scales:
            if model == BICUBIC and scale is None:
                raise UsageError("bicubic has no scale of its own: give --scale")
            # Nets between which a model interpolates: 2 with alpha, 4 with denoise too.
            nets = 1 if model == BICUBIC else max(len(select(name)) for name in chain_of(model))
            chosen += [
                replace(settings, model=model, scale=scale, alpha=alpha, denoise=denoise)
                for alpha in (alphas if nets > 1 and alphas else (None,))
                for denoise in (denoises if nets > 2 and denoises else (None,))
            ]
    for name, given, between in (
        ("alpha", alphas, "a PSNR net and a GAN net"),
        ("denoise", denoises, "a pair of nets for clean pictures and one for real ones"),
    ):
        if given and all(getattr(settings, name) is None for settings in chosen):
            raise UsageError(
                f"--{name} does not apply to {', '.join(models)}: it interpolates between "
                f"{between}, as in esrgan"
            )
    return chosen


def load_candidate(settings: Settings, device: str = "auto") -> Candidate:
    """Load the networks that settings name.

    Raises:
        CheckpointError: There is no such model, or its file is damaged.
        DeviceError: This machine has no such device or precision.
        UsageError: The model's scale is no whole number.
    """
    if settings.model == BICUBIC:
        return Baseline(scale=round(settings.scale or 1))
    upscaler = load_settings(settings, device)
    scale = round(upscaler.scale)
    if scale != upscaler.scale:
        raise UsageError(f"scale {upscaler.scale:g} cannot be scored: give a whole number")
    chain = upscaler.chain()
    native = chain[-1]
    takes: Takes = "rgb"
    if len(chain) > 1 or native.scale != scale:
        takes = "nothing"  # more than one network at work, or one and a resampling
    elif native.channels == 1:
        takes = "y" if native.network.luma == "studio" else "gray"
    return Model(
        model=settings.model,
        scale=scale,
        alpha=native.alpha,
        denoise=next((stage.denoise for stage in chain if stage.denoise is not None), None),
        weights=upscaler.weights,
        takes=takes,
        draws=bool(native.network.noise_channels),
        upscaler=upscaler,
    )


def load_draws(settings: Settings, device: str = "auto") -> list[Candidate]:
    """The draws that settings ask for, each as a candidate, their mean, and a map of the spread.

    A model that draws nothing is one candidate.
    """
    mean, count = load_candidate(settings, device), settings.samples
    if not mean.draws or count < 2:
        return [mean]
    draws = []
    for k in range(count):
        single = load_candidate(replace(settings, samples=1, seed=settings.seed + k), device)
        draws.append(replace(single, variant=f"draw {k}", draws=False))
    spread = UncertaintyMap(**vars(replace(mean, variant=MAP)))
    return [*draws, replace(mean, variant=f"mean of {count}"), spread]


def parse_alphas(text: str) -> list[float]:
    """Read ``0.5``, ``0,0.5,1`` or ``START:END:STEP`` (END included), else a ``UsageError``."""
    return [check_alpha(value) for value in _numbers(text, "alpha")]


def parse_denoises(text: str) -> list[float]:
    """Read what :func:`parse_alphas` reads; ``auto`` is the default."""
    given = text.replace("auto", f"{DEFAULT_DENOISE:g}")
    return [check_denoise(value) for value in _numbers(given, "denoise")]


def _numbers(text: str, name: str) -> list[float]:
    try:
        if ":" not in text:
            return [float(part) for part in text.split(",")]
        start, end, step = (float(part) for part in text.split(":"))
        count = round((end - start) / step)
        if count < 0 or count > 100 or abs(start + count * step - end) > 1e-6:
            raise ValueError
        return [round(start + k * step, 9) for k in range(count + 1)]
    except (ValueError, ZeroDivisionError, OverflowError):
        raise UsageError(
            f"{name} {text!r} cannot be read: give 0.8, a list like 0,0.5,1, or a range with a "
            "step that divides it, like 0:1:0.2"
        ) from None


def parse_scales(text: str) -> list[int]:
    """Read ``4`` or ``2,3,4``: whole numbers from 1 to 64, else a ``UsageError``."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) <= 64 for part in parts):
        raise UsageError(f"scale {text!r} cannot be scored: give whole numbers, like 4 or 2,3,4")
    return [int(part) for part in parts]
