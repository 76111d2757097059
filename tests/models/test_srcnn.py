"""SRCNN against the arithmetic of the authors' MATLAB test code, done with SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate

from upscale.models import SRCNN, SRCNNConfig
from upscale.resample import resize


@pytest.mark.parametrize("kernels", [(9, 1, 5), (9, 3, 5), (9, 5, 5)])
@pytest.mark.parametrize("channels", [1, 3])
def test_equals_imfilter_with_replicate(kernels: tuple[int, int, int], channels: int) -> None:
    torch.manual_seed(1)
    network = SRCNN(SRCNNConfig(2, channels, kernels, (6, 5)))
    lr = torch.rand(1, channels, 11, 7)
    with torch.no_grad():
        sr = network(lr)[0].double().numpy()
    maps = resize(lr, (22, 14))[0].double().numpy()
    for k, conv in enumerate((network.conv1, network.conv2, network.conv3)):
        weight = conv.weight.detach().double().numpy()
        bias = conv.bias.detach().double().numpy()
        # imfilter(..., 'same', 'replicate') is correlation with the edge repeated
        maps = np.stack(
            [
                sum(correlate(m, w, mode="nearest") for m, w in zip(maps, filters, strict=True)) + b
                for filters, b in zip(weight, bias, strict=True)
            ]
        )
        if k < 2:
            maps = maps.clip(0)
    np.testing.assert_allclose(sr, maps, atol=1e-5)


def test_parameters_of_the_paper() -> None:
    def weights(kernels: tuple[int, int, int]) -> int:
        network = SRCNN(SRCNNConfig(3, 1, kernels))
        return sum(p.numel() for n, p in network.named_parameters() if n.endswith("weight"))

    assert weights((9, 1, 5)) == 8_032
    assert weights((9, 5, 5)) == 57_184


def test_training_form_is_the_valid_middle() -> None:
    network = SRCNN(SRCNNConfig(3, 1, (9, 1, 5), (4, 3)))
    enlarged = torch.rand(1, 1, 33, 33)
    with torch.no_grad():
        valid, padded = network.refine(enlarged, padded=False), network.refine(enlarged)
    assert valid.shape == (1, 1, 21, 21)  # the paper's 33 -> 21
    torch.testing.assert_close(valid, padded[..., 6:-6, 6:-6])
