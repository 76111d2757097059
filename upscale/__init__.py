"""Image super-resolution for the shell and for Python.

>>> import upscale
>>> up = upscale.load("esrgan", alpha=0.8)
>>> big = up.image(array)

The names below are imported on first use, so that ``import upscale`` does not import PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from upscale import batch, errors
    from upscale.errors import UpscaleError, UsageError
    from upscale.image import Image, Metadata, decode, encode
    from upscale.upscaler import Result, Upscaler, load

__version__ = "0.1.0"

__all__ = [
    "Image",
    "Metadata",
    "Result",
    "UpscaleError",
    "Upscaler",
    "UsageError",
    "__version__",
    "batch",
    "decode",
    "encode",
    "errors",
    "load",
]

_HOMES = {
    **dict.fromkeys(("Image", "Metadata", "decode", "encode"), "upscale.image"),
    **dict.fromkeys(("Result", "Upscaler", "load"), "upscale.upscaler"),
    **dict.fromkeys(("UpscaleError", "UsageError"), "upscale.errors"),
}


def __getattr__(name: str) -> Any:
    if name in ("batch", "errors"):
        return importlib.import_module(f"upscale.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'upscale' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
