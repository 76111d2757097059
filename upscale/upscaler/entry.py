"""From a model's name to the model in use."""

from __future__ import annotations

import os
from inspect import Parameter
from typing import Any

from upscale.device import choose_device, keep_large_blocks
from upscale.options import divide, signature
from upscale.settings import Settings
from upscale.upscaler.upscaler import Upscaler


def load(
    model: str | os.PathLike[str] = "esrgan", *, device: str = "auto", **settings: Any
) -> Upscaler:
    """Load a model.

    Args:
        model: A family (``srcnn``, ``esrgan``, ``swinir``), a weights name (``swinir-light-x2``),
            or the path of a safetensors checkpoint.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N``, ``mps``.
        settings: The options of the command line by their long names, with underscores
            (``upscale.settings.Settings``): ``alpha=0.3``, ``scale=2``, ``tile=256``.

    Raises:
        CheckpointError: There is no such model, or its file is damaged or not the recorded one.
        DeviceError: This machine has no such device or precision.
        UsageError: A value is out of range, or there is no such option.
    """
    (wanted,) = divide({"model": model, **settings}, Settings)
    return load_settings(wanted, device)


load.__signature__ = signature(  # type: ignore[attr-defined]
    [
        Parameter("model", Parameter.POSITIONAL_OR_KEYWORD, default="esrgan", annotation=str),
        Parameter("device", Parameter.KEYWORD_ONLY, default="auto", annotation=str),
    ],
    Settings,
)


def load_settings(settings: Settings, device: str = "auto") -> Upscaler:
    """Load the model that settings name; see :func:`load`."""
    keep_large_blocks()
    return Upscaler(settings, choose_device(device))
