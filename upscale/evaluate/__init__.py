"""Score super-resolution on folders of ground truth, by the protocols of the papers."""

from __future__ import annotations

from upscale.evaluate.against import Likeness, against
from upscale.evaluate.candidates import (
    BICUBIC,
    MAP,
    Candidate,
    bicubic_candidate,
    candidate_of,
    combinations,
    load_candidate,
    load_draws,
    parse_alphas,
    parse_denoises,
    parse_scales,
)
from upscale.evaluate.pictures import PictureSet, find_sets, lr_path, read_8bit
from upscale.evaluate.protocol import PROTOCOLS, Pair, make_pair
from upscale.evaluate.published import published
from upscale.evaluate.scores import Score, evaluate, mean, score

__all__ = [
    "BICUBIC",
    "MAP",
    "PROTOCOLS",
    "Candidate",
    "Likeness",
    "Pair",
    "PictureSet",
    "Score",
    "against",
    "bicubic_candidate",
    "candidate_of",
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
    "score",
]
