"""Colour drift: what a network adds at low frequencies goes away, strip by strip."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from upscale.color import drift
from upscale.color.drift import fix_drift
from upscale.resample import resize


def picture(channels: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    rough = torch.rand(1, channels, max(2, height // 5), max(2, width // 5), generator=generator)
    return resize(rough, (height, width)).clamp(0.1, 0.9)


def strips(x: Tensor, rows: int) -> Iterator[Tensor]:
    for y in range(0, x.shape[2], rows):
        yield x[:, :, y : y + rows].clone()


def fixed(sr: Tensor, lr: Tensor, rows: int = 7, cell: int = 16) -> Tensor:
    size, lr_size = ((x.shape[2], x.shape[3]) for x in (sr, lr))
    out = list(fix_drift(strips(sr, rows), strips(lr, 5), lr_size, size, cell=cell))
    assert [o.shape for o in out] == [s.shape for s in strips(sr, rows)]
    return torch.cat(out, 2)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_tint_goes_away_entirely(channels: int) -> None:
    lr = picture(channels, 50, 70)
    true = resize(lr, (200, 280))
    tint = torch.tensor([0.05, -0.03, 0.02]).view(1, 3, 1, 1)[:, :channels]
    change = fixed(true + tint, lr) - fixed(true, lr)
    assert float(change.abs().max()) < 1e-5


def test_few_differences_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(
        drift,
        "resize",
        lambda x, *a, **options: seen.append(x.shape[2]) or resize(x, *a, **options),
    )
    lr = picture(1, 1600, 20)
    true = resize(lr, (3200, 40))
    assert float((fixed(true, lr) - true).abs().max()) < 2e-3
    assert max(seen) < 12, "of 100 rows of cells"


def test_a_slow_wave_is_much_smaller() -> None:
    lr = picture(3, 192, 192)
    true = resize(lr, (768, 768))
    y = torch.linspace(0, 3.14 * 1.5, 768).view(1, 1, -1, 1)
    drift = 0.06 * torch.sin(y) * torch.cos(y.transpose(2, 3))
    left = fixed(true + drift, lr) - fixed(true, lr)
    print(f"drift {float(drift.abs().max()):.3f}, left {float(left.abs().max()):.4f}")
    assert float(left.abs().max()) < 0.15 * float(drift.abs().max())


def test_a_result_without_drift_stays() -> None:
    lr = picture(3, 64, 48)
    true = resize(lr, (256, 192))
    assert float((fixed(true, lr) - true).abs().max()) < 2e-3


def test_fine_detail_is_left_alone() -> None:
    lr = picture(1, 64, 64)
    true = resize(lr, (256, 256))
    detail = 0.1 * torch.sign(torch.sin(torch.arange(256) * 1.3)).view(1, 1, 1, -1)
    kept = fixed(true + detail, lr) - fixed(true, lr)
    assert float((kept - detail).abs().max()) < 0.012


@pytest.mark.parametrize("rows", [1, 3, 64, 500])
def test_the_cut_into_strips_does_not_matter(rows: int) -> None:
    lr = picture(3, 37, 41)
    sr = resize(lr, (148, 164)) + 0.03
    assert torch.allclose(fixed(sr, lr, rows), fixed(sr, lr, 148), atol=1e-6)


def test_rows_leave_before_the_last_has_come() -> None:
    lr = picture(1, 400, 20)
    sr = resize(lr, (1600, 80))
    seen = 0

    def counted() -> Iterator[Tensor]:
        nonlocal seen
        for strip in strips(sr, 16):
            seen += strip.shape[2]
            yield strip

    lags, given = [], 0
    for strip in fix_drift(counted(), [lr], (400, 20), (1600, 80)):
        given += strip.shape[2]
        lags.append(seen - given)
    assert given == 1600
    assert max(lags) <= 5 * 16 * 4, f"{max(lags)} rows are held back"


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (16, 16), (17, 1)])
def test_small_pictures(size: tuple[int, int]) -> None:
    lr = picture(1, 8, 8)[:, :, :1, :1].expand(1, 1, *size).contiguous()
    sr = resize(lr, (size[0] * 2, size[1] * 2)) + 0.1
    assert torch.allclose(fixed(sr, lr), sr - 0.1, atol=1e-5)
