"""The VAE's form for inference: its RRDB network's; what reads the latent stays as it is."""

from __future__ import annotations

import copy

from upscale.fast.esrgan import NativeESRGAN
from upscale.fast.native import Kernels
from upscale.models.vae import VAE


def native_vae(network: VAE, kernels: Kernels) -> VAE:
    """A VAE that shares all of ``network`` but its base."""
    fast = copy.copy(network)
    fast._modules = dict(network._modules)  # a module's copy shares the dict
    fast.base = NativeESRGAN(network.base, kernels)
    fast.backend = fast.base.backend
    return fast
