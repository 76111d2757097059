"""Ways to enlarge a picture, as evaluation and comparison see them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from upscale.evaluate.protocol import to_pixels, to_tensor
from upscale.resample import resize, resize_uint8

BICUBIC = "bicubic"  # the name of the model that is no network

Pixels = NDArray[Any]


@dataclass(frozen=True)
class Candidate:
    """A way to enlarge pictures, under evaluation.

    Attributes:
        model: Its name.
        scale: Whole enlargement factor.
        rgb: (h, w, 3) uint8, or float32 in [0, 1], to (scale·h, scale·w, 3) of the same dtype.
        y: The same for studio-range Y alone, (1, 1, h, w) float32 in [0, 1]; None where the network
            takes RGB only.
        alpha: Interpolation between a PSNR net and a GAN net, where there is one.
        weights: Name and SHA-256 of each checkpoint.
    """

    model: str
    scale: int
    rgb: Callable[[Pixels], Pixels]
    y: Callable[[Tensor], Tensor] | None = None
    alpha: float | None = None
    weights: tuple[dict[str, str], ...] = ()


def bicubic_candidate(scale: int) -> Candidate:
    """MATLAB's bicubic as a model: rounded after each pass for 8-bit pictures, exact for floats."""

    def rgb(lr: Pixels) -> Pixels:
        size = (lr.shape[0] * scale, lr.shape[1] * scale)
        enlarge = resize_uint8 if lr.dtype == np.uint8 else resize
        return to_pixels(enlarge(to_tensor(lr), size)).astype(lr.dtype)

    def y(lr: Tensor) -> Tensor:
        return resize(lr, (lr.shape[2] * scale, lr.shape[3] * scale))

    return Candidate(BICUBIC, scale, rgb, y)
