"""A network made ready: on its device, in its precision, in its form for inference."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import torch

from upscale.fast import optimized
from upscale.models import Network
from upscale.models.base import watch


@dataclass(frozen=True)
class Prepared:
    """A network on its device in its precision; can serve several threads at once.

    Attributes:
        network: In ``dtype`` on ``device``, for inference only.
        fallback: The same in float32 (the same object where ``dtype`` is float32).
        device: Where it runs.
        dtype: In which precision.
        work: For progress: what one LR pixel takes, once a run has measured it.
    """

    network: Network
    fallback: Network
    device: torch.device
    dtype: torch.dtype
    work: dict[tuple[bool, int], float] = field(
        default_factory=dict, compare=False, repr=False, kw_only=True
    )


def prepare(
    network: Network,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Prepared:
    """Take ``network`` (float32) over for inference: it is moved, and no longer trains.

    It takes the form of :func:`upscale.fast.optimized`, in half precision on a GPU alone; feature
    maps go channels last, which the convolutions of CPUs and GPUs like better.
    """
    device = device or torch.device("cpu")
    network = network.eval().requires_grad_(False)
    network.to(device=device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    fallback = optimized(network, device)
    chosen = fallback
    if dtype != torch.float32:
        chosen = copy.deepcopy(network if device.type == "cpu" else fallback).to(dtype=dtype)
    watch(chosen)
    return Prepared(chosen, fallback, device, dtype)
