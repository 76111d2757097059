"""The bicubic kernel for a graph of every size is the one bicubic kernel."""

from __future__ import annotations

import pytest
import torch

from upscale.models.layers import enlarge_traced, shrink_traced
from upscale.resample import resize


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (2, 9), (17, 12)], ids=str)
def test_bicubic_for_a_graph(scale: int, size: tuple[int, int]) -> None:
    height, width = size
    small = torch.rand(2, 3, height, width)
    large = torch.rand(2, 3, height * scale, width * scale)
    found = enlarge_traced(small, scale)
    torch.testing.assert_close(
        found, resize(small, (height * scale, width * scale)), atol=1e-6, rtol=0
    )
    found = shrink_traced(large, scale)
    torch.testing.assert_close(found, resize(large, size), atol=1e-6, rtol=0)
