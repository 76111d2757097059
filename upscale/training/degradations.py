"""From ground truth to the damaged picture that a network learns to mend or enlarge.

:data:`DEGRADATIONS` names them for recipes. ``bicubic`` is the setting of the papers' tables;
``noise`` and ``jpeg`` keep the size and serve the restoration tasks of SwinIR; ``second-order`` is
for pictures that went through several hands, after Real-ESRGAN (Wang 2021, arXiv 2107.10833): blur,
resizing, noise and JPEG, then all of it again, a ringing filter or the final resizing last (section
3.1 to 3.3). Histories are mixed, so that the network also learns to leave clean pictures alone:
clean; compressed once; compressed and *then* enlarged, whose blocks are larger than eight pixels;
and the whole chain. ``blind`` is one round, milder. Codecs are the real ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from upscale.degradations import Array, filtered, gaussian_kernel, sinc_kernel
from upscale.resample import resize
from upscale.training.blind import Step, blind_chain, saved

Apply = Callable[[Tensor, int, np.random.Generator], Tensor]


@dataclass(frozen=True)
class Degradation:
    """One way to damage a batch.

    Attributes:
        apply: ``(hr, scale, rng) -> lr``, (N, 3, s*H, s*W) to (N, 3, H, W), float32; ``hr`` is in
            [0, 1] and stays as it is.
        margin: LR pixels around a patch that the damage may read.
        shift: LR pixels by which a patch may lie off the middle of its crop, so that the 8-pixel
            grid of JPEG falls everywhere.
    """

    apply: Apply
    margin: int
    shift: int = 0


def to_8_bit(x: Tensor) -> Tensor:
    """Clamp to [0, 1] and round to multiples of 1/255 (half up), in place."""
    return x.mul_(255).add_(0.5).floor_().clamp_(0, 255).div_(255)


def bicubic(hr: Tensor, scale: int, rng: np.random.Generator) -> Tensor:
    """MATLAB's antialiased bicubic with 8-bit rounding, the setting of the papers' tables."""
    del rng
    if scale == 1:
        return hr.clone()
    height, width = hr.shape[-2] // scale, hr.shape[-1] // scale
    return to_8_bit(resize(hr, (height, width)))


def noise(hr: Tensor, scale: int, rng: np.random.Generator) -> Tensor:
    """White Gaussian noise of sigma 5 to 50 levels; in a quarter of the pictures it is gray.

    Half of the pictures are rounded to 8 bit: the papers measure on noise that is neither clipped
    nor rounded, files hold what is both.
    """
    clean = bicubic(hr, scale, rng)
    sigma = torch.from_numpy(rng.uniform(5, 50, (len(hr), 1, 1, 1)).astype(np.float32))
    drawn = torch.from_numpy(rng.standard_normal(clean.shape, np.float32))
    gray = torch.from_numpy(rng.random((len(hr), 1, 1, 1)) < 0.25)
    noisy = clean + torch.where(gray, drawn[:, :1], drawn) * sigma / 255
    rounded = torch.from_numpy(rng.random((len(hr), 1, 1, 1)) < 0.5)
    return torch.where(rounded, to_8_bit(noisy.clone()), noisy)


def jpeg(hr: Tensor, scale: int, rng: np.random.Generator) -> Tensor:
    """JPEG of quality 10 to 80, colour at full or half resolution."""
    clean = bicubic(hr, scale, rng)
    return _each(clean, lambda x: saved(10, 81)(x, rng))


def histories(hr: Tensor, scale: int, rng: np.random.Generator) -> Tensor:
    """One of :data:`HISTORIES` for each picture."""
    size = hr.shape[-2] // scale, hr.shape[-1] // scale
    return to_8_bit(_each(hr, lambda x: second_order(x, size, rng)))


def blind(hr: Tensor, scale: int, rng: np.random.Generator) -> Tensor:
    """The milder chain of :mod:`upscale.training.blind`."""
    size = hr.shape[-2] // scale, hr.shape[-1] // scale
    return to_8_bit(_each(hr, lambda x: blind_chain(x, size, rng)))


def _each(batch: Tensor, step: Callable[[Array], Array]) -> Tensor:
    """Apply ``step`` to every picture of (N, 3, H, W) in [0, 1]."""
    arrays = np.ascontiguousarray(batch.permute(0, 2, 3, 1).numpy()) * np.float32(255)
    done = np.stack([step(x) for x in arrays])
    return torch.from_numpy(done).permute(0, 3, 1, 2).contiguous().div_(255)


DEGRADATIONS: dict[str, Degradation] = {
    "bicubic": Degradation(bicubic, margin=4),  # the antialiased kernel reads 2 LR pixels
    "blind": Degradation(blind, margin=8, shift=7),
    "second-order": Degradation(histories, margin=8, shift=7),
    "noise": Degradation(noise, margin=4),
    "jpeg": Degradation(jpeg, margin=8, shift=7),
}

HISTORIES = {"clean": 0.12, "light": 0.18, "enlarged": 0.16, "second order": 0.54}
INTERPOLATIONS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)


def second_order(x: Array, size: tuple[int, int], rng: np.random.Generator) -> Array:
    """Damage one picture and bring it to ``size``.

    Args:
        x: (H, W, 3) RGB, float32 in [0, 255].
        size: (height, width) of the result.
        rng: Decides everything.

    Returns:
        (height, width, 3), float32, not rounded, possibly beyond [0, 255].
    """
    history = rng.choice(list(HISTORIES), p=list(HISTORIES.values()))
    for step in _STEPS[history](size, rng):
        x = step(x, rng)
    return x


def _clean(size: tuple[int, int], rng: np.random.Generator) -> list[Step]:
    return [_to(size)]


def _light(size: tuple[int, int], rng: np.random.Generator) -> list[Step]:
    """A picture of the web: made small, sometimes with a little noise, and compressed once."""
    steps = [_to(size)]
    if rng.random() < 0.5:
        steps.append(_noise(1, 8))
    extension = ".jpg" if rng.random() < 0.85 else ".webp"
    return [*steps, saved(40, 96, extension)]


def _enlarged(size: tuple[int, int], rng: np.random.Generator) -> list[Step]:
    """Compressed while it was small, then enlarged; often saved once more."""
    share = rng.uniform(0.3, 0.9)
    steps = [_to((max(16, round(size[0] * share)), max(16, round(size[1] * share))))]
    if rng.random() < 0.3:
        steps.append(_noise(1, 10))
    steps += [saved(25, 91), _to(size)]
    if rng.random() < 0.5:
        steps.append(saved(50, 96))
    return steps


def _whole_chain(size: tuple[int, int], rng: np.random.Generator) -> list[Step]:
    steps: list[Step] = []
    # First round: lens, a size in between, sensor, an earlier save.
    if rng.random() < 0.8:
        steps.append(_blur)
    steps += [_resized(0.15, 1.5, (0.2, 0.7)), _noise(1, 30)]
    if rng.random() < 0.9:
        steps.append(saved(30, 96))
    # Second round: the same once more, near the final size.
    if rng.random() < 0.5:
        steps.append(_blur)
    steps.append(_near(size))
    if rng.random() < 0.7:
        steps.append(_noise(1, 25))
    last: list[Step] = [_to(size)]
    if rng.random() < 0.4:
        last.append(_ringing)
    # Either the ringing filter and the codec are last, or the resizing is (section 3.3).
    codec = saved(30, 96)
    return [*steps, *last, codec] if rng.random() < 0.5 else [*steps, codec, *last]


_STEPS = {
    "clean": _clean,
    "light": _light,
    "enlarged": _enlarged,
    "second order": _whole_chain,
}


def _to(size: tuple[int, int]) -> Step:
    """Resize to (height, width) by one of three filters; shrinking by cubic is antialiased."""

    def step(x: Array, rng: np.random.Generator) -> Array:
        how = int(rng.choice(INTERPOLATIONS))
        shrink = x.shape[0] / size[0]
        if shrink > 1.5 and how != cv2.INTER_AREA and rng.random() < 0.7:
            x = np.asarray(cv2.GaussianBlur(x, (0, 0), 0.35 * shrink), np.float32)
        return np.asarray(cv2.resize(x, size[::-1], interpolation=how), np.float32)

    return step


def _resized(low: float, high: float, shares: tuple[float, float]) -> Step:
    """To ``low``..``high`` of its size: up in ``shares[0]`` of the cases, down in ``shares[1]``."""

    def step(x: Array, rng: np.random.Generator) -> Array:
        up, down = shares
        draw = rng.random()
        factor = 1.0
        if draw < up:
            factor = rng.uniform(1, high)
        elif draw < up + down:
            factor = rng.uniform(low, 1)
        size = max(16, round(x.shape[0] * factor)), max(16, round(x.shape[1] * factor))
        return _to(size)(x, rng)

    return step


def _near(size: tuple[int, int]) -> Step:
    """To 0.6 to 1.3 of the final size."""

    def step(x: Array, rng: np.random.Generator) -> Array:
        factor = rng.uniform(0.6, 1.3)
        return _to((max(16, round(size[0] * factor)), max(16, round(size[1] * factor))))(x, rng)

    return step


def _blur(x: Array, rng: np.random.Generator) -> Array:
    """Isotropic, anisotropic, generalised or plateau-shaped kernels, or a ringing filter."""
    draw = rng.random()
    if draw < 0.1:
        return _ringing(x, rng)
    sigma = rng.uniform(0.2, 3.0)
    other = sigma if draw < 0.6 else rng.uniform(0.2, 3.0)
    beta = 1.0
    if draw >= 0.8:
        beta = rng.uniform(0.5, 1) if rng.random() < 0.5 else rng.uniform(1, 4)
    return filtered(x, gaussian_kernel((sigma, other), rng.uniform(0, np.pi), beta))


def _ringing(x: Array, rng: np.random.Generator) -> Array:
    return filtered(x, sinc_kernel(rng.uniform(np.pi / 3, np.pi)))


def _noise(low: float, high: float) -> Step:
    """Gaussian or Poisson noise of sigma ``low`` to ``high``: gray, colour, or coloured blots."""

    def step(x: Array, rng: np.random.Generator) -> Array:
        draw = rng.random()
        channels = 1 if draw < 0.4 else 3
        drawn = rng.standard_normal((*x.shape[:2], channels), np.float32)
        if draw > 0.85:  # what cameras leave after their own denoising: coloured blots
            spread = rng.uniform(0.6, 2.5)
            blots = cv2.GaussianBlur(drawn, (0, 0), spread)
            drawn = blots / blots.std() - (blots / blots.std()).mean(2, keepdims=True)
            return np.asarray(x + drawn * np.float32(rng.uniform(low, high) / 2), np.float32)
        if rng.random() < 0.5:
            return np.asarray(x + drawn * np.float32(rng.uniform(low, high)), np.float32)
        light = np.clip(x.mean(2, keepdims=True) if channels == 1 else x, 1, None)
        strength = np.float32(rng.uniform(0.05, 2.5) * high / 30)
        return np.asarray(x + drawn * np.sqrt(light * strength), np.float32)

    return step
