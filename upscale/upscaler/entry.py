"""From a model's name to the model in use."""

from __future__ import annotations

import os

from upscale.color import AlphaMode, IccMode
from upscale.device import choose_device, keep_large_blocks
from upscale.inference import Noise, TileOption
from upscale.upscaler.loading import Options
from upscale.upscaler.upscaler import Upscaler, check_scale


def load(
    name: str | os.PathLike[str] = "esrgan",
    *,
    alpha: float | None = None,
    scale: float | None = None,
    device: str = "auto",
    dtype: str = "auto",
    tile: TileOption = "auto",
    overlap: int | None = None,
    tta: bool = False,
    alpha_mode: AlphaMode = "network",
    icc: IccMode = "keep",
    color_fix: bool = False,
    seed: int = 0,
    temperature: float = 0.8,
) -> Upscaler:
    """Load a model.

    Args:
        name: A family (``srcnn``, ``esrgan``, ``swinir``), a weights name (``swinir-light-x2``), or
            the path of a safetensors checkpoint.
        alpha: Share of the GAN net where the model is a pair, in [0, 1]; None for 0.8.
        scale: Final enlargement; None for the model's own.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N``, ``mps``.
        dtype: ``auto``, ``fp32``, ``fp16``, ``bf16``.
        tile: Useful side of a tile in LR pixels, ``auto``, or ``off``.
        overlap: LR pixels that neighbouring tiles share; None for what the network needs.
        tta: Mean over the eight flips and turns; eight times the work.
        alpha_mode: Enlarge a picture's alpha channel by the ``network`` or ``bicubic``.
        icc: ``keep`` a picture's colour profile, or leave the result in ``srgb``.
        color_fix: Put the input's low frequencies back into the result, against colour drift.
        seed: Of the noise, for networks that take noise.
        temperature: Of the noise.

    Raises:
        CheckpointError: There is no such model, or its file is damaged or not the recorded one.
        DeviceError: This machine has no such device or precision.
        UsageError: A value is out of range.
    """
    keep_large_blocks()
    return Upscaler(
        Options(
            os.fspath(name),
            dtype,
            alpha=alpha,
            scale=None if scale is None else check_scale(scale),
            tile=tile,
            overlap=overlap,
            tta=tta,
            alpha_mode=alpha_mode,
            icc=icc,
            color_fix=color_fix,
            noise=Noise(seed, temperature),
        ),
        choose_device(device),
    )
