"""A model, loaded and ready: picture, array, bytes or file in, the same out.

``load`` gives an ``Upscaler`` (``upscaler.py``, open it first), which holds its networks
(``networks.py``). Whatever is enlarged is one ``Enlargement`` (``enlargement.py``): rows of a
Reader in, strips of the result out; ``process`` (``job.py``) writes it to memory or to a file
and says how it went, in a ``Result``, for page after page too.

The names below are imported on first use: a ``Result`` needs no PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from upscale.upscaler.result import Result, model_label
    from upscale.upscaler.upscaler import Upscaler, load, load_settings

__all__ = ["Result", "Upscaler", "load", "load_settings", "model_label"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'upscale.upscaler' has no attribute {name!r}")
    home = "result" if name in ("Result", "model_label") else "upscaler"
    return getattr(importlib.import_module(f"upscale.upscaler.{home}"), name)
