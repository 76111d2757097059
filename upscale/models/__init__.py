"""The networks: low-resolution tensors in, enlarged tensors out.

In comes (N, channels, H, W) in [0, 1], out goes the same ``scale`` times as large. ``base`` has the
contract that every network keeps: open it first. Each family is a file headed by its paper, and is
imported when its network is asked for; ``layers`` has what two of them share. A new network is its
file and a line below.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from upscale.models.base import Config, Network, config_from_dict

if TYPE_CHECKING:
    from upscale.models.esrgan import ESRGAN, ESRGANConfig
    from upscale.models.srcnn import SRCNN, SRCNNConfig
    from upscale.models.swinir import SwinIR, SwinIRConfig
    from upscale.models.vae import VAE, VAEConfig

MODELS = {"srcnn": "SRCNN", "esrgan": "ESRGAN", "swinir": "SwinIR", "vae": "VAE"}
OTHERS = {"spandrel": "Spandrel", "bicubic": "Bicubic"}  # no key layouts of ours

__all__ = [
    "ESRGAN",
    "MODELS",
    "OTHERS",
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
    "network_class",
]


def network_class(architecture: str) -> type[Network]:
    """The class of an architecture, a key of ``MODELS`` or ``OTHERS``; its module is loaded now.

    Raises:
        KeyError: There is no such architecture.
    """
    name = (MODELS | OTHERS)[architecture]
    network: type[Network] = getattr(import_module(f"upscale.models.{architecture}"), name)
    return network


def __getattr__(name: str) -> Any:
    """``SwinIR`` or ``SwinIRConfig`` from the module of its architecture (PEP 562)."""
    for architecture, network in MODELS.items():
        if name in (network, f"{network}Config"):
            return getattr(import_module(f"upscale.models.{architecture}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
