"""From options to networks on their device."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

import torch

from upscale.checkpoints import build, resolve
from upscale.color import AlphaMode, IccMode
from upscale.device import choose_dtype
from upscale.errors import UsageError
from upscale.inference import Noise, Prepared, TileOption, check_options, prepare


@dataclass(frozen=True)
class Options:
    """What :func:`load` was asked for, apart from the device."""

    name: str
    dtype: str = "auto"
    alpha: float | None = None
    scale: float | None = None
    tile: TileOption = "auto"
    overlap: int | None = None
    tta: bool = False
    alpha_mode: AlphaMode = "network"
    icc: IccMode = "keep"
    color_fix: bool = False
    noise: Noise = field(default_factory=Noise)
    denoise: float | None = None

    def __post_init__(self) -> None:
        check_options(self.tile, self.overlap)
        if self.alpha_mode not in get_args(AlphaMode):
            raise UsageError(f"alpha mode {self.alpha_mode!r} is unknown: use network or bicubic")
        if self.icc not in get_args(IccMode):
            raise UsageError(f"ICC mode {self.icc!r} is unknown: use keep or srgb")


@dataclass(frozen=True)
class Loaded:
    """One native scale of a model on its device.

    Attributes:
        prepared: The network.
        weights: SHA-256 of each checkpoint by its name.
        alpha: Share of the GAN net; None where the model is no pair.
        denoise: Share of the pair for real pictures; None where the model has none.
    """

    prepared: Prepared
    weights: dict[str, str]
    alpha: float | None
    denoise: float | None = None

    @property
    def scale(self) -> int:
        """Native enlargement of the network."""
        return self.prepared.network.scale

    @property
    def channels(self) -> int:
        """1 luma or gray, 3 RGB."""
        return self.prepared.network.channels


def load_native(options: Options, device: torch.device, scale: float | None) -> Loaded:
    """Load the network of the nearest native scale at or above ``scale`` (None: the default one).

    Raises:
        CheckpointError: There is no such model, or its file is damaged or not the recorded one.
        DeviceError: ``device`` cannot compute in the precision asked for.
        UsageError: ``options.alpha`` or ``denoise`` is out of range or the model takes none.
    """
    checkpoint = resolve(options.name, alpha=options.alpha, denoise=options.denoise, scale=scale)
    network = build(checkpoint)
    dtype = choose_dtype(options.dtype, device, network.precisions)
    weights = {source.name: source.sha256 for source in checkpoint.sources}
    prepared = prepare(network, device, dtype)
    return Loaded(prepared, weights, checkpoint.alpha, checkpoint.denoise)
