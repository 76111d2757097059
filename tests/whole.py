"""Whole pictures through ``split`` and ``merge``, for tests that have them at hand."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from upscale.color import Split, merge, split
from upscale.image import Image, of_image


def split_image(image: Image, channels: int, **options: Any) -> tuple[Tensor, Split]:
    """A picture taken apart at once: (1, channels, H, W) and the rest."""
    lr, rest = split(of_image(image), channels, **options)
    return lr.rows(0, image.height), rest


def alpha_of(rest: Split) -> Tensor | None:
    """The whole alpha as a network takes it."""
    window = rest.alpha()
    return None if window is None else window.rows(0, rest.shape[0])


def merge_image(sr: Tensor, rest: Split, alpha: Tensor | None = None) -> Image:
    """A result put together at once."""
    size = (int(sr.shape[-2]), int(sr.shape[-1]))
    strips = merge([sr], rest, size, None if alpha is None else [alpha])
    return Image(np.concatenate(list(strips)), rest.metadata)
