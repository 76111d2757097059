"""Alpha: no fringe, no holes, nothing done where there is nothing to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.whole import alpha_of, merge_image, split_image
from upscale import load
from upscale.color.pixels import bleed
from upscale.image import Image, Metadata, decode
from upscale.resample import resize

PICTURES = Path(__file__).parent / "data" / "pictures"
ORANGE = np.array([230, 120, 20])


def ringing(x: Tensor) -> Tensor:
    """A network x4 that overshoots and rings: the bicubic kernel, sharpened twice."""
    big = resize(x, (x.shape[2] * 4, x.shape[3] * 4))
    for _ in range(2):
        soft = torch.nn.functional.avg_pool2d(big, 5, 1, 2, count_include_pad=False)
        big = big + 0.8 * (big - soft)
    return big


def enlarged(image: Image, mode: str) -> np.ndarray:
    lr, rest = split_image(image, 3, alpha_mode=mode)  # type: ignore[arg-type]
    alpha = None if alpha_of(rest) is None else ringing(alpha_of(rest))
    return merge_image(ringing(lr), rest, alpha).pixels


@pytest.mark.parametrize("mode", ["network", "bicubic"])
@pytest.mark.parametrize("background", ["black", "white"])
def test_a_disc_has_no_fringe(background: str, mode: str) -> None:
    out = enlarged(decode((PICTURES / f"disc-{background}.png").read_bytes()), mode)
    alpha = out[:, :, 3]
    difference = np.abs(out[:, :, :3].astype(int) - ORANGE).max(2)
    worst = int(difference[alpha > 0].max())
    print(f"disc on transparent {background}, {mode}: worst colour difference {worst} levels")
    assert worst <= 1
    y, x = np.mgrid[: len(out), : len(out)]
    radius = np.hypot(x - 95.5, y - 95.5) / 4
    assert (alpha[radius < 15.5] == 255).all(), "holes inside"
    assert (alpha[radius > 21] == 0).all(), "specks outside"


def test_the_disc_is_the_same_whatever_colour_is_hidden() -> None:
    black, white = (
        enlarged(decode((PICTURES / f"disc-{b}.png").read_bytes()), "network")
        for b in ("black", "white")
    )
    assert (black == white).all()


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_bleeding_changes_nothing_that_is_seen(height: int, width: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    colour = torch.rand(1, 3, height, width, generator=generator)
    alpha = torch.rand(1, 1, height, width, generator=generator)
    alpha = torch.where(alpha < 0.5, torch.zeros(()), alpha)
    out = bleed(colour, alpha)
    seen = (alpha > 0).expand_as(colour)
    assert (out[seen] == colour[seen]).all()
    if bool(seen.any()):
        assert float(out.min()) >= float(colour[seen].min()) - 1e-6
        assert float(out.max()) <= float(colour[seen].max()) + 1e-6
    else:
        assert out is colour


def test_bleeding_takes_the_nearest_colour() -> None:
    colour = torch.zeros(1, 3, 9, 40)
    colour[:, 0, :, :3], colour[:, 2, :, 37:] = 1.0, 1.0
    alpha = torch.zeros(1, 1, 9, 40)
    alpha[:, :, :, :3] = alpha[:, :, :, 37:] = 1.0
    out = bleed(colour, alpha)
    assert out[0, 0, 4, 4] > 0.9
    assert out[0, 2, 4, 35] > 0.9


@pytest.mark.parametrize("value", [0, 1, 128, 255])
def test_a_constant_alpha_is_copied(value: int) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (9, 8, 4), dtype=np.uint8)
    pixels[:, :, 3] = value
    lr, rest = split_image(Image(pixels), 3)
    assert alpha_of(rest) is None
    assert (merge_image(ringing(lr), rest).pixels[:, :, 3] == value).all()
    assert np.allclose(lr[0].numpy(), pixels[:, :, :3].transpose(2, 0, 1) / 255, atol=1e-6)


def test_alpha_stays_between_its_neighbours() -> None:
    pixels = np.zeros((12, 12, 4), np.uint8)
    pixels[3:9, 3:9] = (10, 20, 30, 128)
    out = enlarged(Image(pixels), "network")[:, :, 3]
    assert out.max() <= 128
    assert (out[20:28, 20:28] == 128).all()
    assert (out[:8] == 0).all()


def test_a_binary_alpha_has_no_holes_under_a_ringing_network() -> None:
    y, x = np.mgrid[:40, :40]
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[:, :, 3] = np.where(np.hypot(x - 20, y - 20) < 14, 255, 0)
    out = enlarged(Image(pixels), "network")[:, :, 3]
    radius = np.hypot(*(np.mgrid[:160, :160] - 81.5)) / 4
    assert (out[radius < 12] == 255).all()
    assert (out[radius > 16] == 0).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("model", ["tiny", "duo"])
def test_alpha_that_holds_data_is_a_picture_of_its_own(
    model: str, dtype: type, tiny: str, duo: str
) -> None:
    """Colour under alpha 0 and alpha itself are enlarged as if they came in files of their own."""
    pixels = np.random.default_rng(4).integers(0, 256, (21, 18, 4)).astype(np.uint8)
    pixels[4:15, 3:12, 3] = 0
    most = 1 if dtype is np.float32 else np.iinfo(dtype).max
    pixels = (pixels / 255 * most).astype(dtype)
    up = load(model, device="cpu", tile=16, alpha_mode="separate")
    for metadata in (Metadata(), Metadata(premultiplied=True)):
        both = up.image(Image(pixels, metadata)).pixels
        assert np.array_equal(both[:, :, :3], up.image(pixels[:, :, :3]))
        assert np.array_equal(both[:, :, 3], up.image(pixels[:, :, 3]))
    hidden = load(model, device="cpu", tile=16).image(pixels)
    assert not np.array_equal(hidden[:, :, :3], both[:, :, :3])
