"""Damage that pictures take: kernels, codecs, and the named chains of ``--degrade``.

Training draws strengths at random (``upscale.training.degradations``). Evaluation names them:
``jpeg:50``, ``noise:10``, ``blur:0.8``, or a chain ``blur:0.8+noise:5+jpeg:75``, applied
from left to right and the same on every machine. Each step of a chain takes and leaves whole values
0..255, as a file of 8 bits would hold them between two programs; ``noise-float`` alone leaves what
it made. A gray picture is damaged as one channel and stays gray.

Noise of a chain is drawn by NumPy's ``RandomState``, whose stream is frozen for good, from a seed
made of the picture's name without its extension, the step, and its place. Codecs are OpenCV's.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from upscale.errors import DataError, UsageError

Array = NDArray[Any]  # (h, w, 1 or 3) RGB, float32 or float64, 0 to 255, not rounded
UNROUNDED = "noise-float"


def gaussian_kernel(sigma: tuple[float, float], angle: float, beta: float = 1.0) -> Array:
    """Generalised Gaussian exp(-(d' S^-1 d / 2)^beta), turned by ``angle`` (BSRGAN, eq. 4).

    (21, 21) float32 whose sum is 1.
    """
    y, x = np.mgrid[-10:11, -10:11].astype(np.float64)
    along = (x * np.cos(angle) + y * np.sin(angle)) / sigma[0]
    across = (-x * np.sin(angle) + y * np.cos(angle)) / sigma[1]
    kernel = np.exp(-(((along**2 + across**2) / 2) ** beta))
    return np.asarray(kernel / kernel.sum(), np.float32)


def sinc_kernel(cutoff: float) -> Array:
    """The separable ideal low-pass filter of angular frequency ``cutoff``, under a Hann window.

    (21, 21) float32 whose sum is 1.
    """
    place = np.arange(-10, 11)
    line = np.sinc(place * cutoff / np.pi) * np.hanning(23)[1:-1]
    kernel = np.outer(line, line)
    return np.asarray(kernel / kernel.sum(), np.float32)


def filtered(x: Array, kernel: Array) -> Array:
    """Correlation with ``kernel``; borders are mirrored."""
    return np.asarray(cv2.filter2D(x, -1, kernel, borderType=cv2.BORDER_REFLECT), x.dtype)


def coded(x: Array, extension: str, quality: int, *, full_colour: bool = False) -> Array:
    """Round to 8 bit, encode and decode; gray stays gray.

    ``extension`` is ``.jpg`` or ``.webp``, ``quality`` 1 to 100; a JPEG has 4:4:4 or 4:2:0.

    Raises:
        DataError: The picture is too large for the codec.
    """
    options = [cv2.IMWRITE_WEBP_QUALITY, quality]
    if extension == ".jpg":
        samplings = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
        options = [cv2.IMWRITE_JPEG_QUALITY, quality]
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, samplings[full_colour]]
    pixels = np.clip(x + 0.5, 0, 255).astype(np.uint8)
    done, data = cv2.imencode(extension, np.ascontiguousarray(pixels[..., ::-1]), options)
    if not done:
        raise DataError(
            f"{x.shape[1]}x{x.shape[0]} pixels are too many for a {extension} file: "
            "score smaller pictures"
        )
    how = cv2.IMREAD_GRAYSCALE if x.shape[2] == 1 else cv2.IMREAD_COLOR
    decoded = np.asarray(cv2.imdecode(data, how)).reshape(x.shape)
    return np.ascontiguousarray(decoded[..., ::-1], x.dtype)


class Chain(tuple[tuple[str, float], ...]):
    """Steps of damage, each a name of :data:`KINDS` with its value; none is the clean picture."""

    __slots__ = ()

    @property
    def name(self) -> str | None:
        """The chain as it is written, ``blur:0.8+noise:5+jpeg:75``; None for the clean picture."""
        return "+".join(f"{kind}:{value:g}" for kind, value in self) or None

    @property
    def unrounded(self) -> bool:
        """Whether the damaged picture has no whole values, as the denoising papers have it."""
        return any(kind == UNROUNDED for kind, _ in self)


CLEAN = Chain()


def parse_degradations(texts: Sequence[str]) -> list[Chain]:
    """Read chains, each text one or several parted by commas; ``clean`` is the chain of no steps.

    Raises:
        UsageError: A kind is unknown, a value is out of range, or ``noise-float`` is not alone.
    """
    return [_parse(part.strip()) for text in texts for part in text.split(",")]


def _parse(text: str) -> Chain:
    if text == "clean":
        return CLEAN
    chain = Chain(_step(part, text) for part in text.split("+"))
    if chain.unrounded and len(chain) > 1:
        raise UsageError(
            f"--degrade {text!r}: {UNROUNDED} is not rounded to 8 bits and stands alone: "
            "use noise in a chain"
        )
    return chain


def _step(text: str, chain: str) -> tuple[str, float]:
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
    whole = kind.low > 0  # a quality
    if not fits or (whole and value != round(value)):
        numbers = "a whole number" if whole else "a number"
        raise UsageError(
            f"--degrade {chain!r}: {number!r} is no {kind.counts}: give {numbers} "
            f"{f'from {kind.low:g} to' if whole else 'above 0, at most'} {kind.high:g}, "
            f"like {name}:{kind.high / 2:g}"
        )
    return name, value


def degrade(pixels: Array, chain: Chain, name: str) -> Array:
    """Damage a picture (H, W, 3) of whole values 0..255, whose ``name`` seeds the noise.

    Gives float64, whole values 0..255 but after ``noise-float``; without steps ``pixels`` itself.
    """
    if not chain:
        return pixels
    x = pixels.astype(np.float64)
    if (x == x[..., :1]).all():
        x = x[..., :1]
    for place, (kind, value) in enumerate(chain):
        digest = hashlib.sha256(f"{name}\0{kind}:{value:g}\0{place}".encode()).digest()
        x = KINDS[kind].apply(x, value, int.from_bytes(digest[:4], "little"))
        if kind != UNROUNDED:
            x = np.clip(np.floor(x + 0.5), 0, 255)
    return np.ascontiguousarray(np.broadcast_to(x, pixels.shape))


def _blur(x: Array, sigma: float, seed: int) -> Array:
    """Gaussian of ``sigma`` pixels of this picture, cut at 4 sigma, its borders mirrored."""
    # By NumPy, whose sums have one order on every machine, which OpenCV's have not.
    reach = math.ceil(4 * sigma)
    bell = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    bell /= bell.sum()
    for _ in range(2):  # the rows; then, turned, the columns
        wide = np.pad(x, ((reach, reach), (0, 0), (0, 0)), mode="symmetric")
        parts = (w * wide[k : k + len(x)] for k, w in enumerate(bell))
        x = sum(parts, np.zeros_like(x)).swapaxes(0, 1)
    return x


def _noise(x: Array, sigma: float, seed: int, *, gray: bool = False) -> Array:
    """Gaussian noise of ``sigma`` 8-bit levels, each channel its own or one for all."""
    shape = (*x.shape[:2], 1 if gray else x.shape[2])
    return x + np.random.RandomState(seed).normal(0, sigma, shape)


def _noise_float(x: Array, sigma: float, seed: int) -> Array:
    """SwinIR's test of denoising: seed 0 for every picture, channels B, G, R, nothing rounded."""
    noise = np.random.RandomState(0).normal(0, sigma / 255, x.shape) * 255
    return x + noise[..., ::-1]


class Kind(NamedTuple):
    """One kind of damage."""

    apply: Callable[[Array, float, int], Array]  # picture, value and seed to the damaged picture
    low: float  # smallest value; above 0 where values are whole numbers
    high: float
    counts: str  # what the value counts


KINDS = {
    "jpeg": Kind(lambda x, quality, _: coded(x, ".jpg", int(quality)), 1, 100, "quality"),
    "webp": Kind(lambda x, quality, _: coded(x, ".webp", int(quality)), 1, 100, "quality"),
    "noise": Kind(_noise, 0, 255, "sigma in 8-bit levels"),
    "gray-noise": Kind(partial(_noise, gray=True), 0, 255, "sigma in 8-bit levels"),
    UNROUNDED: Kind(_noise_float, 0, 255, "sigma in 8-bit levels"),
    "blur": Kind(_blur, 0, 20, "sigma in pixels of the low-resolution picture"),
}
