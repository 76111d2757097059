"""Checkpoints: found by name, verified, loaded, saved, converted, fetched, blended.

The names below are imported on first use, so that listing what there is does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from upscale.checkpoints.checkpoint import (
        Checkpoint,
        Metadata,
        Saved,
        SourceFile,
        build,
        save,
    )
    from upscale.checkpoints.conversion import convert
    from upscale.checkpoints.download import pull
    from upscale.checkpoints.export import export_onnx
    from upscale.checkpoints.index import (
        Entry,
        cache_folder,
        embedded_folder,
        entries,
        families,
        find,
        select,
        update_index,
    )
    from upscale.checkpoints.interpolation import (
        DEFAULT_ALPHA,
        blend,
        check_alpha,
        check_denoise,
        interpolate,
        load,
        resolve,
    )
    from upscale.checkpoints.layouts.form import Hints
    from upscale.checkpoints.published import Official, official

__all__ = [
    "DEFAULT_ALPHA",
    "Checkpoint",
    "Entry",
    "Hints",
    "Metadata",
    "Official",
    "Saved",
    "SourceFile",
    "blend",
    "build",
    "cache_folder",
    "check_alpha",
    "check_denoise",
    "convert",
    "embedded_folder",
    "entries",
    "export_onnx",
    "families",
    "find",
    "interpolate",
    "load",
    "official",
    "pull",
    "resolve",
    "save",
    "select",
    "update_index",
]

_HOMES = {
    **dict.fromkeys(
        (
            "DEFAULT_ALPHA",
            "blend",
            "check_alpha",
            "check_denoise",
            "interpolate",
            "load",
            "resolve",
        ),
        "interpolation",
    ),
    **dict.fromkeys(
        ("Checkpoint", "Metadata", "Saved", "SourceFile", "build", "save"), "checkpoint"
    ),
    "convert": "conversion",
    "export_onnx": "export",
    **dict.fromkeys(
        (
            "Entry",
            "cache_folder",
            "embedded_folder",
            "entries",
            "families",
            "find",
            "select",
            "update_index",
        ),
        "index",
    ),
    "Hints": "layouts.form",
    **dict.fromkeys(("Official", "official"), "published"),
    "pull": "download",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
