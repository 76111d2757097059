"""Batches: aligned pairs, a function of seed and step alone."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.training.tiny import picture
from upscale.errors import ImageError
from upscale.resample import resize
from upscale.training.data import crop_side, load_pictures, make_batch, prefetch
from upscale.training.degradations import bicubic, to_8_bit


def options(step: int, **changes: int) -> dict[str, object]:
    return {
        "scale": 2,
        "patch": 16,
        "batch": 3,
        "degradation": "bicubic",
        "seed": 7,
        "step": step,
    } | changes


def test_lr_is_the_truth_made_small(pictures: Path) -> None:
    pieces = load_pictures(pictures, crop_side(2, 16))
    made = make_batch(pieces, **options(0))  # type: ignore[arg-type]
    assert made.lr.shape == (3, 3, 16, 16)
    assert made.hr.shape == (3, 3, 32, 32)
    levels = made.lr * 255
    assert torch.equal(levels, levels.round())
    shrunk = resize(made.hr, (16, 16)).clamp(0, 1)[..., 2:-2, 2:-2]
    worst = (shrunk - made.lr[..., 2:-2, 2:-2]).abs().max().item() * 255
    print(f"worst difference {worst:.3f} levels")
    assert worst <= 0.5001  # rounding to 8 bit, nothing else


def test_a_step_has_one_batch(pictures: Path) -> None:
    pieces = load_pictures(pictures, crop_side(2, 16))
    first = make_batch(pieces, **options(4))  # type: ignore[arg-type]
    again = make_batch(pieces, **options(4))  # type: ignore[arg-type]
    other = make_batch(pieces, **options(5))  # type: ignore[arg-type]
    assert torch.equal(first.lr, again.lr)
    assert torch.equal(first.hr, again.hr)
    assert not torch.equal(first.lr, other.lr)
    ahead = list(prefetch(lambda step: make_batch(pieces, **options(step)), 4, 6))  # type: ignore[arg-type]
    assert torch.equal(ahead[0].hr, first.hr)
    assert torch.equal(ahead[1].hr, other.hr)


def test_large_pictures_are_cut_and_small_ones_left_out(tmp_path: Path) -> None:
    for name, size in (("large", (800, 390)), ("small", (20, 400)), ("fits", (50, 60))):
        done, data = cv2.imencode(".png", picture(1, *size))
        assert done
        (tmp_path / f"{name}.png").write_bytes(data.tobytes())
    shapes = [p.shape for p in load_pictures(tmp_path, 48)]
    assert shapes == [(50, 60, 3), (384, 384, 3), (384, 384, 3)]


def test_gray_and_16_bit_become_8_bit_rgb(tmp_path: Path) -> None:
    gray = np.full((50, 50), 257 * 90, np.uint16)
    done, data = cv2.imencode(".png", gray)
    assert done
    (tmp_path / "gray.png").write_bytes(data.tobytes())
    (only,) = load_pictures(tmp_path, 48)
    assert only.dtype == np.uint8
    assert only.shape == (50, 50, 3)
    assert set(np.unique(only)) == {90}


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n but no more")
    with pytest.raises(ImageError, match=r"broken\.png"):
        load_pictures(tmp_path, 8)


def test_rounding_is_half_up() -> None:
    values = torch.tensor([-0.1, 0.4999, 0.5, 1.5, 254.6, 300.0]) / 255
    wanted = torch.tensor([0.0, 0.0, 1.0, 2.0, 255.0, 255.0])
    torch.testing.assert_close(to_8_bit(values) * 255, wanted)


def test_bicubic_is_the_one_bicubic() -> None:
    hr = torch.rand(1, 3, 24, 36)
    lr = bicubic(hr, 3, np.random.default_rng(0))
    wanted = (resize(hr, (8, 12)) * 255).add(0.5).floor().clamp(0, 255) / 255
    assert torch.equal(lr, wanted)
