"""The VAE's form for inference on a CPU: its RRDB network, and what reads the latent, compiled."""

from __future__ import annotations

from torch import Tensor

from upscale.fast.esrgan import NativeESRGAN
from upscale.fast.native import Kernels, Program, begin
from upscale.models.esrgan import SLOPE
from upscale.models.vae import VAE


class NativeVAE(VAE):
    """The same numbers; what runs once for all draws beside the RRDB network stays in PyTorch."""

    def __init__(self, network: VAE, kernels: Kernels) -> None:
        begin(self, network, kernels)
        self.base = NativeESRGAN(network.base, kernels)
        self.conv_spread, self.conv_sigma = network.conv_spread, network.conv_sigma
        self.program = _program(network, kernels)

    def detail(self, seen: Tensor) -> Tensor:
        """See :meth:`VAE.detail`."""
        return self.program(seen)


def _program(network: VAE, kernels: Kernels) -> Program:
    config, layers = network.config, (network.conv_latent, network.conv_hidden)
    program = Program(kernels, config.num_feat + config.latent, tight=False)
    at = program.input
    for layer in layers:
        at = program.convolve(layer, at, program.buffer(config.num_hidden), slope=SLOPE)
    out = program.buffer(network.conv_detail.out_channels)
    program.convolve(network.conv_detail, at, out)
    return program
