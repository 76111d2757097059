"""SRCNN's three convolutions, by number (``conv1``, native) or by role (``features``, …)."""

from __future__ import annotations

import re

from torch import Tensor

from upscale.checkpoints.checkpoint import Checkpoint, Hints, as_float32
from upscale.checkpoints.layouts import KeyLayout, State, dims, picture_channels
from upscale.errors import ArchitectureError
from upscale.models import SRCNNConfig

_NATIVE = {f"conv{k}.{kind}" for k in (1, 2, 3) for kind in ("weight", "bias")}
_ROLES = {"features": "conv1", "map": "conv2", "reconstruction": "conv3"}


def _from_roles(state: State) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for key, tensor in state.items():
        match = re.fullmatch(r"(features|map|reconstruction)(?:\.0)?\.(weight|bias)", key)
        renamed[f"{_ROLES[match[1]]}.{match[2]}" if match else key] = tensor
    return renamed


def _read(state: State, hints: Hints) -> Checkpoint:
    shapes = [dims(state, f"conv{k}.weight", 4) for k in (1, 2, 3)]
    (n1, entering, f1, _), (n2, _, f2, _), (leaving, _, f3, _) = shapes
    for k, shape in enumerate(shapes, 1):
        if shape[2] != shape[3] or shape[2] % 2 == 0:
            raise ArchitectureError(
                f"its conv{k} has a {shape[2]}x{shape[3]} kernel, and SRCNN's are square and odd; "
                f"it is another network"
            )
    channels = picture_channels(entering, leaving)
    scale = hints.scale or hints.final_scale
    if scale is None or scale != int(scale):
        raise ArchitectureError(
            "it is an SRCNN, whose scale no file stores; give the one it was trained for, a whole "
            "number (--scale)"
        )
    scale = int(scale)
    config = SRCNNConfig(scale=scale, channels=channels, kernels=(f1, f2, f3), filters=(n1, n2))
    rules = (f"scale {scale} as given, by the file's name or the run: no layer tells it",)
    return Checkpoint("srcnn", config, as_float32(state), rules=rules)


NAMED = KeyLayout("srcnn", lambda state: set(state) == _NATIVE, dict, _read)
ROLES = KeyLayout(
    "srcnn-roles", lambda state: set(_from_roles(state)) == _NATIVE, _from_roles, _read
)
