"""Named damage to the low-resolution picture, the same on every machine.

``jpeg:50``, ``noise:10``, ``blur:0.8``, or a chain such as ``blur:0.8+noise:5+jpeg:75``, applied
from left to right. Each step takes and leaves whole values 0..255, as a file of 8 bits would hold
them between two programs; ``noise-float`` alone leaves what it made. A gray picture is damaged as
one channel and stays gray.

Noise is drawn by NumPy's ``RandomState``, whose stream is frozen for good, from a seed made of the
picture's name without its extension, the step, and its place in the chain. Codecs are OpenCV's.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from upscale.errors import DataError, UsageError
from upscale.evaluate.protocol import as_rgb, to_pixels, to_tensor

Planes = NDArray[np.float64]  # (H, W, 1 or 3) in 0..255


@dataclass(frozen=True)
class Kind:
    """One kind of damage.

    Attributes:
        apply: Picture, value and seed to the damaged picture.
        low: Smallest value; the value 0 itself is never one.
        high: Largest value.
        whole: Whether values are whole numbers.
        what: What the value counts.
    """

    apply: Callable[[Planes, float, int], Planes]
    low: float
    high: float
    whole: bool
    what: str


@dataclass(frozen=True)
class Step:
    """A kind of damage with its value: ``jpeg:50``."""

    kind: str
    value: float

    def __str__(self) -> str:
        return f"{self.kind}:{self.value:g}"


@dataclass(frozen=True)
class Degradation:
    """A chain of damage; no step is the clean picture."""

    steps: tuple[Step, ...] = ()

    @property
    def name(self) -> str | None:
        """The chain as it is written, ``blur:0.8+noise:5+jpeg:75``; None for the clean picture."""
        return "+".join(map(str, self.steps)) or None

    @property
    def unrounded(self) -> bool:
        """Whether the damaged picture has no whole values, as the denoising papers have it."""
        return any(step.kind == UNROUNDED for step in self.steps)


CLEAN = Degradation()
UNROUNDED = "noise-float"


def parse_degradations(texts: Sequence[str]) -> list[Degradation]:
    """Read chains, each text one or several parted by commas; ``clean`` is the chain of no steps.

    Raises:
        UsageError: A kind is unknown, a value is out of range, or ``noise-float`` is not alone.
    """
    return [_parse(part.strip()) for text in texts for part in text.split(",")]


def _parse(text: str) -> Degradation:
    if text == "clean":
        return CLEAN
    made = Degradation(tuple(_step(part, text) for part in text.split("+")))
    if made.unrounded and len(made.steps) > 1:
        raise UsageError(
            f"--degrade {text!r}: {UNROUNDED} is not rounded to 8 bits and stands alone: "
            "use noise in a chain"
        )
    return made


def _step(text: str, chain: str) -> Step:
    name, _, number = text.partition(":")
    kind = KINDS.get(name)
    if kind is None:
        raise UsageError(
            f"--degrade {chain!r}: {name!r} is no kind of damage: use {', '.join(KINDS)} or "
            "clean, chained with +, like blur:0.8+noise:5+jpeg:75"
        )
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    fits = kind.low <= value <= kind.high and value > 0
    if not fits or (kind.whole and value != round(value)):
        numbers = "a whole number" if kind.whole else "a number"
        raise UsageError(
            f"--degrade {chain!r}: {number!r} is no {kind.what}: give {numbers} "
            f"{'above 0, at most' if kind.low == 0 else f'from {kind.low:g} to'} {kind.high:g}, "
            f"like {name}:{kind.high / 2:g}"
        )
    return Step(name, value)


def degrade(picture: Tensor, degradation: Degradation, name: str) -> Tensor:
    """Damage a picture.

    Args:
        picture: (1, 3, H, W), whole values 0..255; gray where its channels are equal.
        degradation: The chain; without steps ``picture`` itself is returned.
        name: The picture's name, which seeds the noise.

    Returns:
        (1, 3, H, W) float64, whole values 0..255 but after ``noise-float``.
    """
    if not degradation.steps:
        return picture
    x = to_pixels(picture).astype(np.float64)
    if (x == x[..., :1]).all():
        x = x[..., :1]
    for place, step in enumerate(degradation.steps):
        x = KINDS[step.kind].apply(x, step.value, _seed(name, step, place))
    return as_rgb(to_tensor(x))


def _seed(name: str, step: Step, place: int) -> int:
    digest = hashlib.sha256(f"{name}\0{step}\0{place}".encode()).digest()
    return int.from_bytes(digest[:4], "little")


def _round(x: Planes) -> Planes:
    rounded: Planes = np.clip(np.floor(x + 0.5), 0, 255)
    return rounded


def _blur(x: Planes, sigma: float, seed: int) -> Planes:
    """Gaussian of ``sigma`` pixels of this picture, cut at 4 sigma, its borders mirrored."""
    reach = math.ceil(4 * sigma)
    bell = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    bell /= bell.sum()
    for axis in (0, 1):
        border = [(reach, reach) if a == axis else (0, 0) for a in range(3)]
        wide = np.pad(x, border, mode="symmetric")
        length = x.shape[axis]
        x = np.zeros_like(x)
        for k, weight in enumerate(bell):
            x += weight * wide[(slice(None),) * axis + (slice(k, k + length),)]
    return _round(x)


def _noise(x: Planes, sigma: float, seed: int) -> Planes:
    """Gaussian noise of ``sigma`` 8-bit levels, each channel its own."""
    return _round(x + np.random.RandomState(seed).normal(0, sigma, x.shape))


def _gray_noise(x: Planes, sigma: float, seed: int) -> Planes:
    """The same, one sample for all channels."""
    return _round(x + np.random.RandomState(seed).normal(0, sigma, (*x.shape[:2], 1)))


def _noise_float(x: Planes, sigma: float, seed: int) -> Planes:
    """SwinIR's test of denoising: seed 0 for every picture, channels B, G, R, nothing rounded."""
    noise = np.random.RandomState(0).normal(0, sigma / 255, x.shape) * 255
    return x + noise[..., ::-1]


def _jpeg(x: Planes, quality: float, seed: int) -> Planes:
    sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420]
    return _coded(x, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, int(quality), *sampling])


def _webp(x: Planes, quality: float, seed: int) -> Planes:
    return _coded(x, ".webp", [cv2.IMWRITE_WEBP_QUALITY, int(quality)])


def _coded(x: Planes, extension: str, options: list[int]) -> Planes:
    """Through a codec and back; a gray picture as gray."""
    pixels: NDArray[Any] = np.ascontiguousarray(x.astype(np.uint8)[..., ::-1])
    done, data = cv2.imencode(extension, pixels, options)
    if not done:
        raise DataError(
            f"{x.shape[1]}x{x.shape[0]} pixels are too many for a {extension} file: "
            "score smaller pictures"
        )
    how = cv2.IMREAD_GRAYSCALE if x.shape[2] == 1 else cv2.IMREAD_COLOR
    back = np.asarray(cv2.imdecode(data, how), np.float64).reshape(x.shape)
    return back[..., ::-1].copy()


KINDS = {
    "jpeg": Kind(_jpeg, 1, 100, True, "quality"),
    "webp": Kind(_webp, 1, 100, True, "quality"),
    "noise": Kind(_noise, 0, 255, False, "sigma in 8-bit levels"),
    "gray-noise": Kind(_gray_noise, 0, 255, False, "sigma in 8-bit levels"),
    UNROUNDED: Kind(_noise_float, 0, 255, False, "sigma in 8-bit levels"),
    "blur": Kind(_blur, 0, 20, False, "sigma in pixels of the low-resolution picture"),
}
