"""The networks: one family per file, one line per network here."""

from __future__ import annotations

from upscale.models.base import Config, Network, config_from_dict
from upscale.models.esrgan import ESRGAN, ESRGANConfig
from upscale.models.srcnn import SRCNN, SRCNNConfig
from upscale.models.swinir import SwinIR, SwinIRConfig
from upscale.models.vae import VAE, VAEConfig

MODELS: dict[str, type[Network]] = {
    "srcnn": SRCNN,
    "esrgan": ESRGAN,
    "swinir": SwinIR,
    "vae": VAE,
}

__all__ = [
    "ESRGAN",
    "MODELS",
    "SRCNN",
    "VAE",
    "Config",
    "ESRGANConfig",
    "Network",
    "SRCNNConfig",
    "SwinIR",
    "SwinIRConfig",
    "VAEConfig",
    "config_from_dict",
]
