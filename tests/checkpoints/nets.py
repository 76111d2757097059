"""Small seeded networks."""

from __future__ import annotations

import torch
from torch import Tensor

from upscale.models import ESRGAN, SRCNN, ESRGANConfig, Network, SRCNNConfig

ESRGAN_CONFIG = ESRGANConfig(scale=4, num_feat=4, num_block=2, num_grow=3)


def esrgan(seed: int = 0, config: ESRGANConfig = ESRGAN_CONFIG) -> Network:
    torch.manual_seed(seed)
    return ESRGAN(config)


def srcnn(seed: int = 0, config: SRCNNConfig | None = None) -> Network:
    torch.manual_seed(seed)
    return SRCNN(config or SRCNNConfig(scale=3, kernels=(9, 1, 5), filters=(6, 4)))


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert set(found) == set(wanted)
    for key, tensor in wanted.items():
        assert torch.equal(found[key], tensor), key
