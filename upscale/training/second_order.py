"""The damage of pictures that went through several hands, after Real-ESRGAN (arXiv 2107.10833).

A second-order chain: blur, resizing, noise and JPEG, then all of it again, a ringing filter or the
final resizing last (section 3.1 to 3.3). Four kinds of history are mixed, so that the network also
learns to leave clean pictures alone: clean; compressed once; compressed and *then* enlarged, whose
blocks are larger than eight pixels; and the whole chain.
"""

from __future__ import annotations

import cv2
import numpy as np

from upscale.degradations import Array, Step, coded, filtered, gaussian_kernel, sinc_kernel

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
    return [*steps, lambda x, r: coded(x, r, extension, int(r.integers(40, 96)))]


def _enlarged(size: tuple[int, int], rng: np.random.Generator) -> list[Step]:
    """Compressed while it was small, then enlarged; often saved once more."""
    share = rng.uniform(0.3, 0.9)
    steps = [_to((max(16, round(size[0] * share)), max(16, round(size[1] * share))))]
    if rng.random() < 0.3:
        steps.append(_noise(1, 10))
    steps += [lambda x, r: coded(x, r, ".jpg", int(r.integers(25, 91))), _to(size)]
    if rng.random() < 0.5:
        steps.append(lambda x, r: coded(x, r, ".jpg", int(r.integers(50, 96))))
    return steps


def _whole_chain(size: tuple[int, int], rng: np.random.Generator) -> list[Step]:
    steps: list[Step] = []
    if rng.random() < 0.8:
        steps.append(_blur)
    steps += [_resized(0.15, 1.5, (0.2, 0.7)), _noise(1, 30)]
    if rng.random() < 0.9:
        steps.append(_jpeg)
    if rng.random() < 0.5:
        steps.append(_blur)
    steps.append(_near(size))
    if rng.random() < 0.7:
        steps.append(_noise(1, 25))
    last: list[Step] = [_to(size)]
    if rng.random() < 0.4:
        last.append(_ringing)
    # Either the ringing filter and the codec are last, or the resizing is (section 3.3).
    return [*steps, *last, _jpeg] if rng.random() < 0.5 else [*steps, _jpeg, *last]


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
    kind = rng.random()
    if kind < 0.1:
        return _ringing(x, rng)
    sigma = rng.uniform(0.2, 3.0)
    other = sigma if kind < 0.6 else rng.uniform(0.2, 3.0)
    beta = 1.0
    if kind >= 0.8:
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
            return x + drawn * np.float32(rng.uniform(low, high))
        light = np.clip(x.mean(2, keepdims=True) if channels == 1 else x, 1, None)
        strength = np.float32(rng.uniform(0.05, 2.5) * high / 30)
        return np.asarray(x + drawn * np.sqrt(light * strength), np.float32)

    return step


def _jpeg(x: Array, rng: np.random.Generator) -> Array:
    return coded(x, rng, ".jpg", int(rng.integers(30, 96)))
