"""What a picture shows of its past, against pictures whose past is known."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from upscale.damage import (
    NOISE_QUANTILE,
    NOISE_QUANTILE_OF_WHITE,
    blockiness,
    noise_sigma,
    survey,
)

PHOTOGRAPHS = ("astronaut", "cat", "coffee")


@pytest.fixture(scope="module", params=PHOTOGRAPHS)
def photograph(request: pytest.FixtureRequest) -> np.ndarray:
    """(H, W, 3) uint8, made small by 2 so that it shows no JPEG file it may have been."""
    return cv2.resize(getattr(data, request.param)(), None, fx=0.5, fy=0.5, interpolation=3)


def noisy(x: np.ndarray, sigma: float, *, gray: bool = False) -> np.ndarray:
    shape = (*x.shape[:2], 1) if gray else x.shape
    noise = np.random.default_rng(3).normal(0, sigma, shape)
    return np.clip(np.rint(x + noise), 0, 255).astype(np.uint8)


def through_jpeg(x: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1)


def green(x: np.ndarray) -> np.ndarray:
    return x[..., 1]


# --- blocks ---------------------------------------------------------------------------------------


def test_photographs_show_blocks_as_far_as_they_were_compressed(photograph: np.ndarray) -> None:
    clean = blockiness(green(photograph))
    found = [blockiness(green(through_jpeg(photograph, quality))) for quality in (75, 50, 30)]
    assert 0.94 < clean < 1.06
    assert 1.08 < found[0] < found[1] < found[2]


@pytest.mark.parametrize("sigma", [5, 15])
def test_noise_is_no_block(photograph: np.ndarray, sigma: float) -> None:
    assert 0.97 < blockiness(green(noisy(photograph, sigma))) < 1.03


def test_blocks_elsewhere_than_in_the_grid_do_not_count(photograph: np.ndarray) -> None:
    moved = green(through_jpeg(photograph, 30))[3:, 5:]
    assert blockiness(moved) < 1.05


def test_blocks_of_a_step_by_hand() -> None:
    """Steps of 2 at block edges across, noise of one level elsewhere: by its definition."""
    x = np.mgrid[:64, :64][1]
    picture = 100.0 + 2 * (x // 8 % 2) + (x % 2) * 0.25
    plain = 100.0 + (x % 2) * 0.25
    assert blockiness(plain) == pytest.approx(1)
    slope = np.diff(picture[0])
    step = np.abs(slope[1:-1] - (slope[:-2] + slope[2:]) / 2)
    place = (np.arange(step.size) + 1) % 8
    want = step[place == 7].mean() / np.median([step[place == k].mean() for k in range(7)])
    # down the columns there are no steps, which halves both means
    assert blockiness(picture) == pytest.approx(want)
    assert blockiness(picture.T) == pytest.approx(want)


def test_gradients_and_constants_have_no_blocks() -> None:
    y, x = np.mgrid[:40, :50]
    assert blockiness(3.0 * x + 2 * y) == 1.0
    assert blockiness(np.full((24, 24), 9)) == 1.0
    assert math.isnan(blockiness(np.zeros((23, 90))))


# --- noise ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_white_noise_alone_is_measured(channels: int) -> None:
    flat = np.full((400, 500, channels), 128.0)
    for sigma in (2, 7, 30):
        x = flat + np.random.default_rng(1).normal(0, sigma, flat.shape)
        assert noise_sigma(x) == pytest.approx(sigma, rel=0.02)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_constants_are_those_of_white_noise(channels: int) -> None:
    """By another route: convolve noise with Immerkaer's mask, take blocks, take the quantile."""
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], float)
    noise = np.random.default_rng(2).normal(0, 1, (1602, 1602, channels))
    found = np.stack([cv2.filter2D(noise[..., c], -1, mask) for c in range(channels)], 2)
    square = (found[1:-1, 1:-1] ** 2 / 36).mean(2)
    blocks = square.reshape(200, 8, 200, 8).mean((1, 3))
    want = np.sqrt(np.quantile(blocks, NOISE_QUANTILE))
    assert pytest.approx(want, rel=0.005) == NOISE_QUANTILE_OF_WHITE[channels]


@pytest.mark.parametrize("sigma", [3, 5, 10, 15, 25])
def test_noise_in_photographs(photograph: np.ndarray, sigma: float) -> None:
    assert noise_sigma(noisy(photograph, sigma)) == pytest.approx(sigma, rel=0.12, abs=0.8)
    assert noise_sigma(noisy(photograph, sigma, gray=True)) == pytest.approx(sigma, rel=0.2)
    gray = photograph[..., :1]
    assert noise_sigma(noisy(gray, sigma)) == pytest.approx(sigma, rel=0.12, abs=0.8)


