"""Scores that the papers print, to set beside measured ones; ``published.toml`` has them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

SETS = frozenset({"set5", "set14", "bsd100", "bsd200", "urban100", "manga109"})
ALIASES = {"b100": "bsd100", "bsds100": "bsd100", "b200": "bsd200", "bsds200": "bsd200"}


@cache
def _rows() -> list[dict[str, Any]]:
    text = resources.files("upscale.evaluate").joinpath("published.toml").read_text("utf-8")
    return list(tomllib.loads(text).values())


def published(
    names: Sequence[str], set_name: str, scale: int, alpha: float | None = None
) -> tuple[float, float] | None:
    """The paper's PSNR (dB) and SSIM on Y of a network on a benchmark set.

    Args:
        names: Names of the weights, or of the model. For a PSNR net and a GAN net that are
            interpolated only ``alpha`` 0, the PSNR net itself, has a row.
        set_name: For example ``Set5``, ``Set14/HR``, ``BSDS100``.
        scale: Whole factor.
        alpha: Interpolation weight of the GAN net, where there is one.

    Returns:
        None where no paper prints it.
    """
    words = re.findall(r"[a-z]+\d+", set_name.lower())
    benchmark = next((w for w in (ALIASES.get(word, word) for word in words) if w in SETS), "")
    wanted = {name.lower() for name in names}
    for row in () if alpha else _rows():
        if wanted & {name.format(s=scale) for name in row["weights"]}:
            scores = row.get(f"x{scale}", {}).get(benchmark)
            return None if scores is None else (scores[0], scores[1])
    return None
