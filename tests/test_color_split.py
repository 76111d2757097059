"""Split and merge: inverse of each other, by strips, for every kind of picture."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.pictures import sample
from tests.profiles import gray_profile
from tests.whole import alpha_of, merge_image, split_image
from upscale import icc
from upscale.color import merge, rgb_to_ycbcr, split, to_pixels, to_tensor, ycbcr_to_rgb
from upscale.errors import UsageError
from upscale.icc import parse
from upscale.image import Image, Metadata, of_image
from upscale.image.fit import to_srgb
from upscale.image.model import LARGEST
from upscale.resample import resize

QUICK = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
P3 = icc.build("P3", icc.PRIMARIES["p3"])


def bicubic(x: Tensor | None, scale: int) -> Tensor | None:
    """A network that enlarges by the bicubic kernel."""
    return None if x is None else resize(x, (x.shape[2] * scale, x.shape[3] * scale))


def through(image: Image, channels: int, scale: int = 1, **options: str) -> Image:
    lr, rest = split_image(image, channels, **options)  # type: ignore[arg-type]
    assert lr.shape[1] == channels
    assert float(lr.min()) >= 0
    assert float(lr.max()) <= 1
    sr = bicubic(lr, scale)
    assert sr is not None
    return merge_image(sr, rest, bicubic(alpha_of(rest), scale))


@QUICK
@given(
    st.integers(1, 4),
    st.sampled_from([8, 16]),
    st.sampled_from([1, 3]),
    st.sampled_from(["network", "bicubic"]),
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(0, 2**32 - 1),
)
def test_a_network_that_changes_nothing_gives_the_picture_back(
    kind: int, depth: int, channels: int, mode: str, height: int, width: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    dtype = np.uint8 if depth == 8 else np.uint16
    pixels = rng.integers(0, 2**depth, (height, width, kind)).astype(dtype)
    if kind in (2, 4) and rng.random() < 0.5:
        pixels[:, :, -1] = np.where(rng.random((height, width)) < 0.4, 0, pixels[:, :, -1])
    out = through(Image(pixels), channels, alpha_mode=mode).pixels
    assert out.shape == pixels.shape
    assert out.dtype == pixels.dtype
    seen = pixels[:, :, -1] > 0 if kind in (2, 4) else np.ones((height, width), bool)
    if kind in (2, 4):
        assert (out[:, :, -1] == pixels[:, :, -1]).all()
        seen = seen if seen.any() else ~seen
    assert (out[seen] == pixels[seen]).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", [1, 2, 3, 4])
@pytest.mark.parametrize("profile", [None, P3])
def test_strips_are_the_whole(channels: int, kind: int, profile: bytes | None) -> None:
    image = sample(kind, 16, 17, 13).with_metadata(icc=profile)
    lr, rest = split_image(image, channels)
    size = (17 * 3, 13 * 3)
    sr, alpha = resize(lr, size), bicubic(alpha_of(rest), 3)
    whole = merge_image(sr, rest, alpha).pixels
    for cuts in ([0, 1, 2, 30, 51], [0, 25, 51], list(range(52))):
        strips = [sr[:, :, a:b] for a, b in pairwise(cuts)]
        alphas = None if alpha is None else [alpha[:, :, a:b] for a, b in [(0, 7), (7, 51)]]
        assert (np.concatenate(list(merge(strips, rest, size, alphas))) == whole).all()


def test_a_strip_of_the_wrong_size_is_an_error() -> None:
    lr, rest = split_image(sample(3, 8), 3)
    with pytest.raises(ValueError, match="strip of shape"):
        list(merge([lr], rest, (24, 34)))


def test_alpha_that_is_missing_is_an_error() -> None:
    lr, rest = split_image(sample(4, 8), 3)
    with pytest.raises(ValueError, match="alpha is missing"):
        merge_image(lr, rest)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("stored", "profile"), [(1, None), (1, P3), (1, gray_profile("g", 1.8)), (3, None), (3, P3)]
)
def test_gray_in_is_gray_out_through_a_network_that_adds_a_tint(
    channels: int, stored: int, profile: bytes | None
) -> None:
    gray = sample(1, 8).pixels
    image = Image(np.repeat(gray, stored, 2), Metadata(icc=profile))
    lr, rest = split_image(image, channels)
    tint = torch.tensor([0.02, -0.01, 0.05]).view(1, 3, 1, 1)[:, :channels]
    out = merge_image((lr + tint).clamp(0, 1), rest).pixels
    assert out.shape == image.pixels.shape
    assert (out == out[:, :, :1]).all()


def test_luma_is_that_of_matlab() -> None:
    rgb = torch.tensor([[0.0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]).T.view(1, 3, 5, 1)
    want = [[16, 128, 128], [235, 128, 128], [81.481, 90.203, 240], [144.553, 53.797, 34.214]]
    want.append([40.966, 240, 109.786])
    found = rgb_to_ycbcr(rgb)[0, :, :, 0].T * 255
    assert torch.allclose(found, torch.tensor(want), atol=1e-3)
    assert torch.allclose(ycbcr_to_rgb(rgb_to_ycbcr(rgb)), rgb, atol=1e-6)


def test_full_range_luma_is_opencvs_gray() -> None:
    image = sample(3, 8, 30, 40)
    lr, rest = split_image(image, 1, luma="full")
    gray = cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY)
    assert (lr[0, 0] * 255 - torch.from_numpy(gray)).abs().max() <= 0.51  # OpenCV rounds
    assert np.array_equal(merge_image(lr, rest).pixels, image.pixels)


@QUICK
@given(st.integers(0, 2**32 - 1))
def test_values_round_half_up_and_come_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for dtype in (np.uint8, np.uint16):
        pixels = rng.integers(0, np.iinfo(dtype).max + 1, (3, 4, 2)).astype(dtype)
        assert (to_pixels(to_tensor(pixels), np.dtype(dtype)) == pixels).all()
    assert to_pixels(torch.full((1, 1, 1, 1), 0.5 / 255), np.dtype(np.uint8)) == 1


def test_a_p3_picture_is_enlarged_as_its_srgb_form_is() -> None:
    """Seen as P3, the result that keeps the profile is that of the sRGB path, to one level."""
    inside = sample(3, 8, 40, 48).pixels // 2 + 70  # colours that sRGB has too
    picture = Image(inside.astype(np.uint8), Metadata(icc=P3))
    for channels in (1, 3):
        kept, direct = (through(picture, channels, 4, icc=mode) for mode in ("keep", "srgb"))
        assert kept.metadata.icc == P3
        assert direct.metadata.icc == icc.build("sRGB")
        seen = parse(P3).from_srgb(direct.pixels.astype(np.float32) / 255) * 255
        worst = np.abs(np.round(seen) - kept.pixels).max()
        delta = delta_e(to_srgb(kept).pixels, direct.pixels)
        print(f"{channels} channels: worst difference {worst:.0f} level, dE76 {delta.max():.2f}")
        assert worst <= 1
        assert delta.max() < 2.0


def delta_e(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """CIE 1976 colour difference of two 8-bit sRGB pictures."""
    from tests.profiles import _lab_of_srgb

    first, second = (_lab_of_srgb(x / 255) for x in (a, b))
    return np.asarray(np.sqrt(((first - second) ** 2).sum(-1)))


def test_colours_outside_srgb_are_not_lost() -> None:
    red = np.zeros((16, 16, 3), np.uint16)
    red[:, :, 0], red[:8, :, 1] = 65535, 20000
    for channels in (1, 3):
        out = through(Image(red, Metadata(icc=P3)), channels, 2).pixels
        assert (out[24, 16] == [65535, 0, 0]).all()


def test_light_above_white_comes_back() -> None:
    rng = np.random.default_rng(1)
    light = (rng.random((12, 10, 3)) * 8).astype(np.float32)
    image = Image(light, Metadata(icc=icc.build("linear", curve=(1.0,))))
    assert np.allclose(through(image, 3).pixels, light, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_floating_point_of_another_range_comes_back(channels: int) -> None:
    rng = np.random.default_rng(2)
    for kind in (1, 3):
        values = (rng.random((12, 10, kind)) * 5000 - 700).astype(np.float32)
        out = through(Image(values), channels).pixels
        assert np.allclose(out, values, atol=0.01)


def test_premultiplied_colour_is_divided_out() -> None:
    alpha = np.round(np.linspace(1, 255, 64)).reshape(8, 8, 1)
    straight = np.broadcast_to([200, 100, 50], (8, 8, 3))
    pixels = np.concatenate([np.round(straight * alpha / 255), alpha], 2).astype(np.uint16) * 257
    lr, rest = split_image(Image(pixels, Metadata(premultiplied=True)), 3)
    strong = torch.from_numpy(alpha[:, :, 0] > 60)
    want = torch.tensor([200, 100, 50]).view(3, 1) / 255
    assert (lr[0][:, strong] - want).abs().max() < 0.01
    assert (merge_image(lr, rest, alpha_of(rest)).pixels == pixels).all()


def test_a_network_of_two_channels_has_no_colour() -> None:
    with pytest.raises(UsageError, match="2 channels"):
        split(of_image(sample(3, 8)), 2)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("profile", [None, P3, icc.build("linear", curve=(1.0,))])
def test_values_as_large_as_can_be_do_no_harm(profile: bytes | None) -> None:
    largest = LARGEST
    values = np.array([[[0, 1, largest], [-largest, 0.5, 2]]], np.float32)
    out = through(Image(values, Metadata(icc=profile)), 3, 2).pixels
    assert out.shape == (2, 4, 3)
