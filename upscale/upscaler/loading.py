"""From settings to networks on their device."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from upscale.checkpoints import build, resolve
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
        denoise: Share of the pair for real pictures; None where the model has none.
        is_for_clean: Whether it was trained on clean pictures alone.
    """

    prepared: Prepared
    weights: dict[str, str]
    alpha: float | None
    denoise: float | None = None
    is_for_clean: bool = False

    @property
    def scale(self) -> int:
        """Native enlargement of the network."""
        return self.prepared.network.scale

    @property
    def channels(self) -> int:
        """1 luma or gray, 3 RGB."""
        return self.prepared.network.channels


def load_native(
    settings: Settings, device: torch.device, scale: float | None, denoise: float | None = None
) -> Loaded:
    """Load the network of the nearest native scale at or above ``scale`` (None: the default one).

    ``denoise`` is the share of the pair for real pictures where the settings leave it open.

    Raises:
        CheckpointError: There is no such model, or its file is damaged or not the recorded one.
        DeviceError: ``device`` cannot compute in the precision asked for.
        UsageError: The model takes no alpha, or no denoise.
    """
    share = denoise if isinstance(settings.denoise, str | None) else settings.denoise
    checkpoint = resolve(settings.model, alpha=settings.alpha, denoise=share, scale=scale)
    network = build(checkpoint)
    dtype = choose_dtype(settings.dtype, device, network.precisions)
    weights = {source.name: source.sha256 for source in checkpoint.sources}
    prepared = prepare(network, device, dtype)
    is_for_clean = checkpoint.metadata.is_for_clean and checkpoint.denoise is None
    return Loaded(prepared, weights, checkpoint.alpha, checkpoint.denoise, is_for_clean)
