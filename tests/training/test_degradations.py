"""Damage: what each step does against an independent answer, and that seed and step decide it."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from tests.training.tiny import picture
from upscale.degradations import Array, coded, gaussian_kernel, sinc_kernel
from upscale.training.data import crop_side, make_batch
from upscale.training.degradations import (
    DEGRADATIONS,
    HISTORIES,
    bicubic,
    jpeg,
    noise,
    second_order,
)
from upscale.training.drawn import drawn_pictures

FLAT: Array = np.full((256, 256, 3), 128, np.float32)


def batch(name: str, scale: int, step: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    pieces = [picture(seed, 256, 272) for seed in range(3)]
    made = make_batch(pieces, scale=scale, patch=16, batch=6, degradation=name, seed=2, step=step)
    return made.lr, made.hr


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        ("bicubic", 4),
        ("blind", 4),
        ("web", 4),
        ("second-order", 4),
        ("second-order", 2),
        ("noise", 1),
        ("jpeg", 1),
    ],
)
def test_seed_and_step_decide_a_batch(name: str, scale: int) -> None:
    lr, hr = batch(name, scale)
    assert lr.shape == (6, 3, 16, 16)
    assert hr.shape == (6, 3, 16 * scale, 16 * scale)
    again = batch(name, scale)
    assert torch.equal(lr, again[0])
    assert torch.equal(hr, again[1])
    assert not torch.equal(lr, batch(name, scale, step=4)[0])


@pytest.mark.parametrize(("name", "scale"), [("web", 4), ("second-order", 4), ("jpeg", 1)])
def test_damage_leaves_the_picture_in_its_place(name: str, scale: int) -> None:
    """The mean over many seeds lies on the truth: correlation falls when either is moved."""
    pieces = [picture(seed, 256, 272) for seed in range(3)]
    made = make_batch(pieces, scale=scale, patch=24, batch=48, degradation=name, seed=5, step=0)
    low = torch.nn.functional.avg_pool2d(made.hr, scale) if scale > 1 else made.hr

    def likeness(dy: int, dx: int) -> float:
        moved = torch.roll(made.lr, (dy, dx), (-2, -1))[..., 2:-2, 2:-2]
        return float((moved - low[..., 2:-2, 2:-2]).square().mean())

    errors = {(dy, dx): likeness(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)}
    print({k: round(v, 5) for k, v in errors.items()})
    assert min(errors, key=lambda k: errors[k]) == (0, 0)


def test_damage_leaves_the_truth_alone() -> None:
    hr = (
        torch.from_numpy(np.stack([picture(s, 96, 96) for s in range(3)])).permute(0, 3, 1, 2) / 255
    )
    before = hr.clone()
    lr = DEGRADATIONS["second-order"].apply(hr, 4, np.random.default_rng(0))
    assert torch.equal(hr, before)
    assert torch.equal((lr * 255).round() / 255, lr)
    assert 0 <= lr.min() <= lr.max() <= 1


def test_noise_has_the_sigma_it_draws() -> None:
    hr = torch.full((200, 3, 32, 32), 0.5)
    spread = noise(hr, 1, np.random.default_rng(1)).sub(0.5).mul(255).flatten(1).std(1)
    print(f"sigma {spread.min():.1f} to {spread.max():.1f}, mean {spread.mean():.1f}")
    assert 4.8 < spread.min() < 8
    assert 46 < spread.max() < 51
    assert abs(spread.mean() - 27.5) < 3


def test_half_of_the_noisy_pictures_are_in_whole_levels() -> None:
    lr = noise(torch.full((100, 3, 8, 8), 0.5), 1, np.random.default_rng(3)) * 255
    whole = (lr - lr.round()).abs().flatten(1).amax(1) < 1e-3
    assert 30 < int(whole.sum()) < 70


def test_second_order_leaves_some_pictures_clean_and_damages_most() -> None:
    """The clean ones are the picture made small; the mean gradient tells the others apart."""
    pixels = picture(1, 192, 192).astype(np.float32)
    small = cv2.resize(pixels, (48, 48), interpolation=cv2.INTER_AREA)
    made = [second_order(pixels, (48, 48), np.random.default_rng(k)) for k in range(150)]
    errors = np.array([np.abs(m - small).mean() for m in made])
    print(np.percentile(errors, (5, 25, 50, 75, 95)).round(2))
    assert all(m.shape == (48, 48, 3) and m.dtype == np.float32 for m in made)
    clean = float((errors < 2).mean())
    assert HISTORIES["clean"] / 2 < clean < 0.35
    assert np.median(errors) > 4
    assert sum(HISTORIES.values()) == pytest.approx(1)


def test_half_of_the_web_is_blind() -> None:
    """A flat picture stays as it is when it is made small or compressed, blurred or ringing."""
    flat = torch.full((300, 3, 64, 64), 128 / 255)
    untouched = {
        name: float((lr - 128 / 255).abs().flatten(1).amax(1).lt(1e-3).float().mean())
        for name in ("web", "blind")
        for lr in [DEGRADATIONS[name].apply(flat, 4, np.random.default_rng(1))]
    }
    print(untouched)
    assert abs(untouched["web"] - (0.5 + untouched["blind"] / 2)) < 0.08


def test_jpeg_is_that_of_the_codec() -> None:
    """OpenCV's result against Pillow's, at the quality and sampling that the seed draws."""
    pixels = picture(4, 64, 64)
    hr = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    rng = np.random.default_rng(9)
    ours = jpeg(hr, 1, np.random.default_rng(9))[0].permute(1, 2, 0).numpy() * 255
    quality = int(rng.integers(10, 81))
    sampling = "4:2:0" if rng.random() < 0.7 else "4:4:4"
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=sampling)
    theirs = np.asarray(Image.open(file)).astype(np.float32)
    difference = np.abs(ours - theirs)
    print(f"quality {quality}, {sampling}: mean difference {difference.mean():.3f} levels")
    assert difference.mean() < 0.6


@pytest.mark.parametrize("extension", [".jpg", ".webp"])
def test_codecs_keep_the_order_of_colours(extension: str) -> None:
    red = FLAT * np.array([1.8, 0.2, 0.1], np.float32)
    out = coded(red, extension, 95)
    assert np.abs(out.mean((0, 1)) - red.mean((0, 1))).max() < 4


def test_kernels_sum_to_one_and_are_as_wide_as_they_say() -> None:
    y, x = np.mgrid[-10:11, -10:11]
    kernel = gaussian_kernel((2.0, 1.0), 0.0)
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    assert np.sqrt((kernel * x**2).sum()) == pytest.approx(2, rel=0.01)
    assert np.sqrt((kernel * y**2).sum()) == pytest.approx(1, rel=0.01)
    turned = gaussian_kernel((2.0, 1.0), np.pi / 2)
    assert np.abs(turned - kernel.T).max() < 1e-7
    ideal = sinc_kernel(np.pi)
    assert ideal[10, 10] == pytest.approx(1, abs=1e-6)  # nothing is cut off


def test_a_low_pass_filter_rings() -> None:
    edge = np.repeat(np.where(np.arange(64) < 32, 50.0, 200.0)[None], 64, 0).astype(np.float32)
    out = cv2.filter2D(edge, -1, sinc_kernel(np.pi / 2.5), borderType=cv2.BORDER_REFLECT)
    assert out.max() > 205
    assert out.min() < 45


def test_at_scale_1_bicubic_changes_nothing() -> None:
    hr = torch.rand(1, 3, 9, 7)
    assert torch.equal(bicubic(hr, 1, np.random.default_rng(0)), hr)


def test_a_crop_holds_the_patch_and_what_its_damage_reads() -> None:
    assert crop_side(4, 32) == 160
    assert crop_side(4, 32, "second-order") == (32 + 16 + 7) * 4


def test_drawn_pictures_follow_from_their_number() -> None:
    first, again = drawn_pictures(8, 128), drawn_pictures(9, 128)
    for a, b in zip(first, again, strict=False):
        assert a.shape == (128, 128, 3)
        assert np.array_equal(a, b)
    assert all(p.std() > 5 for p in first)  # something is on each
    assert len({p.tobytes() for p in first}) == 8
    assert drawn_pictures(0, 128) == []
