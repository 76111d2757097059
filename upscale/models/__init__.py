"""The networks: one family per file, one line per network here."""

from __future__ import annotations

from upscale.models.base import Config, Network, config_from_dict
from upscale.models.bicubic import Bicubic, BicubicConfig
from upscale.models.esrgan import ESRGAN, ESRGANConfig
from upscale.models.spandrel import Spandrel
from upscale.models.srcnn import SRCNN, SRCNNConfig
from upscale.models.swinir import SwinIR, SwinIRConfig
from upscale.models.vae import VAE, VAEConfig

MODELS: dict[str, type[Network]] = {
    "srcnn": SRCNN,
    "esrgan": ESRGAN,
    "swinir": SwinIR,
    "vae": VAE,
}
OTHERS: dict[str, type[Network]] = {"spandrel": Spandrel, "bicubic": Bicubic}  # no layouts here

__all__ = [
    "ESRGAN",
    "MODELS",
    "OTHERS",
    "SRCNN",
    "VAE",
    "BicubicConfig",
    "Config",
    "ESRGANConfig",
    "Network",
    "SRCNNConfig",
    "SwinIR",
    "SwinIRConfig",
    "VAEConfig",
    "config_from_dict",
]
