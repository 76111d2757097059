"""Score super-resolution on folders of pictures, by the protocols of the papers.

In come folders and settings; out goes a :class:`Score` (against the truth) or a :class:`Likeness`
(against another program's results) for each picture, then the means of each folder. Begin with
``scores.py``; ``candidates.py`` has what is scored, ``pictures.py`` the files and how they are made
small, ``published.toml`` what the papers print.
"""

from __future__ import annotations

from upscale.evaluate.against import Likeness, against
from upscale.evaluate.candidates import (
    MAP,
    Baseline,
    Candidate,
    combinations,
    load_candidate,
    load_draws,
    parse_alphas,
    parse_denoises,
    parse_scales,
)
from upscale.evaluate.pictures import find_sets, lr_path, make_pair, read_8bit, read_rgb
from upscale.evaluate.scores import Score, evaluate, mean, published, score

__all__ = [
    "MAP",
    "Baseline",
    "Candidate",
    "Likeness",
    "Score",
    "against",
    "combinations",
    "evaluate",
    "find_sets",
    "load_candidate",
    "load_draws",
    "lr_path",
    "make_pair",
    "mean",
    "parse_alphas",
    "parse_denoises",
    "parse_scales",
    "published",
    "read_8bit",
    "read_rgb",
    "score",
]
