"""How published files name the layers of the networks; here, what the layouts share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from upscale.checkpoints.checkpoint import Checkpoint, Hints
from upscale.errors import ArchitectureError

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class KeyLayout:
    """One way of naming the layers of one network."""

    name: str  # for people and headers
    matches: Callable[[State], bool]  # whether the keys are this layout's
    rename: Callable[[State], dict[str, Tensor]]  # keys to native ones
    read: Callable[[State, Hints], Checkpoint]  # native keys and shapes to the configuration


def dims(state: State, key: str, count: int) -> tuple[int, ...]:
    """The shape of a tensor that must have ``count`` dimensions, none of them 0."""
    if key not in state:
        raise ArchitectureError(f"it lacks the tensor {key}; fetch or save the file again")
    shape = tuple(state[key].shape)
    if len(shape) != count or 0 in shape:
        raise ArchitectureError(
            f"its {key} is {list(shape)}, where {count} dimensions are needed; the file is damaged"
        )
    return shape


def picture_channels(entering: int, leaving: int) -> int:
    """The channels of the picture, which must be 1 or 3 and the same in and out."""
    if entering != leaving or entering not in (1, 3):
        raise ArchitectureError(
            f"it takes {entering} channels and gives {leaving}; upscale runs networks that take "
            f"and give 1 (gray) or 3 (RGB)"
        )
    return entering


def count_of(pattern: str, keys: Iterable[str]) -> int:
    """One more than the largest number that group 1 of ``pattern`` matches; 0 when none does."""
    matches = (re.match(pattern, key) for key in keys)
    return max((int(m[1]) + 1 for m in matches if m), default=0)


def check_scale(scale: int, hints: Hints) -> None:
    """Refuse a scale that was given and is not the one that the layers make."""
    if hints.scale not in (None, scale):
        raise ArchitectureError(
            f"its layers enlarge by {scale}, not by the {hints.scale} given; leave it out"
        )
