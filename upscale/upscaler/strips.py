"""From strips of the result to its pixels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from upscale.device import free_memory
from upscale.errors import OutOfMemoryError
from upscale.image import Image


def allocate(final: tuple[int, int], image: Image) -> NDArray[Any]:
    """Room for a result of ``final`` (height, width) in the channels and depth of ``image``.

    Raises:
        OutOfMemoryError: It exceeds the free memory; the system would end the process later.
    """
    channels, dtype = image.pixels.shape[2], image.pixels.dtype
    need, free = final[0] * final[1] * channels * dtype.itemsize, free_memory(torch.device("cpu"))
    if need > free:
        raise OutOfMemoryError(
            f"the result of {final[1]} x {final[0]} pixels takes {need >> 20} MiB and {free >> 20} "
            f"MiB are free; choose a smaller --scale or end other programs"
        )
    return np.empty((*final, channels), dtype)


def aligned(streams: Iterable[Iterator[Tensor]]) -> Iterator[tuple[Tensor, ...]]:
    """Strips of several streams cut to the same rows."""
    sources = list(streams)
    heads = [next(source, None) for source in sources]
    while all(head is not None for head in heads):
        strips = [head for head in heads if head is not None]
        rows = min(strip.shape[-2] for strip in strips)
        yield tuple(strip[..., :rows, :] for strip in strips)
        heads = [
            strip[..., rows:, :] if strip.shape[-2] > rows else next(source, None)
            for strip, source in zip(strips, sources, strict=True)
        ]
