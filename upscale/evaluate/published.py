"""Scores that the papers print, to set beside measured ones.

PSNR in dB and SSIM on Y, borders of ``scale`` pixels left out. Sources: SRCNN 9-5-5 trained on
ImageNet and bicubic, arXiv 1501.00092 (Set5, Set14, BSD200), and SRCNN as the README of
github.com/xinntao/ESRGAN lists it (BSD100, Urban100, Manga109); the PSNR-oriented RRDB of ESRGAN,
the same README; SwinIR (trained on DIV2K, on DF2K, and the light one), arXiv 2108.10257.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_SETS = ("set5", "set14", "bsd100", "bsd200", "urban100", "manga109")
_ALIASES = {"b100": "bsd100", "bsds100": "bsd100", "b200": "bsd200", "bsds200": "bsd200"}

# Rows of "PSNR/SSIM" in the order of _SETS; "-" where the paper is silent.
_SCORES = {
    "srcnn": {
        2: "36.66/.9542 32.45/.9067 31.36/.8879 30.29/.8977 29.50/.8946 -",
        3: "32.75/.9090 29.30/.8215 28.41/.7863 27.18/.7971 - -",
        4: "30.49/.8628 27.50/.7513 26.90/.7101 25.60/.7184 24.52/.7221 27.58/.8555",
    },
    "esrgan-psnr": {4: "32.73/.9011 28.99/.7917 27.85/.7455 - 27.03/.8153 31.66/.9196"},
    "swinir-div2k": {
        2: "38.35/.9620 34.14/.9227 32.44/.9030 - 33.40/.9393 39.60/.9792",
        3: "34.89/.9312 30.77/.8503 29.37/.8124 - 29.29/.8744 34.74/.9518",
        4: "32.72/.9021 28.94/.7914 27.83/.7459 - 27.07/.8164 31.67/.9226",
    },
    "swinir-df2k": {
        2: "38.42/.9623 34.46/.9250 32.53/.9041 - 33.81/.9427 39.92/.9797",
        3: "34.97/.9318 30.93/.8534 29.46/.8145 - 29.75/.8826 35.12/.9537",
        4: "32.92/.9044 29.09/.7950 27.92/.7489 - 27.45/.8254 32.03/.9260",
    },
    "swinir-light": {
        2: "38.14/.9611 33.86/.9206 32.31/.9012 - 32.76/.9340 39.12/.9783",
        3: "34.62/.9289 30.54/.8463 29.20/.8082 - 28.66/.8624 33.98/.9478",
        4: "32.44/.8976 28.77/.7858 27.69/.7406 - 26.47/.7980 30.92/.9151",
    },
    "bicubic": {
        2: "33.66/.9299 30.23/.8687 - - - -",
        3: "30.39/.8682 27.54/.7736 - - - -",
        4: "28.42/.8104 26.00/.7019 - - - -",
    },
}

# The first pattern that a weights name matches says whose row it is.
_ROWS = (
    (r"^bicubic$", "bicubic"),
    (r"^srcnn(-x\d)?$|^srcnn-955", "srcnn"),
    (r"^swinir-light|^swinir-s-|lightweightsr", "swinir-light"),
    (r"^swinir-m-df2k|classicalsr_df2k", "swinir-df2k"),
    (r"^swinir-m-div2k|classicalsr_div2k", "swinir-div2k"),
    (r"^(esrgan|rrdb).*psnr", "esrgan-psnr"),
)


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
    if alpha:
        return None
    benchmark = _benchmark(set_name)
    row = next((r for pattern, r in _ROWS for n in names if re.search(pattern, n.lower())), None)
    if benchmark is None or row is None or scale not in _SCORES[row]:
        return None
    psnr, _, ssim = _SCORES[row][scale].split()[_SETS.index(benchmark)].partition("/")
    return None if psnr == "-" else (float(psnr), float(ssim))


def _benchmark(set_name: str) -> str | None:
    words = [m[0] for m in re.finditer(r"[a-z]+\d+", set_name.lower())]
    names = (_ALIASES.get(word, word) for word in words)
    return next((name for name in names if name in _SETS), None)
