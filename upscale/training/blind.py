"""A milder chain of one round of damage, in random order and strength, after BSRGAN.

Zhang et al. 2021, arXiv 2103.14006: blur, resizing, noise and compression shuffled; weighted
towards what web JPEGs, telephones and scanners do. One picture in ten is only made small.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import torch

from upscale.degradations import Array, coded, filtered, gaussian_kernel, sinc_kernel
from upscale.resample import resize

Step = Callable[[Array, np.random.Generator], Array]
CLEAN = 0.1  # share of the pictures that stay undamaged


def blind_chain(x: Array, size: tuple[int, int], rng: np.random.Generator) -> Array:
    """Damage one picture, (H, W, 3) in [0, 255], and bring it to ``size`` (height, width)."""
    if rng.random() < CLEAN:
        return _downsampled(x, rng, size)
    for step in _first_round(rng):
        x = step(x, rng)
    for step in _second_round(size, rng):
        x = step(x, rng)
    return x


def saved(low: int, high: int, extension: str = ".jpg") -> Step:
    """Through a codec, quality ``low`` to ``high`` - 1; of the JPEGs 3 in 10 keep full colour."""

    def step(x: Array, rng: np.random.Generator) -> Array:
        quality = int(rng.integers(low, high))
        full_colour = extension == ".jpg" and rng.random() >= 0.7
        return coded(x, extension, quality, full_colour=full_colour)

    return step


def _first_round(rng: np.random.Generator) -> list[Step]:
    """What happened before the picture was downsampled: lens, camera, an earlier save."""
    steps: list[tuple[float, Step]] = [
        (0.5, _blurred),
        (0.25, _resized),
        (0.15, partial(_noisy, most=10)),
        (0.15, saved(50, 96)),
    ]
    chosen = [step for share, step in steps if rng.random() < share]
    return [chosen[i] for i in rng.permutation(len(chosen))]


def _second_round(size: tuple[int, int], rng: np.random.Generator) -> list[Step]:
    """Down to the final size among noise and a soft or ringing filter; compression comes last."""
    steps: list[Step] = [partial(_downsampled, size=size)]
    if rng.random() < 0.5:
        steps.append(partial(_noisy, most=30))
    steps = [steps[i] for i in rng.permutation(len(steps))]
    if rng.random() < 0.1:
        steps.append(_ringing)
    draw = rng.random()
    if draw < 0.8:
        steps.append(saved(30, 96, ".jpg" if draw < 0.75 else ".webp"))
    return steps


def _blurred(x: Array, rng: np.random.Generator) -> Array:
    """One of four kernels of sigma 0.3 to 3.5 pixels, or a low-pass filter that rings."""
    draw = rng.random()
    if draw < 0.1:
        return _ringing(x, rng)
    sigma = rng.uniform(0.3, 3.5)
    other = sigma if draw < 0.6 else rng.uniform(0.3, 3.5)
    beta = 1.0 if draw < 0.8 else float(rng.choice([rng.uniform(0.5, 1), rng.uniform(1, 4)]))
    return filtered(x, gaussian_kernel((sigma, other), rng.uniform(0, np.pi), beta))


def _ringing(x: Array, rng: np.random.Generator) -> Array:
    """An ideal low-pass filter cut off at pi / 2.5 to pi (Real-ESRGAN, section 3.3)."""
    return filtered(x, sinc_kernel(rng.uniform(np.pi / 2.5, np.pi)))


def _resized(x: Array, rng: np.random.Generator) -> Array:
    """Through another size: by area, bilinear or bicubic to 0.4 to 1.2 of it."""
    factor = rng.uniform(0.4, 1.2)
    size = (max(8, round(x.shape[1] * factor)), max(8, round(x.shape[0] * factor)))
    filters = [cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC]
    return np.asarray(cv2.resize(x, size, interpolation=int(rng.choice(filters))), np.float32)


def _downsampled(x: Array, rng: np.random.Generator, size: tuple[int, int]) -> Array:
    """To the final (height, width): MATLAB's bicubic, area, or bilinear with antialiasing."""
    draw = rng.random()
    if draw < 0.5:
        tensor = torch.from_numpy(np.ascontiguousarray(x)).permute(2, 0, 1)[None]
        return np.ascontiguousarray(resize(tensor, size)[0].permute(1, 2, 0).numpy())
    if draw < 0.75:
        return np.asarray(cv2.resize(x, size[::-1], interpolation=cv2.INTER_AREA), np.float32)
    soft = cv2.GaussianBlur(x, (0, 0), max(0.1, 0.35 * x.shape[0] / size[0]))
    return np.asarray(cv2.resize(soft, size[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def _noisy(x: Array, rng: np.random.Generator, most: float) -> Array:
    """Gaussian or Poisson noise up to ``most`` levels (weak is likelier), in colour or in gray."""
    sigma = np.float32(most * rng.random() ** 1.5)
    channels = 3 if rng.random() < 0.6 else 1
    drawn = rng.standard_normal((*x.shape[:2], channels), np.float32)
    if rng.random() < 0.3:  # of photons: its variance grows with the light; sigma holds at mid-gray
        drawn *= np.sqrt(np.clip(x.mean(2, keepdims=True), 2, None) / np.float32(128))
    return np.asarray(x + sigma * drawn, np.float32)
