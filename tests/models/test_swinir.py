"""SwinIR: sizes of published weights, windows, masks, padding."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from upscale.models import SwinIR, SwinIRConfig
from upscale.models.swinir import partition, relative_position_index, reverse, shift_mask

LIGHT = {"embed_dim": 60, "depths": (6,) * 4, "num_heads": (6,) * 4}
MEDIUM = {"embed_dim": 180, "depths": (6,) * 6, "num_heads": (6,) * 6}
LARGE = {"embed_dim": 240, "depths": (6,) * 9, "num_heads": (8,) * 9, "resi_connection": "3conv"}


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        ({"scale": 2, **LIGHT}, 910_152),
        ({"scale": 3, **LIGHT}, 918_267),
        ({"scale": 4, **LIGHT}, 929_628),
        ({"scale": 2, "upsampler": "pixelshuffle", **MEDIUM}, 11_752_487),
        ({"scale": 3, "upsampler": "pixelshuffle", **MEDIUM}, 11_937_127),
        ({"scale": 4, "upsampler": "pixelshuffle", **MEDIUM}, 11_900_199),
        ({"scale": 8, "upsampler": "pixelshuffle", **MEDIUM}, 12_047_911),
        ({"scale": 2, "upsampler": "nearest+conv", **MEDIUM}, 11_678_631),
        ({"scale": 4, "upsampler": "nearest+conv", **MEDIUM}, 11_715_559),
        ({"scale": 4, "upsampler": "nearest+conv", **LARGE}, 28_013_059),
        ({"scale": 1, "channels": 1, "upsampler": "", **MEDIUM}, 11_497_681),
        ({"scale": 1, "channels": 3, "upsampler": "", **MEDIUM}, 11_504_163),
        ({"scale": 1, "channels": 1, "window_size": 7, "upsampler": "", **MEDIUM}, 11_485_585),
        ({"scale": 1, "channels": 3, "window_size": 7, "upsampler": "", **MEDIUM}, 11_492_067),
    ],
    ids=str,
)
def test_parameters_of_published_weights(options: dict[str, object], parameters: int) -> None:
    with torch.device("meta"):
        state = SwinIR(SwinIRConfig(**options)).state_dict()  # type: ignore[arg-type]
    assert sum(t.numel() for t in state.values()) == parameters


def test_windows_and_back() -> None:
    x = torch.rand(2, 16, 24, 5)
    windows = partition(x, 8)
    assert windows.shape == (2 * 2 * 3, 64, 5)
    assert torch.equal(windows[1].view(8, 8, 5), x[0, :8, 8:16])
    assert torch.equal(reverse(windows, 8, 16, 24), x)


def test_relative_position_index_by_hand() -> None:
    index = relative_position_index(2)
    # offsets (dy, dx) of token pairs in a 2x2 window, row (dy + 1) * 3 + (dx + 1) of the table
    assert index.tolist() == [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]


def test_shift_mask_by_hand() -> None:
    mask = shift_mask(4, 4, 2, 1)
    assert mask.shape == (4, 4, 4)
    assert mask[0].abs().max() == 0  # the first window lies in one region
    right = mask[1]  # its columns come from the two edges of the picture
    assert right[0].tolist() == [0, -100, 0, -100]
    corner = mask[3]  # four regions
    assert (corner == 0).sum() == 4


def test_opposite_edges_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    network = SwinIR(
        SwinIRConfig(scale=1, embed_dim=8, depths=(2,), num_heads=(2,), upsampler="")
    ).eval()
    a = torch.rand(1, 3, 32, 32)
    b = a.clone()
    b[..., -2:] = 1 - b[..., -2:]
    with torch.no_grad():
        change = (network(a) - network(b)).abs().sum((0, 1, 2))
    # reach of one group: the window, the shifted window, two convolutions
    print("columns that changed:", change.nonzero().flatten().tolist())
    assert change[:8].abs().max() < 1e-6


@pytest.mark.parametrize("window", [7, 8])
def test_sizes_that_divide_nothing_are_reflected(window: int) -> None:
    torch.manual_seed(0)
    network = SwinIR(
        SwinIRConfig(scale=2, embed_dim=8, depths=(2,), num_heads=(2,), window_size=window)
    ).eval()
    lr = torch.rand(1, 3, 19, 25)
    padded = F.pad(lr, (0, -25 % window, 0, -19 % window), mode="reflect")
    with torch.no_grad():
        assert torch.equal(network(lr), network(padded)[..., :38, :50])
