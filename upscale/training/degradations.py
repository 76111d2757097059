"""From ground truth to the damaged picture that a network learns to mend or enlarge.

:data:`DEGRADATIONS` names them for recipes. ``bicubic`` is the setting of the papers' tables;
``blind`` is a chain of blur, resizing, noise and compression in random order and strength, after
BSRGAN (Zhang 2021, arXiv 2103.14006) and Real-ESRGAN (Wang 2021, arXiv 2107.10833), weighted
towards what web JPEGs, telephones and scanners do; ``noise`` and ``jpeg`` keep the size and serve
the restoration tasks of SwinIR. Codecs are the real ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from upscale.degradations import (
    Array,
    Step,
    coded,
    filtered,
    gaussian_kernel,
    sinc_kernel,
)
from upscale.resample import resize
from upscale.training.second_order import second_order

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


def real(hr: Tensor, scale: int, rng: np.random.Generator) -> Tensor:
    """The second-order chain of :mod:`upscale.training.second_order`."""
    size = hr.shape[-2] // scale, hr.shape[-1] // scale
    return to_8_bit(_each(hr, lambda x: second_order(x, size, rng)))


def jpeg(hr: Tensor, scale: int, rng: np.random.Generator) -> Tensor:
    """JPEG of quality 10 to 80, colour at full or half resolution."""
    clean = bicubic(hr, scale, rng)
    return _each(clean, lambda x: coded(x, rng, ".jpg", int(rng.integers(10, 81))))


def blind(hr: Tensor, scale: int, rng: np.random.Generator) -> Tensor:
    """The blind chain; one picture in ten is only downsampled."""
    height, width = hr.shape[-2] // scale, hr.shape[-1] // scale

    def chain(x: Array) -> Array:
        if rng.random() < CLEAN:
            return downsampled(x, (height, width), rng)
        for step in _first_round(rng):
            x = step(x, rng)
        for step in _second_round((height, width), rng):
            x = step(x, rng)
        return x

    return to_8_bit(_each(hr, chain))


CLEAN = 0.1  # share of the pictures that the blind chain leaves undamaged


def _first_round(rng: np.random.Generator) -> list[Step]:
    """What happened before the picture was downsampled: lens, camera, an earlier save."""
    steps: list[tuple[float, Step]] = [
        (0.5, blurred),
        (0.25, resized),
        (0.15, lambda x, r: noisy(x, r, 10)),
        (0.15, lambda x, r: coded(x, r, ".jpg", int(r.integers(50, 96)))),
    ]
    chosen = [step for share, step in steps if rng.random() < share]
    return [chosen[i] for i in rng.permutation(len(chosen))]


def _second_round(size: tuple[int, int], rng: np.random.Generator) -> list[Step]:
    """Down to the final size among noise and a soft or ringing filter; compression comes last."""
    steps: list[Step] = [lambda x, r: downsampled(x, size, r)]
    if rng.random() < 0.5:
        steps.append(lambda x, r: noisy(x, r, 30))
    steps = [steps[i] for i in rng.permutation(len(steps))]
    if rng.random() < 0.1:
        steps.append(ringing)
    kind = rng.random()
    if kind < 0.75:
        steps.append(lambda x, r: coded(x, r, ".jpg", int(r.integers(30, 96))))
    elif kind < 0.8:
        steps.append(lambda x, r: coded(x, r, ".webp", int(r.integers(30, 96))))
    return steps


def _each(batch: Tensor, step: Callable[[Array], Array]) -> Tensor:
    """Apply ``step`` to every picture of (N, 3, H, W) in [0, 1]."""
    arrays = np.ascontiguousarray(batch.permute(0, 2, 3, 1).numpy()) * np.float32(255)
    done = np.stack([step(x) for x in arrays])
    return torch.from_numpy(done).permute(0, 3, 1, 2).contiguous().div_(255)


def blurred(x: Array, rng: np.random.Generator) -> Array:
    """One of four kernels of sigma 0.3 to 3.5 pixels, or a low-pass filter that rings."""
    kind = rng.random()
    if kind < 0.1:
        return ringing(x, rng)
    sigma = rng.uniform(0.3, 3.5)
    other = sigma if kind < 0.6 else rng.uniform(0.3, 3.5)
    beta = 1.0 if kind < 0.8 else float(rng.choice([rng.uniform(0.5, 1), rng.uniform(1, 4)]))
    return filtered(x, gaussian_kernel((sigma, other), rng.uniform(0, np.pi), beta))


def ringing(x: Array, rng: np.random.Generator) -> Array:
    """An ideal low-pass filter cut off at pi / 2.5 to pi, whose edges ring (Real-ESRGAN, 3.3)."""
    return filtered(x, sinc_kernel(rng.uniform(np.pi / 2.5, np.pi)))


def resized(x: Array, rng: np.random.Generator) -> Array:
    """Through another size: by area, bilinear or bicubic to 0.4 to 1.2 of it."""
    factor = rng.uniform(0.4, 1.2)
    size = (max(8, round(x.shape[1] * factor)), max(8, round(x.shape[0] * factor)))
    kinds = [cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC]
    return np.asarray(cv2.resize(x, size, interpolation=int(rng.choice(kinds))), np.float32)


def downsampled(x: Array, size: tuple[int, int], rng: np.random.Generator) -> Array:
    """To the final (height, width): MATLAB's bicubic, area, or bilinear with antialiasing."""
    kind = rng.random()
    if kind < 0.5:
        tensor = torch.from_numpy(np.ascontiguousarray(x)).permute(2, 0, 1)[None]
        return np.ascontiguousarray(resize(tensor, size)[0].permute(1, 2, 0).numpy())
    if kind < 0.75:
        return np.asarray(cv2.resize(x, size[::-1], interpolation=cv2.INTER_AREA), np.float32)
    soft = cv2.GaussianBlur(x, (0, 0), max(0.1, 0.35 * x.shape[0] / size[0]))
    return np.asarray(cv2.resize(soft, size[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def noisy(x: Array, rng: np.random.Generator, most: float) -> Array:
    """Gaussian or Poisson noise up to ``most`` levels (weak is likelier), in colour or in gray."""
    sigma = np.float32(most * rng.random() ** 1.5)
    channels = 3 if rng.random() < 0.6 else 1
    drawn = rng.standard_normal((*x.shape[:2], channels), np.float32)
    if rng.random() < 0.3:  # of photons: its variance grows with the light; sigma holds at mid-gray
        drawn *= np.sqrt(np.clip(x.mean(2, keepdims=True), 2, None) / np.float32(128))
    return x + sigma * drawn


DEGRADATIONS: dict[str, Degradation] = {
    "bicubic": Degradation(bicubic, margin=4),  # the antialiased kernel reads 2 LR pixels
    "blind": Degradation(blind, margin=8, shift=7),
    "second-order": Degradation(real, margin=4),
    "noise": Degradation(noise, margin=4),
    "jpeg": Degradation(jpeg, margin=8, shift=7),
}
