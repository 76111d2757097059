"""The bicubic against weights worked by hand, PyTorch's antialiased route, and its properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from upscale.resample import cubic, resize, resize_strips, resize_uint8, source_rows, taps

sides = st.integers(1, 37)
seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=40, deadline=None)


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def torch_route(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """F.interpolate on a picture mirrored four times to each side; the middle of the result.

    Padding by whole periods keeps the scale and the phase for every pair of sizes.
    """
    periods = 4
    h, w = x.shape[-2:]
    pads = ((0, 0), (0, 0), (periods * h, periods * h), (periods * w, periods * w))
    mirrored = torch.from_numpy(np.pad(x.numpy(), pads, mode="symmetric"))
    whole = tuple((2 * periods + 1) * s for s in size)
    y = F.interpolate(mirrored, whole, mode="bicubic", align_corners=False, antialias=True)
    return y[..., periods * size[0] : -periods * size[0], periods * size[1] : -periods * size[1]]


# --- by hand --------------------------------------------------------------------------------------

# Keys' kernel at 1/4, 3/4, 5/4, 7/4 is 111, 29, -9, -3 (over 128).
QUARTERS = [111 / 128, 29 / 128, -9 / 128, -3 / 128]


def test_kernel_at_quarters() -> None:
    assert cubic(np.array([0.25, 0.75, 1.25, 1.75])).tolist() == QUARTERS
    assert cubic(np.array([0, 1, 2, 2.5, -1, -0.25])).tolist() == [1, 0, 0, 0, 0, QUARTERS[0]]


def test_doubling_an_impulse() -> None:
    x = torch.zeros(1, 1, 1, 9, dtype=torch.float64)
    x[..., 4] = 128
    assert resize(x, (1, 18)).flatten().tolist() == (
        [0] * 5 + [-3, -9, 29, 111, 111, 29, -9, -3] + [0] * 5
    )


def test_halving_an_impulse_widens_the_kernel() -> None:
    x = torch.zeros(1, 1, 16, 1, dtype=torch.float64)
    x[0, 0, 7] = 256  # outputs lie at 0.5 + 2 i: distances 2.5, 0.5, 1.5, 3.5 from i = 2 on, halved
    assert resize(x, (8, 1)).flatten().tolist() == [0, 0, -9, 111, 29, -3, 0, 0]


def test_border_repeats_the_edge_pixel() -> None:
    # Doubling (a, b, ...): the mirror is ... b a | a b ..., and the first output lies at -1/4.
    x = torch.tensor([[[[1000.0, 0, 0, 0, 0, 0]]]], dtype=torch.float64)
    first = resize(x, (1, 12)).flatten()[0].item()
    assert first == pytest.approx(1000 * (111 + 29) / 128, abs=1e-9)


def test_uint8_rounds_half_up_and_clips() -> None:
    x = torch.zeros(1, 1, 8, 8)
    x[..., 4:, :] = 255  # a step; doubled it undershoots by 9/128 and overshoots as much
    exact = 255 * np.array([-3, -9, 29 - 3, 128 - 26, 128 + 9, 128 + 3]) / 128
    got = resize_uint8(x, (16, 8))
    assert got.dtype == torch.float32
    assert got[0, 0, 5:11, 3].tolist() == np.clip(np.floor(exact + 0.5), 0, 255).tolist()
    tie = torch.tensor([0.0, 0, 0, 0, 32, 32, 32, 32]).view(1, 1, 1, 8)
    assert resize(tie, (1, 16))[..., 7].item() == 6.5  # 32 * 26 / 128
    assert resize_uint8(tie, (1, 16))[..., 7].item() == 7.0


# --- an independent route -------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("direction", ["down", "up"])
def test_a_photograph_by_the_torch_route(scale: int, direction: str) -> None:
    photo = data.astronaut()[:192, 100:268].transpose(2, 0, 1)[None].astype(np.float64)
    x = torch.from_numpy(photo)
    size = (192 // scale, 168 // scale)
    if direction == "up":
        x, size = x[..., : size[0], : size[1]], (size[0] * scale, size[1] * scale)
    worst = (resize(x, size) - torch_route(x, size)).abs()
    at = np.unravel_index(int(worst.argmax()), worst.shape)
    assert worst.max() < 1e-6, f"largest difference {worst.max():.2e} of 255 at {at}"


@quick
@given(seeds, sides, sides, sides, sides)
def test_any_size_by_the_torch_route(seed: int, h: int, w: int, out_h: int, out_w: int) -> None:
    x = noise(seed, 1, 2, h, w)
    torch.testing.assert_close(
        resize(x, (out_h, out_w)), torch_route(x, (out_h, out_w)), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_uint8_is_the_torch_route_rounded_twice(scale: int) -> None:
    photo = data.astronaut()[:192, 100:268].transpose(2, 0, 1)[None].astype(np.float64)
    x, (h, w) = torch.from_numpy(photo), (192 // scale, 168 // scale)

    def rounded(t: torch.Tensor) -> torch.Tensor:
        # Ties come out of the torch route as 0.5 -+ 1e-13; they are made ties again.
        return ((t * 2**30).round() / 2**30 + 0.5).floor().clamp(0, 255)

    twice = rounded(torch_route(rounded(torch_route(x, (h, 168))), (h, w)))
    got = resize_uint8(x, (h, w)).double()
    assert (got != twice).sum().item() == 0, f"{(got != twice).sum()} pixels differ"
    once = rounded(torch_route(x, (h, w)))
    share = (got != once).double().mean().item()
    assert 0.02 < share < 0.3, f"one rounding differs in {share:.1%} of the pixels"


# --- properties -----------------------------------------------------------------------------------


@quick
@given(seeds, sides, sides)
def test_identity_at_scale_1(seed: int, h: int, w: int) -> None:
    x = noise(seed, 1, 3, h, w)
    assert torch.equal(resize(x, (h, w)), x)
    whole = (x * 255).round()
    assert torch.equal(resize_uint8(whole, (h, w)), whole.float())


@quick
@given(st.integers(1, 200), st.integers(1, 200))
def test_weights_sum_to_one_and_stay_inside(in_len: int, out_len: int) -> None:
    index, weight = taps(in_len, out_len)
    assert index.shape == weight.shape == (out_len, weight.shape[1])
    np.testing.assert_allclose(weight.sum(1), 1, rtol=0, atol=1e-12)
    assert index.min() >= 0
    assert index.max() < in_len


@quick
@given(sides, sides, sides, sides, st.integers(0, 255))
def test_constants_stay(h: int, w: int, out_h: int, out_w: int, value: int) -> None:
    x = torch.full((1, 1, h, w), float(value), dtype=torch.float64)
    torch.testing.assert_close(
        resize(x, (out_h, out_w)), x.new_full((1, 1, out_h, out_w), value), rtol=0, atol=1e-10
    )
    assert resize_uint8(x, (out_h, out_w)).unique().tolist() == [value]


@quick
@given(seeds, sides, sides, sides, sides)
def test_flips_and_transposes_commute(seed: int, h: int, w: int, out_h: int, out_w: int) -> None:
    x = noise(seed, 1, 1, h, w)
    y = resize(x, (out_h, out_w))
    close = {"rtol": 0, "atol": 1e-12}
    torch.testing.assert_close(resize(x.flip(-1), (out_h, out_w)), y.flip(-1), **close)
    torch.testing.assert_close(resize(x.flip(-2), (out_h, out_w)), y.flip(-2), **close)
    torch.testing.assert_close(resize(x.mT, (out_w, out_h)), y.mT, **close)


@quick
@given(seeds, sides, sides, sides, sides)
def test_linear_in_the_picture(seed: int, h: int, w: int, out_h: int, out_w: int) -> None:
    a, b = noise(seed, 1, 1, h, w), noise(seed + 1, 1, 1, h, w)
    both = resize(2 * a - 3 * b, (out_h, out_w))
    apart = 2 * resize(a, (out_h, out_w)) - 3 * resize(b, (out_h, out_w))
    torch.testing.assert_close(both, apart, rtol=0, atol=1e-10)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_parabolas_are_reproduced_inside(scale: int) -> None:
    t = torch.arange(20, dtype=torch.float64)
    x = (t * t - 3 * t + 1).view(1, 1, 1, 20)
    at = (torch.arange(20 * scale, dtype=torch.float64) + 0.5) / scale - 0.5
    inner = slice(2 * scale, -2 * scale)
    got = resize(x, (1, 20 * scale)).flatten()
    want = at * at - 3 * at + 1
    torch.testing.assert_close(got[inner], want[inner], rtol=0, atol=1e-10)


@quick
@given(seeds, sides, sides, st.data())
def test_rows_are_a_slice_of_the_whole(seed: int, h: int, out_h: int, draw: st.DataObject) -> None:
    x, size = noise(seed, 1, 2, h, 9), (out_h, 14)
    y0 = draw.draw(st.integers(0, out_h - 1))
    y1 = draw.draw(st.integers(y0 + 1, out_h))
    whole = resize(x, size)[..., y0:y1, :]
    torch.testing.assert_close(resize(x, size, rows=(y0, y1)), whole, rtol=0, atol=1e-12)
    a, b = source_rows(h, out_h, y0, y1)
    assert 0 <= a < b <= h
    spoiled = torch.full_like(x, math.nan)
    spoiled[..., a:b, :] = x[..., a:b, :]
    assert torch.equal(resize(spoiled, size, rows=(y0, y1)), resize(x, size, rows=(y0, y1)))


@quick
@given(seeds, sides, sides, sides, sides, st.data())
def test_strips_give_the_whole(
    seed: int, h: int, w: int, out_h: int, out_w: int, draw: st.DataObject
) -> None:
    x = noise(seed, 1, 1, h, w)
    cuts = sorted(draw.draw(st.sets(st.integers(1, h), max_size=5)) - {h})
    strips = torch.tensor_split(x, cuts, dim=-2)
    got = list(resize_strips(iter(strips), (h, w), (out_h, out_w)))
    whole = resize(x, (out_h, out_w))
    torch.testing.assert_close(torch.cat(got, -2), whole, rtol=0, atol=1e-12)
    assert all(s.shape[-1] == out_w for s in got)


def test_strips_come_before_the_end() -> None:
    """Output rows leave as soon as their input rows are there."""
    seen = 0

    def source() -> object:
        nonlocal seen
        for _ in range(50):
            seen += 4
            yield torch.zeros(1, 1, 4, 6)

    done = 0
    for strip in resize_strips(source(), (200, 6), (100, 12)):
        done += strip.shape[-2]
        assert done * 2 >= seen - 8, f"{seen} rows went in, only {done} came out"
    assert done == 100


@pytest.mark.parametrize("rows", [9, 11])
def test_strips_of_another_height_are_refused(rows: int) -> None:
    with pytest.raises(ValueError, match="rows"):
        list(resize_strips([torch.zeros(1, 1, rows, 4)], (10, 4), (20, 8)))


# --- types ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_stays(dtype: torch.dtype) -> None:
    x = noise(0, 1, 3, 12, 10)
    got = resize(x.to(dtype), (31, 7))
    assert got.dtype == dtype
    step = torch.finfo(dtype).eps
    torch.testing.assert_close(got.double(), resize(x, (31, 7)), rtol=0, atol=4 * step)


def test_views_and_batches() -> None:
    x = noise(0, 10, 12, 3, 2).permute(3, 2, 0, 1)  # not contiguous
    y = resize(x, (20, 5))
    assert y.shape == (2, 3, 20, 5)
    torch.testing.assert_close(y[1:], resize(x[1:].contiguous(), (20, 5)))


def test_input_is_not_written() -> None:
    x = noise(0, 1, 1, 8, 8)
    before = x.clone()
    resize(x, (4, 4))
    resize_uint8(x, (8, 4))
    resize_uint8(x, (8, 8))
    assert torch.equal(x, before)


def test_gradients_flow() -> None:
    x = noise(0, 1, 1, 8, 8).requires_grad_()
    resize(x, (16, 16)).sum().backward()
    assert x.grad is not None
    assert x.grad.sum().item() == pytest.approx(256, abs=1e-9)
