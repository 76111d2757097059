"""Forms of the networks for inference: the same numbers, faster.

In goes a network as it trains, out comes a form of it that keeps the same contract: on a CPU, in
float32, programs of compiled kernels (``native``, ``kernels/``) where those are built; on a GPU
SwinIR with fused attention (``windowed``). Open ``esrgan`` first: it reads like the paper's figure.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import torch

    from upscale.models import Network, SwinIR

__all__ = ["optimized"]

NATIVE = {"esrgan": "NativeESRGAN", "srcnn": "NativeSRCNN", "swinir": "NativeSwinIR"}
NATIVE |= {"vae": "NativeVAE"}


def optimized(network: Network, device: torch.device, *, bf16: bool = False) -> Network:
    """The form of a float32 network for a device, on which it is already.

    The network itself where there is none. A form for a GPU may be brought to half precision; with
    ``bf16`` one for a CPU multiplies bfloat16 (it still takes and gives float32).
    """
    architecture = network.architecture
    if network.backend != "torch":
        return network
    if device.type == "cuda" and architecture == "swinir":
        from upscale.fast.windowed import WindowedSwinIR

        return WindowedSwinIR(cast("SwinIR", network))
    if device.type != "cpu":
        return network
    from upscale.fast.native import load

    kernels = load()
    if kernels is not None and bf16:
        kernels = kernels.in_bf16()
    if kernels is None or architecture not in NATIVE:
        return network
    if architecture == "swinir" and not all(cast("SwinIR", network).config.depths):
        return network  # a group without layers
    form: Any = getattr(import_module(f"upscale.fast.{architecture}"), NATIVE[architecture])
    return cast("Network", form(network, kernels))
