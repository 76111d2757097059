"""Names of models and weights: how they are compared, and which come close."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Literal

Role = Literal["", "psnr", "gan"]
SUFFIXES = (".safetensors", ".pth", ".pt", ".tar", ".ckpt", ".bin", ".mat")


def normal(name: str) -> str:
    """The form in which names are compared: lower case, ``-`` for ``_``, no file suffix."""
    lowered = name.strip().lower().replace("_", "-")
    for suffix in (".pth.tar", *SUFFIXES):
        lowered = lowered.removesuffix(suffix)
    return lowered


def suggestion(name: str, names: Iterable[str]) -> str:
    """``did you mean …?`` with the closest names, else where to look them up."""
    close = difflib.get_close_matches(normal(name), list(names), n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return "'upscale models' lists what there is"
