"""Checkpoints: found by name, verified, loaded, saved, converted, fetched, blended.

In comes what ``--model`` says: a family, a weights name, or a file of any trainer. Out comes a
``Checkpoint``: an architecture, its configuration, and float32 tensors under native keys, of which
``build`` makes the network. Begin with ``loading.resolve``; it selects (``index.py``), loads
(foreign files by ``conversion.py`` and ``layouts.py``) and blends (``checkpoint.py``). What needs
torch is imported on first use, so that listing what there is does without.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from upscale.checkpoints.index import (
    WeightsFile,
    entries,
    families,
    find,
    official,
    select,
    update_index,
)

if TYPE_CHECKING:
    from upscale.checkpoints.checkpoint import (
        Checkpoint,
        CheckpointInfo,
        Hints,
        SourceFile,
        blend,
        check_alpha,
        check_denoise,
    )
    from upscale.checkpoints.download import pull
    from upscale.checkpoints.loading import build, load, resolve
    from upscale.checkpoints.saving import Saved, convert, export_onnx, save

_MODULES = {
    "checkpoint": "Checkpoint CheckpointInfo Hints SourceFile blend check_alpha check_denoise",
    "download": "pull",
    "loading": "build load resolve",
    "saving": "Saved convert export_onnx save",
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = [
    "Checkpoint",
    "CheckpointInfo",
    "Hints",
    "Saved",
    "SourceFile",
    "WeightsFile",
    "blend",
    "build",
    "check_alpha",
    "check_denoise",
    "convert",
    "entries",
    "export_onnx",
    "families",
    "find",
    "load",
    "official",
    "pull",
    "resolve",
    "save",
    "select",
    "update_index",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
