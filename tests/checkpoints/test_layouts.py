"""Keys and shapes to networks: every layout, every prefix, and refusals that say why."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.checkpoints.nets import assert_same, esrgan, srcnn
from upscale.checkpoints.checkpoint import Hints
from upscale.checkpoints.layouts import foreign_name, recognise
from upscale.errors import ArchitectureError, CheckpointError
from upscale.models import ESRGANConfig, SRCNNConfig, SwinIR, SwinIRConfig, check_state

State = dict[str, Tensor]


def to_new(state: State) -> State:
    """Native ESRGAN keys as xinntao/ESRGAN writes them."""

    def renamed(key: str) -> str:
        dense = re.sub(r"^body\.(\d+)\.rdb", r"RRDB_trunk.\1.RDB", key)
        outer = dense.replace("conv_body", "trunk_conv").replace("conv_hr", "HRconv")
        return outer.replace("conv_up", "upconv")

    return {renamed(key): tensor for key, tensor in state.items()}


def to_old(state: State, dense: str = ".0") -> State:
    """Native ESRGAN keys as the old Sequential writes them."""
    blocks = 1 + max(int(m[1]) for k in state if (m := re.match(r"body\.(\d+)", k)))
    ups = sum(1 for k in state if re.fullmatch(r"conv_up\d\.weight", k))
    outer = {"conv_first": "0", "conv_body": f"1.sub.{blocks}"}
    outer |= {"conv_hr": str(3 * ups + 2), "conv_last": str(3 * ups + 4)}
    outer |= {f"conv_up{k}": str(3 * k) for k in range(1, ups + 1)}

    def renamed(key: str) -> str:
        if match := re.match(r"body\.(\d+)\.rdb(\d)\.conv(\w+)\.(\w+)", key):
            suffix = "" if match[3] == "1x1" else dense
            return f"model.1.sub.{match[1]}.RDB{match[2]}.conv{match[3]}{suffix}.{match[4]}"
        layer, kind = key.split(".")
        return f"model.{outer[layer]}.{kind}"

    return {renamed(key): tensor for key, tensor in state.items()}


ESRGANS = st.builds(
    ESRGANConfig,
    scale=st.sampled_from([1, 2, 4, 8, 16]),
    num_feat=st.integers(1, 5),
    num_block=st.integers(1, 3),
    num_grow=st.integers(1, 4),
    in_channels=st.shared(st.sampled_from([1, 3]), key="channels"),
    out_channels=st.shared(st.sampled_from([1, 3]), key="channels"),
    unshuffle=st.sampled_from([1, 2, 4]),
    plus=st.booleans(),
)


@settings(max_examples=30, deadline=None)
@given(
    config=ESRGANS, rename=st.sampled_from([dict, to_new, to_old, lambda s: to_old(s, dense="")])
)
def test_any_esrgan_in_any_layout(config: ESRGANConfig, rename: Callable[[State], State]) -> None:
    state = dict(esrgan(config=config).state_dict())
    found = recognise(rename(state))
    assert found.config == config
    assert_same(found.state, state)


@pytest.mark.parametrize("rename", [dict, to_new, to_old])
def test_one_stage_may_be_three(rename: Callable[[State], State]) -> None:
    config = ESRGANConfig(scale=3, num_feat=2, num_block=1, num_grow=2)
    state = rename(dict(esrgan(config=config).state_dict()))
    assert recognise(state, Hints(scale=3)).config == config
    guess = recognise(state)
    assert guess.config.scale == 2  # type: ignore[attr-defined]
    assert "rule" in guess.rules[0]
    with pytest.raises(ArchitectureError, match="not by the 4 given"):
        recognise(state, Hints(scale=4))


SWINIRS = st.builds(
    SwinIRConfig,
    scale=st.just(1),
    channels=st.sampled_from([1, 3]),
    embed_dim=st.sampled_from([4, 8, 12]),
    depths=st.just((1, 2)),
    num_heads=st.sampled_from([(1, 2), (4, 4)]),
    window_size=st.integers(2, 8),
    mlp_ratio=st.sampled_from([1.0, 2.0, 1.75, 4.0]),
    upsampler=st.just(""),
    resi_connection=st.sampled_from(["1conv", "3conv"]),
    img_range=st.just(1.0),
)
HEADS = st.sampled_from(
    [("", 1)]
    + [("pixelshuffle", s) for s in (2, 3, 4, 8)]
    + [("pixelshuffledirect", s) for s in (2, 3, 4)]
    + [("nearest+conv", s) for s in (2, 4, 8)]
)


@settings(max_examples=20, deadline=None)
@given(config=SWINIRS, head=HEADS)
def test_any_swinir(config: SwinIRConfig, head: tuple[str, int]) -> None:
    from dataclasses import replace

    config = replace(config, upsampler=head[0], scale=head[1])  # type: ignore[arg-type]
    torch.manual_seed(0)
    state = dict(SwinIR(config).state_dict())
    stored = dict(state)  # what published files hold besides
    stored["layers.0.residual_group.blocks.1.attn_mask"] = torch.zeros(4, 64, 64)
    stored["layers.0.residual_group.blocks.0.attn.relative_position_index"] = torch.zeros(4, 4)
    found = recognise(stored, Hints(img_range=1.0))
    assert found.config == config
    assert_same(found.state, state)
    by_rule = 255.0 if config.window_size == 7 else 1.0
    assert recognise(stored).config == replace(config, img_range=by_rule)


@settings(max_examples=20, deadline=None)
@given(
    config=st.builds(
        SRCNNConfig,
        scale=st.integers(1, 8),
        channels=st.sampled_from([1, 3]),
        kernels=st.tuples(*[st.sampled_from([1, 3, 5, 9])] * 3),
        filters=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    ),
    roles=st.booleans(),
)
def test_any_srcnn(config: SRCNNConfig, roles: bool) -> None:
    state = dict(srcnn(config=config).state_dict())
    names = {"conv1": "features.0", "conv2": "map.0", "conv3": "reconstruction"}
    renamed = {f"{names[k[:5]]}{k[5:]}": v for k, v in state.items()} if roles else state
    found = recognise(renamed, Hints(scale=config.scale))
    assert found.config == config
    assert_same(found.state, state)


def test_srcnn_needs_its_scale() -> None:
    with pytest.raises(ArchitectureError, match="--scale"):
        recognise(dict(srcnn().state_dict()))


PREFIXES = [
    *("module.", "netG.", "module.netG.", "netG.module.", "generator.", "params_ema.", "model."),
    *("_orig_mod.", "net_g.", "net_g_ema.", "generator_ema.", "ema_model.", "g_ema.", "network."),
    *("ema_model.module.", "model.net_g.", "_orig_mod.module.", "module._orig_mod."),
    "model.model.",
]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("rename", [dict, to_new, to_old])
def test_prefixes_and_counters(prefix: str, rename: Callable[[State], State]) -> None:
    state = dict(esrgan().state_dict())
    counters = {"n_averaged": torch.zeros(()), "step_counter": torch.zeros(1)}
    counters |= {f"{prefix}conv_first.total_ops": torch.zeros(1)}
    tensors = {prefix + key: value for key, value in rename(state).items()} | counters
    assert_same(recognise(tensors).state, state)


def test_a_part_may_be_compiled() -> None:
    state = dict(esrgan().state_dict())
    tensors = {k.replace("body.0.", "body.0._orig_mod."): v for k, v in state.items()}
    assert_same(recognise(tensors).state, state)


@pytest.mark.parametrize("averaged", ["net_g_ema.", "generator_ema.", "ema_model.", "g_ema."])
@pytest.mark.parametrize("last", ["net_g.", "generator.", "netG.", "net_d."])
def test_averaged_weights_win(averaged: str, last: str) -> None:
    state = dict(esrgan().state_dict())
    both = {last + key: value + 1 for key, value in state.items()}
    both |= {averaged + key: value for key, value in state.items()}
    both |= {"netD.conv0.weight": torch.zeros(1), "step_counter": torch.zeros(1)}
    for tensors in (both, dict(reversed(both.items()))):
        assert_same(recognise(tensors).state, state)


def test_the_generator_of_a_pair() -> None:
    state = dict(esrgan().state_dict())
    pair = {f"netG.{k}": v for k, v in state.items()} | {"netD.conv0.weight": torch.zeros(1)}
    assert_same(recognise(pair).state, state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_become_float32(dtype: torch.dtype) -> None:
    state = {k: v.to(dtype) for k, v in esrgan().state_dict().items()}
    found = recognise(state)
    assert {v.dtype for v in found.state.values()} == {torch.float32}
    assert_same(found.state, {k: v.float() for k, v in state.items()})


def numbered(*keys: str) -> State:
    return {key: torch.zeros(4, 4, 3, 3) for key in keys}


FOREIGN = {
    "SRVGGNetCompact": [f"body.{n}.{k}" for n in range(0, 9, 2) for k in ("weight", "bias")]
    + [f"body.{n}.weight" for n in range(1, 8, 2)],
    "Swin2SR": [
        "conv_first.weight",
        "layers.0.residual_group.blocks.0.attn.logit_scale",
        "layers.0.residual_group.blocks.0.attn.cpb_mlp.0.weight",
    ],
    "HAT": ["conv_first.weight", "layers.0.residual_group.overlap_attn.qkv.weight"],
    "RCAN or EDSR": ["head.0.weight", "body.0.body.0.weight", "tail.0.0.weight"],
    "MSRResNet": ["conv_first.weight", "body.0.conv1.weight", "upconv1.weight"],
    "GFPGAN": ["stylegan_decoder.style_mlp.1.weight", "style_conv1.weight"],
    "DiffBIR": ["conv_first.1.weight", "layers.0.residual_group.blocks.0.norm1.weight"],
    "Stable Diffusion": ["model.diffusion_model.input_blocks.0.0.weight"],
    "VGG-style network": ["features.0.weight", "features.2.weight", "classifier.0.weight"],
}


@pytest.mark.parametrize("name", FOREIGN)
def test_other_networks_are_refused_by_name(name: str) -> None:
    assert name in foreign_name(FOREIGN[name])
    with pytest.raises(ArchitectureError, match=f"it is a {name}") as caught:
        recognise(numbered(*FOREIGN[name]))
    assert "srcnn, esrgan, swinir" in str(caught.value)


def test_unknown_networks_are_refused() -> None:
    with pytest.raises(ArchitectureError, match="no network known"):
        recognise(numbered("stem.weight", "blocks.0.weight"))
    with pytest.raises(ArchitectureError, match="no tensors"):
        recognise({})
    with pytest.raises(ArchitectureError, match="no tensors"):
        recognise({"n_averaged": torch.zeros(1)})


def without(state: State, key: str) -> State:
    return {k: v for k, v in state.items() if k != key}


def test_variants_are_refused_with_the_reason() -> None:
    state = dict(esrgan().state_dict())
    for variant, words in (
        (without(state, "body.1.rdb2.conv3.weight"), "lacks body.1.rdb2.conv3.weight"),
        (state | {"mean": torch.zeros(3)}, "has the unknown mean"),
        (without(state, "conv_last.weight"), "lacks the tensor conv_last.weight"),
        (state | {"conv_hr.weight": torch.zeros(4, 4, 1, 1)}, r"conv_hr.weight is \[4, 4, 1, 1\]"),
        (state | {"conv_first.weight": torch.zeros(4)}, "4 dimensions are needed"),
        (state | {"conv_first.weight": torch.zeros(4, 4, 3, 3)}, "takes 4 channels and gives 3"),
        (state | {"conv_last.weight": torch.zeros(0, 4, 3, 3)}, "dimensions"),
        (
            without(without(state, "conv_up2.weight"), "conv_up2.bias")
            | {"conv_first.weight": torch.zeros(4, 48, 3, 3)},
            "no whole scale",
        ),
    ):
        with pytest.raises(ArchitectureError, match=words):
            recognise(variant)
    shifted = {k.replace("model.10.", "model.11."): v for k, v in to_old(state).items()}
    with pytest.raises(ArchitectureError, match="stand at"):
        recognise(shifted)
    small = dict(srcnn().state_dict()) | {"conv2.weight": torch.zeros(4, 6, 2, 2)}
    with pytest.raises(ArchitectureError, match="2x2 kernel"):
        recognise(small, Hints(scale=2))


def test_values_must_be_finite() -> None:
    state = dict(esrgan().state_dict())
    state["conv_hr.bias"] = torch.tensor([0.0, float("nan"), 0.0, 0.0])
    with pytest.raises(CheckpointError, match=r"conv_hr\.bias holds values that are not finite"):
        recognise(state)


def test_absurd_configurations_are_refused_without_memory() -> None:
    state = dict(esrgan().state_dict())
    for config in (
        ESRGANConfig(num_feat=1 << 30),
        ESRGANConfig(num_block=10**9),
        ESRGANConfig(num_feat=1 << 14, num_grow=1 << 14, num_block=2),
        ESRGANConfig(scale=5),
        ESRGANConfig(num_feat=-1),
        ESRGANConfig(num_feat="64"),  # type: ignore[arg-type]
    ):
        with pytest.raises(ArchitectureError):
            check_state("esrgan", config, state)
