"""SwinIR's published keys, which are the native ones; buffers stored beside them are left out."""

from __future__ import annotations

import math

from upscale.checkpoints.checkpoint import Checkpoint, Hints, as_float32
from upscale.checkpoints.layouts import (
    KeyLayout,
    State,
    check_scale,
    count_of,
    dims,
    picture_channels,
)
from upscale.models import SwinIRConfig
from upscale.models.swinir import Head

_BLOCK = "layers.{}.residual_group.blocks.{}."
_DERIVED = ("attn_mask", "attn.relative_position_index")  # follow from the sizes


def _matches(state: State) -> bool:
    # of the relatives, Swin2SR, HAT, SRFormer, … have keys of their own; they are named as foreign
    parts = ("attn.qkv.weight", "attn.relative_position_bias_table", "mlp.fc1.weight")
    keys = ("conv_first.weight", *(_BLOCK.format(0, 0) + part for part in parts))
    foreign = any("overlap_attn" in key or ".conv_block." in key for key in state)
    return all(key in state for key in keys) and not foreign


def _read(state: State, hints: Hints) -> Checkpoint:
    dim, channels = dims(state, "conv_first.weight", 4)[:2]
    if "conv_last.weight" in state:
        channels = picture_channels(channels, dims(state, "conv_last.weight", 4)[0])
    groups = count_of(r"layers\.(\d+)\.", state)
    depths = [
        count_of(rf"layers\.{g}\.residual_group\.blocks\.(\d+)\.", state) for g in range(groups)
    ]
    tables = [
        dims(state, _BLOCK.format(g, 0) + "attn.relative_position_bias_table", 2)
        for g in range(groups)
    ]
    window = (math.isqrt(tables[0][0]) + 1) // 2
    head = _head(state)
    scale, rules = _scale(state, head, picture_channels(channels, channels), hints)
    img_range = 255.0 if window == 7 else 1.0
    if hints.img_range is None:
        rules += (f"img_range {img_range:g} by the rule for window {window}",)
    config = SwinIRConfig(
        scale=scale,
        channels=channels,
        embed_dim=dim,
        depths=tuple(depths),
        num_heads=tuple(table[1] for table in tables),
        window_size=window,
        mlp_ratio=_mlp_ratio(dims(state, _BLOCK.format(0, 0) + "mlp.fc1.weight", 2)[0], dim),
        upsampler=head,
        resi_connection="1conv" if "conv_after_body.weight" in state else "3conv",
        img_range=img_range if hints.img_range is None else hints.img_range,
    )
    check_scale(scale, hints)
    return Checkpoint("swinir", config, as_float32(state), rules=rules)


def _head(state: State) -> Head:
    if "conv_before_upsample.0.weight" in state:
        return "nearest+conv" if "conv_up1.weight" in state else "pixelshuffle"
    return "pixelshuffledirect" if "upsample.0.weight" in state else ""


def _scale(state: State, head: Head, channels: int, hints: Hints) -> tuple[int, tuple[str, ...]]:
    """The enlargement that the layers of the head make, and the rule, if one decided it."""
    if head == "pixelshuffle":
        keys = [k for k in state if k.startswith("upsample.") and k.endswith(".weight")]
        shapes = [dims(state, key, 4) for key in keys]
        return math.prod(math.isqrt(shape[0] // shape[1]) for shape in shapes), ()
    if head == "pixelshuffledirect":
        return math.isqrt(dims(state, "upsample.0.weight", 4)[0] // channels), ()
    if head == "nearest+conv":
        stages = count_of(r"conv_up(\d+)\.weight", state) - 1
        if stages == 1 and hints.scale == 3:
            return 3, ("scale 3 by the scale given",)
        rule = ("scale 2 by the rule: one upsampling stage is x2, or x3",)
        return 2**stages, rule if stages == 1 else ()
    return 1, ()


def _mlp_ratio(hidden: int, dim: int) -> float:
    """``hidden / dim``, such that ``int(dim * ratio)`` is ``hidden`` again."""
    ratio = hidden / dim
    return ratio if int(dim * ratio) == hidden else math.nextafter(ratio, math.inf)


OFFICIAL = KeyLayout(
    "swinir",
    _matches,
    lambda state: {key: t for key, t in state.items() if not key.endswith(_DERIVED)},
    _read,
)
