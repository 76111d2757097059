"""From settings to networks on their device."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from upscale.checkpoints import DEFAULT_ALPHA, build, resolve
from upscale.device import choose_dtype
from upscale.inference import Prepared, prepare
from upscale.settings import Settings


@dataclass(frozen=True)
class Loaded:
    """One native scale of a model on its device.

    Attributes:
        prepared: The network.
        weights: SHA-256 of each checkpoint by its name.
        alpha: Share of the GAN net; None where the model is no pair.
    """

    prepared: Prepared
    weights: dict[str, str]
    alpha: float | None

    @property
    def scale(self) -> int:
        """Native enlargement of the network."""
        return self.prepared.network.scale

    @property
    def channels(self) -> int:
        """1 luma or gray, 3 RGB."""
        return self.prepared.network.channels


def load_native(settings: Settings, device: torch.device, scale: float | None) -> Loaded:
    """Load the network of the nearest native scale at or above ``scale`` (None: the default one).

    Raises:
        CheckpointError: There is no such model, or its file is damaged or not the recorded one.
        DeviceError: ``device`` cannot compute in the precision asked for.
        UsageError: The model takes no alpha.
    """
    checkpoint = resolve(settings.model, alpha=settings.alpha, scale=scale)
    network = build(checkpoint)
    dtype = choose_dtype(settings.dtype, device, network.precisions)
    alpha = settings.alpha
    if alpha is None and len(checkpoint.sources) > 1:
        alpha = DEFAULT_ALPHA
    weights = {source.name: source.sha256 for source in checkpoint.sources}
    return Loaded(prepare(network, device, dtype), weights, alpha)
