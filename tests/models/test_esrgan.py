"""RRDB: the sizes of published weights, and what a dense block computes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from upscale.models import ESRGAN, ESRGANConfig
from upscale.models.esrgan import DenseBlock


@pytest.mark.parametrize(
    ("config", "parameters", "tensors"),
    [
        (ESRGANConfig(), 16_697_987, 702),  # ESRGAN, RealESRGAN_x4plus
        (ESRGANConfig(scale=2, unshuffle=2), 16_703_171, 702),  # RealESRGAN_x2plus
        (ESRGANConfig(num_block=6), 4_467_779, 192),  # RealESRGAN_x4plus_anime_6B
    ],
)
def test_sizes_of_published_weights(config: ESRGANConfig, parameters: int, tensors: int) -> None:
    with torch.device("meta"):
        state = ESRGAN(config).state_dict()
    assert sum(t.numel() for t in state.values()) == parameters
    assert len(state) == tensors


@pytest.mark.parametrize("plus", [False, True])
def test_dense_block_by_its_equations(plus: bool) -> None:
    torch.manual_seed(2)
    block = DenseBlock(4, 3, plus)
    x = torch.randn(1, 4, 6, 5)

    def convolve(k: int, *parts: torch.Tensor) -> torch.Tensor:
        conv = block.get_submodule(f"conv{k}")
        return F.conv2d(torch.cat(parts, 1), conv.weight, conv.bias, padding=1)

    a = F.leaky_relu(convolve(1, x), 0.2)
    b = F.leaky_relu(convolve(2, x, a), 0.2)
    if plus:
        b = b + F.conv2d(x, block.conv1x1.weight)
    c = F.leaky_relu(convolve(3, x, a, b), 0.2)
    d = F.leaky_relu(convolve(4, x, a, b, c), 0.2)
    if plus:
        d = d + b
    torch.testing.assert_close(block(x), x + 0.2 * convolve(5, x, a, b, c, d))


def test_odd_sizes_before_a_pixel_unshuffle() -> None:
    torch.manual_seed(3)
    network = ESRGAN(ESRGANConfig(scale=2, num_feat=8, num_block=1, num_grow=4, unshuffle=2))
    lr = torch.rand(1, 3, 9, 7)
    padded = F.pad(lr, (0, 1, 0, 1), mode="reflect")
    with torch.no_grad():
        torch.testing.assert_close(network(lr), network(padded)[..., :18, :14])
