"""Damage to pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]  # (h, w, 3), 0 to 255, not rounded
Step = Callable[[Array, np.random.Generator], Array]


def gaussian_kernel(sigma: tuple[float, float], angle: float, beta: float = 1.0) -> Array:
    """Generalised Gaussian exp(-(d' S^-1 d / 2)^beta), turned by ``angle`` (BSRGAN, eq. 4).

    Returns:
        (21, 21) whose sum is 1.
    """
    y, x = np.mgrid[-10:11, -10:11].astype(np.float64)
    along = (x * np.cos(angle) + y * np.sin(angle)) / sigma[0]
    across = (-x * np.sin(angle) + y * np.cos(angle)) / sigma[1]
    kernel = np.exp(-(((along**2 + across**2) / 2) ** beta))
    return np.asarray(kernel / kernel.sum(), np.float32)


def sinc_kernel(cutoff: float) -> Array:
    """The separable ideal low-pass filter of angular frequency ``cutoff``, under a Hann window.

    Returns:
        (21, 21) whose sum is 1.
    """
    place = np.arange(-10, 11)
    line = np.sinc(place * cutoff / np.pi) * np.hanning(23)[1:-1]
    kernel = np.outer(line, line)
    return np.asarray(kernel / kernel.sum(), np.float32)


def filtered(x: Array, kernel: Array) -> Array:
    """Correlation with ``kernel``; borders are mirrored."""
    return np.asarray(cv2.filter2D(x, -1, kernel, borderType=cv2.BORDER_REFLECT), np.float32)


def through_codec(x: Array, extension: str, options: Sequence[int]) -> Array:
    """Round to 8 bit, encode and decode; ``options`` are OpenCV's, RGB stays RGB."""
    pixels = np.clip(x + 0.5, 0, 255).astype(np.uint8)
    data = cv2.imencode(extension, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)[1]
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB).astype(np.float32)


def coded(x: Array, rng: np.random.Generator, extension: str, quality: int) -> Array:
    """Through a real codec: JPEG with 4:2:0 (7 of 10) or 4:4:4 colour, or WebP."""
    options = [cv2.IMWRITE_WEBP_QUALITY, quality]
    if extension == ".jpg":
        sampling = (
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
            if rng.random() < 0.7
            else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
        )
        options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    return through_codec(x, extension, options)
