"""What a state dict must be, and what the layouts share: hints, their answer, access to shapes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from upscale.errors import ArchitectureError, CheckpointError
from upscale.models import OTHERS, Config, network_class

MAX_SIZE = 1 << 14  # no channel count, depth or kernel of a real network comes near

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


def check_state(architecture: str, config: Config, state: Mapping[str, Tensor]) -> None:
    """Compare keys and shapes with those of the network, without allocating it.

    Another package compares those of its networks when it builds them.

    Raises:
        ArchitectureError: An impossible configuration, a key missing or unknown, another shape.
        CheckpointError: A value is not finite.
    """
    if architecture not in OTHERS:
        _check_layout(architecture, config, state)
    for key, tensor in state.items():
        if not math.isfinite(tensor.sum(dtype=torch.float64)):
            raise CheckpointError(
                f"its tensor {key} holds values that are not finite; take another checkpoint"
            )


def _check_layout(architecture: str, config: Config, state: Mapping[str, Tensor]) -> None:
    sizes = [n for v in vars(config).values() for n in (v if isinstance(v, tuple) else (v,))]
    if len(sizes) > MAX_SIZE or any(isinstance(n, int) and n > MAX_SIZE for n in sizes):
        raise ArchitectureError(f"its configuration has a size above {MAX_SIZE}; it is damaged")
    try:
        wanted = _shapes(architecture, config)
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise ArchitectureError(
            f"{architecture} cannot be built as {config}: {error}; fetch or save the file again"
        ) from error
    _compare(architecture, wanted, state)


@lru_cache(maxsize=8)  # the nets of a family have one configuration
def _shapes(architecture: str, config: Config) -> dict[str, torch.Size]:
    """The keys of a network and the shapes of their tensors."""
    with torch.device("meta"):
        network = network_class(architecture)(config)
    return {key: tensor.shape for key, tensor in network.state_dict().items()}


def _compare(
    architecture: str, wanted: Mapping[str, torch.Size], state: Mapping[str, Tensor]
) -> None:
    missing = [k for k in wanted if k not in state]
    unexpected = [k for k in state if k not in wanted]
    if missing or unexpected:
        words = []
        for kind, keys in (("lacks", missing), ("has the unknown", unexpected)):
            if keys:
                more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
                words.append(f"{kind} {keys[0]}{more}")
        raise ArchitectureError(
            f"as {architecture} it {' and '.join(words)}; it is a variant that is not supported"
        )
    for key, shape in wanted.items():
        if shape != state[key].shape:
            raise ArchitectureError(
                f"as {architecture}, its {key} is {list(state[key].shape)} and should be "
                f"{list(shape)}; the file is damaged, or a hint is wrong"
            )
