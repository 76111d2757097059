"""What the layouts share: the hints they take, the form of their answer, and access to shapes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from upscale.errors import ArchitectureError
from upscale.models import Config

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Hints:
    """What a file cannot tell; None leaves it to the documented rule.

    Attributes:
        scale: SRCNN's enlargement; 3 for an ESRGAN whose one upsampling stage is a x3.
        img_range: SwinIR's value range, 1 or 255.
    """

    scale: int | None = None
    img_range: float | None = None


@dataclass(frozen=True)
class Recognised:
    """A state dict understood.

    Attributes:
        architecture: Key of ``MODELS`` or ``OTHERS``.
        config: Configuration of the network.
        state: Tensors under native keys, floats as float32.
        layout: Name of the layout that the keys were in.
        rules: What was decided by a rule and not read from the file, for people.
    """

    architecture: str
    config: Config
    state: dict[str, Tensor]
    layout: str
    rules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """One way of naming the layers of one network.

    Attributes:
        name: For people and headers.
        matches: Whether the keys are this layout's.
        read: Keys and shapes to configuration and native state.
    """

    name: str
    matches: Callable[[State], bool]
    read: Callable[[State, Hints], Recognised]


def dims(state: State, key: str, count: int) -> tuple[int, ...]:
    """The shape of a tensor that must have ``count`` dimensions, none of them 0.

    Raises:
        ArchitectureError: It is missing, or has others.
    """
    if key not in state:
        raise ArchitectureError(f"it lacks the tensor {key}; fetch or save the file again")
    shape = tuple(state[key].shape)
    if len(shape) != count or 0 in shape:
        raise ArchitectureError(
            f"its {key} is {list(shape)}, where {count} dimensions are needed; the file is damaged"
        )
    return shape


def picture_channels(entering: int, leaving: int) -> int:
    """The channels of the picture, 1 or 3, the same in and out.

    Raises:
        ArchitectureError: Others.
    """
    if entering != leaving or entering not in (1, 3):
        raise ArchitectureError(
            f"it takes {entering} channels and gives {leaving}; upscale runs networks that take "
            f"and give 1 (gray) or 3 (RGB)"
        )
    return entering


def count_of(pattern: str, keys: Iterable[str]) -> int:
    """One more than the largest number that group 1 of ``pattern`` matches; 0 when none does."""
    found = (re.match(pattern, key) for key in keys)
    return max((int(m[1]) + 1 for m in found if m), default=0)


def as_float32(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Floating-point tensors as float32, contiguous; others as they are."""
    return {k: (v.float() if v.is_floating_point() else v).contiguous() for k, v in state.items()}
