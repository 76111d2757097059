"""SwinIR with tokens in the order of windows gives what the paper's form gives."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fast.test_native import CLOSE, NETWORKS, difference, network, picture
from upscale.checkpoints import build, load
from upscale.fast import optimized
from upscale.fast.windowed import WindowedSwinIR, orders
from upscale.inference import prepare
from upscale.models import SwinIR

SWIN = [name for name in NETWORKS if name.startswith("swinir")]


def swinir(name: str) -> SwinIR:
    made = network(name)
    assert isinstance(made, SwinIR)
    return made


@pytest.mark.parametrize("name", SWIN)
def test_every_head(name: str) -> None:
    plain = swinir(name)
    fast = WindowedSwinIR(plain)
    for height, width, count in ((1, 1, 1), (5, 30, 2), (33, 20, 1)):
        assert difference(plain, fast, picture(plain, height, width, count)) <= CLOSE


@given(height=st.integers(1, 24), width=st.integers(1, 24))
@settings(max_examples=15, deadline=None)
def test_any_size(height: int, width: int) -> None:
    plain = swinir("swinir pixelshuffledirect x2")
    fast = WindowedSwinIR(plain)
    assert difference(plain, fast, picture(plain, height, width)) <= CLOSE


@pytest.mark.parametrize("name", ["swinir-light-x2", "swinir-light-jpeg"])
def test_released_weights(name: str) -> None:
    plain = build(load(name)).eval()
    assert isinstance(plain, SwinIR)
    assert difference(plain, WindowedSwinIR(plain), picture(plain, 40, 52)) <= CLOSE


def test_orders_are_permutations() -> None:
    straight, shifted, counts = orders(24, 32, 8, torch.device("cpu"))
    for order in (straight, shifted):
        assert sorted(order.tolist()) == list(range(24 * 32))
    assert counts == [6, 2, 3, 1]
    first = straight[:64].view(8, 8)
    assert first[0].tolist() == list(range(8))
    assert first[:, 0].tolist() == list(range(0, 8 * 32, 32))
    assert shifted[0] == 4 * 32 + 4


def test_half_precision_follows_float32() -> None:
    plain = swinir("swinir pixelshuffle x4")
    x = picture(plain, 24, 24)
    fast = WindowedSwinIR(plain)
    expected = fast(x)
    half = copy.deepcopy(fast).to(torch.bfloat16)(x.bfloat16()).float()
    error = (half - expected).square().mean() / expected.square().mean()
    assert float(error) < 1e-4


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_on_a_gpu() -> None:
    plain = swinir("swinir pixelshuffle x4")
    x = picture(plain, 64, 72)
    expected = plain.double()(x.double())
    prepared = prepare(plain.float(), torch.device("cuda"), torch.bfloat16)
    assert isinstance(prepared.network, WindowedSwinIR)
    assert optimized(plain, torch.device("cpu")) is not plain
    with torch.inference_mode():
        exact = prepared.fallback(x.cuda()).cpu()
        half = prepared.network(x.cuda().bfloat16()).float().cpu()
    assert float((exact - expected).abs().max() / expected.abs().max()) < 1e-3  # TF32 is off
    assert float((half - expected).square().mean() / expected.square().mean()) < 1e-4