def test_texture_is_not_noise(photograph: np.ndarray) -> None:
    assert noise_sigma(photograph) < 1.5


@pytest.mark.parametrize(("name", "most"), [("grass", 9), ("gravel", 5), ("brick", 1)])
def test_pictures_of_nothing_but_texture(name: str, most: float) -> None:
    """Grass is the hardest: all of it is fine and irregular."""
    assert noise_sigma(getattr(data, name)()[..., None]) < most


def test_drawings_have_no_noise() -> None:
    page = np.full((200, 300, 3), 255, np.uint8)
    cv2.putText(page, "upscale", (20, 120), cv2.FONT_HERSHEY_SIMPLEX, 2, (0, 0, 0), 3, cv2.LINE_AA)
    assert noise_sigma(page) == 0
    assert blockiness(green(page)) < 1.3


def test_clipped_blocks_are_left_out() -> None:
    """Noise is half gone where it is clipped; the middle of the picture tells."""
    x = np.zeros((160, 160, 1), np.uint8)
    x[:80] = 128
    assert noise_sigma(noisy(x, 10)) == pytest.approx(10, rel=0.05)
    assert math.isnan(noise_sigma(noisy(x[80:], 10)))
    dark = noisy(x[80:], 20)
    assert 7 < survey([dark], *dark.shape[:2]).noise < 20  # better than nothing


def test_small_pictures_have_no_figure() -> None:
    assert math.isnan(noise_sigma(np.zeros((9, 90, 3))))
    assert noise_sigma(np.zeros((10, 10, 3))) == 0


def test_large_pictures_are_looked_at_in_part() -> None:
    """All bands count: noise in one tenth of the rows is not seen, in all rows it is."""
    tall = np.full((4000, 400, 3), 120.0)
    noise = np.random.default_rng(4).normal(0, 8, tall.shape)
    assert noise_sigma(tall + noise) == pytest.approx(8, rel=0.02)
    partly = tall.copy()
    partly[:400] += noise[:400]
    assert noise_sigma(partly) == 0
    y, x = np.mgrid[:4000, :400]
    blocks = 100.0 + 2 * ((x // 8 + y // 8) % 2) + 0.25 * (x % 2)
    assert blockiness(blocks) > 2


# --- a picture that comes by rows -----------------------------------------------------------------


@given(
    height=st.integers(30, 300),
    cuts=st.lists(st.integers(1, 90), min_size=1, max_size=12),
    wide=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_strips_of_any_height_say_the_same(height: int, cuts: list[int], wide: bool) -> None:
    """``wide`` pictures are looked at in bands."""
    rng = np.random.default_rng(height)
    picture = rng.integers(0, 256, (height, 9_000 if wide else 64, 1), np.uint8)
    strips, top = [], 0
    for at in range(height):
        tall = cuts[at % len(cuts)]
        strips.append(picture[top : top + tall])
        top += tall
        if top >= height:
            break
    found = survey(strips, *picture.shape[:2])
    assert found == survey([picture], *picture.shape[:2])
    assert found.noise == pytest.approx(noise_sigma(picture.astype(np.float32)), nan_ok=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("alpha", [False, True])
def test_depth_and_alpha_change_nothing(dtype: type, alpha: bool) -> None:
    picture = noisy(data.astronaut()[:200, :200], 10)
    if alpha:
        picture = np.dstack([picture, np.arange(200, dtype=np.uint8) * np.ones((200, 1), np.uint8)])
    most = 1 if dtype is np.float32 else np.iinfo(dtype).max
    other = (picture.astype(np.float64) / 255 * most).astype(dtype)
    found, plain = survey([other], 200, 200), survey([picture[:, :, :3]], 200, 200)
    assert found.noise == pytest.approx(plain.noise, rel=1e-3)
    assert found.blockiness == pytest.approx(plain.blockiness, rel=1e-3)


@pytest.mark.parametrize("cut", [(0, 0), (3, 5), (7, 1)])
def test_blocks_are_seen_wherever_they_start(photograph: np.ndarray, cut: tuple[int, int]) -> None:
    top, left = cut
    figures = []
    for picture in (photograph, through_jpeg(photograph, 60)):
        part = picture[top:, left:]
        figures.append(survey([part], *part.shape[:2]).blockiness)
    print(figures)
    assert figures[0] < 1.09
    assert figures[1] > 1.2
