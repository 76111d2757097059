"""Names of models and weights: how they are compared, and which come close."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

Role = Literal["", "psnr", "gan", "real-psnr", "real-gan"]
CLEAN: tuple[Role, Role] = ("psnr", "gan")  # trained on clean pictures; alpha walks between them
REAL: tuple[Role, Role] = ("real-psnr", "real-gan")  # the same for pictures as people have them
BICUBIC = "bicubic"  # the model that is no network and has no file
SUFFIXES = (".safetensors", ".pth", ".pt", ".tar", ".ckpt", ".bin", ".mat", ".param", ".onnx")


def chain_of(model: str) -> list[str]:
    """The models of a chain ``A,B``; a file whose name holds commas is one model."""
    names = [name.strip() for name in model.split(",")]
    return [model] if len(names) == 1 or Path(model).is_file() else names


def normal(name: str) -> str:
    """The form in which names are compared: lower case, ``-`` for ``_``, no file suffix."""
    lowered = name.strip().lower().replace("_", "-")
    for suffix in (".pth.tar", *SUFFIXES[:-2]):  # no weights are named like an ncnn or ONNX file
        lowered = lowered.removesuffix(suffix)
    return lowered


def suggestion(name: str, names: Iterable[str]) -> str:
    """``did you mean …?`` with the closest names, else where to look them up."""
    close = difflib.get_close_matches(normal(name), list(names), n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return "'upscale models' lists what there is"
