"""ESRGAN's three ways of naming an RRDB network; the last is the native one.

role  | old (a Sequential)               | new (xinntao, BSRGAN)         | BasicSR, Real-ESRGAN
----- | -------------------------------- | ----------------------------- | -----------------------
first | model.0                          | conv_first                    | conv_first
dense | model.1.sub.{i}.RDB{r}.conv{c}.0 | RRDB_trunk.{i}.RDB{r}.conv{c} | body.{i}.rdb{r}.conv{c}
trunk | model.1.sub.{nb}                 | trunk_conv                    | conv_body
up k  | model.{3k}                       | upconv{k}                     | conv_up{k}
HR    | model.{3n+2}                     | HRconv                        | conv_hr
last  | model.{3n+4}                     | conv_last                     | conv_last
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from torch import Tensor

from upscale.checkpoints.checkpoint import Checkpoint, Hints, as_float32
from upscale.checkpoints.layouts import (
    KeyLayout,
    State,
    check_scale,
    count_of,
    dims,
    picture_channels,
)
from upscale.errors import ArchitectureError
from upscale.models import ESRGANConfig

_OLD_DENSE = re.compile(r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(1x1|\d)(?:\.0)?\.(?:weight|bias)")
_NEW_DENSE = re.compile(r"RRDB_trunk\.(\d+)\.RDB(\d)\.conv(1x1|\d)(?:\.0)?\.(?:weight|bias)")
_NEW_OUTER = {
    "trunk_conv": "conv_body",
    "HRconv": "conv_hr",
    **{f"upconv{k}": f"conv_up{k}" for k in range(1, 9)},
}


def _renamed(state: State, dense: re.Pattern[str], outer: Mapping[str, str]) -> dict[str, Tensor]:
    """Native keys: those of the dense blocks by their pattern, the others by name."""
    renamed: dict[str, Tensor] = {}
    for key, tensor in state.items():
        layer, _, value = key.rpartition(".")
        match = dense.fullmatch(key)
        native = f"body.{match[1]}.rdb{match[2]}.conv{match[3]}" if match else outer.get(layer)
        renamed[f"{native}.{value}" if native else key] = tensor
    return renamed


def _old_outer(state: State) -> dict[str, str]:
    """Layers of the Sequential around the blocks: where they stand tells how often it enlarges."""
    after = sorted({int(m[1]) for k in state if (m := re.match(r"model\.(\d+)\.", k))} - {0, 1})
    stages = len(after) - 2
    wanted = [*(3 * k for k in range(1, stages + 1)), 3 * stages + 2, 3 * stages + 4]
    if stages < 0 or after != wanted:
        raise ArchitectureError(
            f"its layers after the trunk stand at {after}, which is not where an ESRGAN with "
            f"nearest-neighbour upsampling has them; it is a variant that is not supported"
        )
    trunk = count_of(r"model\.1\.sub\.(\d+)\.(?:weight|bias)$", state) - 1
    outer = {"model.0": "conv_first", f"model.1.sub.{trunk}": "conv_body"}
    outer |= {f"model.{3 * k}": f"conv_up{k}" for k in range(1, stages + 1)}
    return outer | {f"model.{wanted[-2]}": "conv_hr", f"model.{wanted[-1]}": "conv_last"}


def _read(state: State, hints: Hints) -> Checkpoint:
    num_feat, entering = dims(state, "conv_first.weight", 4)[:2]
    leaving = dims(state, "conv_last.weight", 4)[0]
    unshuffle = _unshuffle(entering, leaving)
    stages = count_of(r"conv_up(\d+)\.weight", state) - 1 if "conv_up1.weight" in state else 0
    rules: tuple[str, ...] = ()
    enlarged = 2**stages
    if stages == 1:
        enlarged = 3 if hints.scale is not None and hints.scale * unshuffle == 3 else 2
        how = "the scale given" if enlarged == 3 else "the rule: one upsampling stage is x2, or x3"
        rules = (f"scale {enlarged} by {how}",)
    if enlarged % unshuffle:
        raise ArchitectureError(
            f"it enlarges by {enlarged} after a pixel-unshuffle by {unshuffle}, which is no whole "
            f"scale; it is a variant not supported"
        )
    config = ESRGANConfig(
        scale=enlarged // unshuffle,
        num_feat=num_feat,
        num_block=count_of(r"body\.(\d+)\.", state),
        num_grow=dims(state, "body.0.rdb1.conv1.weight", 4)[0],
        in_channels=picture_channels(entering // unshuffle**2, leaving),
        out_channels=leaving,
        unshuffle=unshuffle,
        plus=any(".conv1x1." in key for key in state),
    )
    check_scale(config.scale, hints)
    return Checkpoint("esrgan", config, as_float32(state), rules=rules)


def _unshuffle(entering: int, leaving: int) -> int:
    """Pixel-unshuffle factor: 4 or 16 times more channels come in than go out."""
    return math.isqrt(entering // leaving) if entering in (4 * leaving, 16 * leaving) else 1


OLD = KeyLayout(
    "esrgan-old",
    lambda state: any(map(_OLD_DENSE.match, state)),
    lambda state: _renamed(state, _OLD_DENSE, _old_outer(state)),
    _read,
)
NEW = KeyLayout(
    "esrgan-new",
    lambda state: any(map(_NEW_DENSE.match, state)),
    lambda state: _renamed(state, _NEW_DENSE, _NEW_OUTER),
    _read,
)
BASICSR = KeyLayout("basicsr", lambda state: "body.0.rdb1.conv1.weight" in state, dict, _read)
