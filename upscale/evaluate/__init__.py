"""Score super-resolution on folders of ground truth, by the protocols of the papers."""

from __future__ import annotations

from upscale.evaluate.candidates import BICUBIC, Candidate, bicubic_candidate
from upscale.evaluate.pictures import PictureSet, find_sets, lr_path, read_8bit
from upscale.evaluate.protocol import PROTOCOLS, Pair, make_pair
from upscale.evaluate.published import published
from upscale.evaluate.scores import Score, evaluate, mean, score

__all__ = [
    "BICUBIC",
    "PROTOCOLS",
    "Candidate",
    "Pair",
    "PictureSet",
    "Score",
    "bicubic_candidate",
    "evaluate",
    "find_sets",
    "lr_path",
    "make_pair",
    "mean",
    "published",
    "read_8bit",
    "score",
]
