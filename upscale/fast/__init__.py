"""Forms of the networks for inference: the same numbers, faster.

Each is derived from the network that trains, and keeps the same contract. On a CPU in float32 they
run compiled kernels (``kernels/``), where those are built; on a GPU, SwinIR's attention is fused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import torch

    from upscale.models import ESRGAN, SRCNN, VAE, Network, SwinIR

__all__ = ["optimized"]


def optimized(network: Network, device: torch.device) -> Network:
    """The form of a float32 network for a device, on which it is already.

    The network itself where there is none. A form for a GPU may be brought to half precision.
    """
    if network.backend != "torch":
        return network
    if device.type == "cuda" and network.architecture == "swinir":
        from upscale.fast.windowed import WindowedSwinIR

        return WindowedSwinIR(cast("SwinIR", network))
    if device.type != "cpu":
        return network
    from upscale.fast.native import load

    kernels = load()
    if kernels is None:
        return network
    match network.architecture:
        case "esrgan":
            from upscale.fast.esrgan import NativeESRGAN

            return NativeESRGAN(cast("ESRGAN", network), kernels)
        case "srcnn":
            from upscale.fast.srcnn import NativeSRCNN

            return NativeSRCNN(cast("SRCNN", network), kernels)
        case "swinir" if all(cast("SwinIR", network).config.depths):  # no group is empty
            from upscale.fast.swinir import NativeSwinIR

            return NativeSwinIR(cast("SwinIR", network), kernels)
        case "vae":
            from upscale.fast.vae import NativeVAE

            return NativeVAE(cast("VAE", network), kernels)
    return network
