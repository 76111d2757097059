"""From ground truth to the damaged picture that a network learns to mend or enlarge.

:data:`DEGRADATIONS` names them for recipes. ``bicubic`` is the setting of the papers' tables;
``noise`` and ``jpeg`` keep the size and serve the restoration tasks of SwinIR; ``second-order`` is
for pictures that went through several hands, after Real-ESRGAN (Wang 2021, arXiv 2107.10833): blur,
resizing, noise and JPEG, then all of it again, a ringing filter or the final resizing last (section
3.1 to 3.3). Histories are mixed, so that the network also learns to leave clean pictures alone:
clean; compressed once; compressed and *then* enlarged, whose blocks are larger than eight pixels;
and the whole chain. ``blind`` is one round, milder, shuffled, after BSRGAN (Zhang 2021, arXiv
2103.14006), weighted towards web JPEGs, telephones and scanners; ``web`` is half of it, the other
half being clean pictures and pictures compressed once. Codecs are the real ones.

A step takes and leaves (H, W, 3) float32 in [0, 255], not rounded, and draws its strength. The
order of the draws decides the patches of released weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import torch
from torch import Tensor

from upscale.degradations import Array, coded, filtered, gaussian_kernel, sinc_kernel
from upscale.resample import resize

Random = np.random.Generator
Shape = tuple[int, int]  # height, width
Step = Callable[[Array, Random], Array]

HISTORIES = {"clean": 0.12, "light": 0.18, "enlarged": 0.16, "second order": 0.54}
INTERPOLATIONS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)


@dataclass(frozen=True)
class Degradation:
    """One way to damage a batch."""

    # From hr (N, 3, s*H, s*W) in [0, 1], which stays as it is, and the scale to lr (N, 3, H, W).
    apply: Callable[[Tensor, int, Random], Tensor]
    margin: int  # LR pixels around a patch that the damage may read
    shift: int = 0  # by which a patch may lie off its crop's middle: JPEG's grid falls everywhere


def to_8_bit(x: Tensor) -> Tensor:
    """Clamp to [0, 1] and round to multiples of 1/255 (half up), in place."""
    return x.mul_(255).add_(0.5).floor_().clamp_(0, 255).div_(255)


def bicubic(hr: Tensor, scale: int, rng: Random) -> Tensor:
    """MATLAB's antialiased bicubic with 8-bit rounding, the setting of the papers' tables."""
    del rng
    if scale == 1:
        return hr.clone()
    return to_8_bit(resize(hr, _made_small(hr, scale)))


def noise(hr: Tensor, scale: int, rng: Random) -> Tensor:
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


def jpeg(hr: Tensor, scale: int, rng: Random) -> Tensor:
    """JPEG of quality 10 to 80, colour at full or half resolution."""
    return _each(bicubic(hr, scale, rng), lambda x: _saved(x, rng, 10, 81))


def _history(hr: Tensor, scale: int, rng: Random) -> Tensor:
    return to_8_bit(_each(hr, lambda x: second_order(x, _made_small(hr, scale), rng)))


def _blind(hr: Tensor, scale: int, rng: Random) -> Tensor:
    return to_8_bit(_each(hr, lambda x: _one_round(x, _made_small(hr, scale), rng)))


def _web(hr: Tensor, scale: int, rng: Random) -> Tensor:
    return to_8_bit(_each(hr, lambda x: _of_the_web(x, _made_small(hr, scale), rng)))


def _made_small(hr: Tensor, scale: int) -> Shape:
    return hr.shape[-2] // scale, hr.shape[-1] // scale


def _each(batch: Tensor, damage: Callable[[Array], Array]) -> Tensor:
    """Damage every picture of (N, 3, H, W) in [0, 1]."""
    arrays = np.ascontiguousarray(batch.permute(0, 2, 3, 1).numpy()) * np.float32(255)
    done = np.stack([damage(x) for x in arrays])
    return torch.from_numpy(done).permute(0, 3, 1, 2).contiguous().div_(255)


DEGRADATIONS = {
    "bicubic": Degradation(bicubic, margin=4),  # the antialiased kernel reads 2 LR pixels
    "blind": Degradation(_blind, margin=8, shift=7),
    "web": Degradation(_web, margin=8, shift=7),
    "second-order": Degradation(_history, margin=8, shift=7),
    "noise": Degradation(noise, margin=4),
    "jpeg": Degradation(jpeg, margin=8, shift=7),
}

# --- steps of both chains -------------------------------------------------------------------------


def _saved(x: Array, rng: Random, low: int, high: int, extension: str = ".jpg") -> Array:
    """Through a codec, quality ``low`` to ``high`` - 1; of the JPEGs 3 in 10 keep full colour."""
    quality = int(rng.integers(low, high))
    return coded(x, extension, quality, full_colour=extension == ".jpg" and rng.random() >= 0.7)


def _blur(
    x: Array,
    rng: Random,
    sigmas: tuple[float, float],
    cutoff: float,
    exponent: Callable[[Random], float],
) -> Array:
    """Isotropic, anisotropic, generalised or plateau-shaped kernels, or a ringing filter."""
    draw = rng.random()
    if draw < 0.1:
        return _ringing(x, rng, cutoff)
    sigma = rng.uniform(*sigmas)
    other = sigma if draw < 0.6 else rng.uniform(*sigmas)
    beta = 1.0 if draw < 0.8 else exponent(rng)
    return filtered(x, gaussian_kernel((sigma, other), rng.uniform(0, np.pi), beta))


def _ringing(x: Array, rng: Random, cutoff: float) -> Array:
    """An ideal low-pass filter cut off at ``cutoff`` to pi (Real-ESRGAN, section 3.3)."""
    return filtered(x, sinc_kernel(rng.uniform(cutoff, np.pi)))


def _drawn(rng: Random, *steps: tuple[float, Step]) -> list[Step]:
    """Those of the steps that happen, each with its probability."""
    return [step for share, step in steps if share == 1 or rng.random() < share]


# --- second order ---------------------------------------------------------------------------------


def second_order(x: Array, shape: Shape, rng: Random) -> Array:
    """Damage one picture by one of :data:`HISTORIES` and bring it to ``shape``."""
    history = rng.choice(list(HISTORIES), p=list(HISTORIES.values()))
    for step in _history_steps(history, shape, rng):
        x = step(x, rng)
    return x


def _history_steps(history: str, shape: Shape, rng: Random) -> list[Step]:
    to_shape = partial(_resized, shape=shape)
    if history == "clean":
        return [to_shape]
    if history == "light":  # of the web: made small, sometimes a little noise, compressed once
        steps = _drawn(rng, (1, to_shape), (0.5, partial(_noisy, low=1, high=8)))
        extension = ".jpg" if rng.random() < 0.85 else ".webp"
        return [*steps, partial(_saved, low=40, high=96, extension=extension)]
    if history == "enlarged":  # compressed while it was small; often saved once more
        return _drawn(
            rng,
            (1, partial(_resized, shape=_times(shape, rng.uniform(0.3, 0.9)))),
            (0.3, partial(_noisy, low=1, high=10)),
            (1, partial(_saved, low=25, high=91)),
            (1, to_shape),
            (0.5, partial(_saved, low=50, high=96)),
        )
    blur = partial(_blur, sigmas=(0.2, 3.0), cutoff=np.pi / 3, exponent=_either)
    codec = partial(_saved, low=30, high=96)
    steps = _drawn(
        rng,
        # First round: lens, a size in between, sensor, an earlier save.
        (0.8, blur),
        (1, _another_size),
        (1, partial(_noisy, low=1, high=30)),
        (0.9, codec),
        # Second round: the same once more, near the final size.
        (0.5, blur),
        (1, lambda x, rng: _resized(x, rng, _times(shape, rng.uniform(0.6, 1.3)))),
        (0.7, partial(_noisy, low=1, high=25)),
    )
    last = _drawn(rng, (1, to_shape), (0.4, partial(_ringing, cutoff=np.pi / 3)))
    # Either the ringing filter and the codec are last, or the resizing is (section 3.3).
    return [*steps, *last, codec] if rng.random() < 0.5 else [*steps, codec, *last]


def _either(rng: Random) -> float:
    return rng.uniform(0.5, 1) if rng.random() < 0.5 else rng.uniform(1, 4)


def _times(shape: Shape, factor: float) -> Shape:
    return max(16, round(shape[0] * factor)), max(16, round(shape[1] * factor))


def _another_size(x: Array, rng: Random) -> Array:
    """To 0.15 to 1.5 of its size: up in 2 of 10 cases, down in 7."""
    draw, factor = rng.random(), 1.0
    if draw < 0.9:
        factor = rng.uniform(1, 1.5) if draw < 0.2 else rng.uniform(0.15, 1)
    return _resized(x, rng, _times((x.shape[0], x.shape[1]), factor))


def _resized(x: Array, rng: Random, shape: Shape) -> Array:
    """By one of three filters; shrinking is mostly antialiased."""
    how, shrink = int(rng.choice(INTERPOLATIONS)), x.shape[0] / shape[0]
    if shrink > 1.5 and how != cv2.INTER_AREA and rng.random() < 0.7:
        x = np.asarray(cv2.GaussianBlur(x, (0, 0), 0.35 * shrink), np.float32)
    return np.asarray(cv2.resize(x, shape[::-1], interpolation=how), np.float32)


def _noisy(x: Array, rng: Random, low: float, high: float) -> Array:
    """Gaussian or Poisson noise of sigma ``low`` to ``high``: gray, colour, or coloured blots."""
    draw = rng.random()
    channels = 1 if draw < 0.4 else 3
    drawn = rng.standard_normal((*x.shape[:2], channels), np.float32)
    if draw > 0.85:  # what cameras leave after their own denoising: coloured blots
        blots = cv2.GaussianBlur(drawn, (0, 0), rng.uniform(0.6, 2.5))
        drawn = blots / blots.std() - (blots / blots.std()).mean(2, keepdims=True)
        return np.asarray(x + drawn * np.float32(rng.uniform(low, high) / 2), np.float32)
    if rng.random() < 0.5:
        return np.asarray(x + drawn * np.float32(rng.uniform(low, high)), np.float32)
    light = np.clip(x.mean(2, keepdims=True) if channels == 1 else x, 1, None)
    strength = np.float32(rng.uniform(0.05, 2.5) * high / 30)
    return np.asarray(x + drawn * np.sqrt(light * strength), np.float32)


# --- blind ----------------------------------------------------------------------------------------


def _one_round(x: Array, shape: Shape, rng: Random) -> Array:
    """One round of damage in random order and strength; one picture in ten is only made small."""
    if rng.random() < 0.1:
        return _downsampled(x, rng, shape)
    ringing = np.pi / 2.5
    # What happened before the picture was downsampled: lens, camera, an earlier save.
    first = _drawn(
        rng,
        (0.5, partial(_blur, sigmas=(0.3, 3.5), cutoff=ringing, exponent=_one_of_both)),
        (0.25, _somewhat_resized),
        (0.15, partial(_grainy, most=10)),
        (0.15, partial(_saved, low=50, high=96)),
    )
    for k in rng.permutation(len(first)):
        x = first[k](x, rng)
    # Down to the final size among noise and a ringing filter; compression comes last.
    second = _drawn(rng, (1, partial(_downsampled, shape=shape)), (0.5, partial(_grainy, most=30)))
    second = [second[k] for k in rng.permutation(len(second))]
    second += _drawn(rng, (0.1, partial(_ringing, cutoff=ringing)))
    draw = rng.random()
    if draw < 0.8:
        extension = ".jpg" if draw < 0.75 else ".webp"
        second.append(partial(_saved, low=30, high=96, extension=extension))
    for step in second:
        x = step(x, rng)
    return x


def _of_the_web(x: Array, shape: Shape, rng: Random) -> Array:
    """One round in two of four cases; in one it is only made small, in one then compressed."""
    draw = rng.random()
    if draw >= 0.5:
        return _one_round(x, shape, rng)
    x = _downsampled(x, rng, shape)
    return x if draw < 0.25 else _saved(x, rng, 20, 96)


def _one_of_both(rng: Random) -> float:
    return float(rng.choice([rng.uniform(0.5, 1), rng.uniform(1, 4)]))


def _somewhat_resized(x: Array, rng: Random) -> Array:
    """To 0.4 to 1.2 of its size."""
    factor = rng.uniform(0.4, 1.2)
    size = (max(8, round(x.shape[1] * factor)), max(8, round(x.shape[0] * factor)))
    how = int(rng.choice(INTERPOLATIONS))
    return np.asarray(cv2.resize(x, size, interpolation=how), np.float32)


def _downsampled(x: Array, rng: Random, shape: Shape) -> Array:
    """To the final shape: MATLAB's bicubic, area, or bilinear with antialiasing."""
    draw = rng.random()
    if draw < 0.5:
        tensor = torch.from_numpy(np.ascontiguousarray(x)).permute(2, 0, 1)[None]
        return np.ascontiguousarray(resize(tensor, shape)[0].permute(1, 2, 0).numpy())
    if draw < 0.75:
        return np.asarray(cv2.resize(x, shape[::-1], interpolation=cv2.INTER_AREA), np.float32)
    soft = cv2.GaussianBlur(x, (0, 0), max(0.1, 0.35 * x.shape[0] / shape[0]))
    return np.asarray(cv2.resize(soft, shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def _grainy(x: Array, rng: Random, most: float) -> Array:
    """Gaussian or Poisson noise up to ``most`` levels (weak is likelier), in colour or in gray."""
    sigma = np.float32(most * rng.random() ** 1.5)
    channels = 3 if rng.random() < 0.6 else 1
    drawn = rng.standard_normal((*x.shape[:2], channels), np.float32)
    if rng.random() < 0.3:  # of photons: its variance grows with the light; sigma holds at mid-gray
        drawn *= np.sqrt(np.clip(x.mean(2, keepdims=True), 2, None) / np.float32(128))
    return np.asarray(x + sigma * drawn, np.float32)
