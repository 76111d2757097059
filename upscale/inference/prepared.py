"""A network made ready: on its device, in its precision, in its form for inference."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property

import torch

from upscale.device import peak_bytes
from upscale.models import Network

SCRATCH = 1.25  # what kernels take for themselves, over the tensors that can be counted
_PROBE = 32  # side of the picture on which memory is measured, LR pixels


@dataclass(frozen=True)
class Prepared:
    """A network on its device in its precision; can serve several threads at once.

    Attributes:
        network: In ``dtype`` on ``device``, for inference only.
        fallback: The same in float32 (the same object where ``dtype`` is float32).
    """

    network: Network
    fallback: Network
    device: torch.device
    dtype: torch.dtype

    @cached_property
    def bytes_per_pixel(self) -> int:
        """Bytes that one LR pixel of a tile takes on the device while the network runs."""
        multiple = self.network.multiple_of
        side = -(-_PROBE // multiple) * multiple
        channels = self.network.channels + self.network.noise_channels
        lr = torch.zeros(1, channels, side, side, device=self.device, dtype=self.dtype)
        with torch.inference_mode():
            return int(SCRATCH * peak_bytes(lambda: self.network(lr))) // side**2 + 1


def prepare(
    network: Network,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Prepared:
    """Take ``network`` (float32) over for inference: it is moved, and no longer trains.

    Feature maps go channels last, which the convolutions of CPUs and GPUs like better; the form for
    inference is the network's own ``optimized()``.
    """
    device = device or torch.device("cpu")
    network = network.eval().requires_grad_(False)
    network.to(device=device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    fallback = network.optimized()
    if dtype == torch.float32:
        return Prepared(fallback, fallback, device, dtype)
    half = copy.deepcopy(network).to(dtype=dtype).optimized()
    return Prepared(half, fallback, device, dtype)
