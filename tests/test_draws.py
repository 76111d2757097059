"""Draws: their mean and variance from the engine and from Python, whatever the tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import draw
from upscale import Image, load
from upscale.errors import UsageError
from upscale.inference import Noise, prepare, run
from upscale.models import VAE, VAEConfig
from upscale.upscaler import uncertainty

CONFIG = VAEConfig(scale=2, latent=3, num_feat=4, num_block=1, num_grow=2, num_hidden=6)


def network() -> VAE:
    torch.manual_seed(4)
    made = VAE(CONFIG)
    torch.nn.init.normal_(made.conv_detail.weight, std=0.2)
    return made


def joined(*arguments: object, **options: object) -> torch.Tensor:
    strips = run(*arguments, **options)  # type: ignore[arg-type]
    return torch.cat([rows for _, _, rows in strips], -2)


def picture(height: int, width: int) -> torch.Tensor:
    pixels = torch.from_numpy(draw(height, width)).permute(2, 0, 1)[None]
    return pixels.float() / 255


def test_the_mean_is_that_of_the_single_draws() -> None:
    prepared, lr = prepare(network()), picture(20, 30)
    alone = [joined(prepared, lr, noise=Noise(5 + k, 1.0)) for k in range(4)]
    together = joined(prepared, lr, noise=Noise(5, 1.0, samples=4))
    assert (alone[0] - alone[1]).abs().mean() > 1e-3
    torch.testing.assert_close(together, torch.stack(alone).mean(0), atol=2e-6, rtol=0)


def test_the_variances_are_those_of_draws_and_generator() -> None:
    prepared, lr = prepare(network()), picture(20, 30)
    alone = torch.stack([joined(prepared, lr, noise=Noise(k, 1.0)) for k in range(5)])
    found = joined(prepared, lr, noise=Noise(0, 1.0, samples=5, spread=True))
    assert found.shape == (1, 5, 40, 60)
    torch.testing.assert_close(found[:, :3], alone.mean(0), atol=2e-6, rtol=0)
    between = alone.var(0).mean(1)
    torch.testing.assert_close(found[:, 3], between, atol=1e-7, rtol=1e-4)
    with torch.no_grad():
        own = prepared.network.condition(lr).log_std.exp() ** 2  # type: ignore[operator]
    torch.testing.assert_close(found[:, 4:], own, atol=1e-8, rtol=1e-4)
    single = joined(prepared, lr, noise=Noise(0, 1.0, spread=True))
    assert single[:, 3].abs().max() == 0


@pytest.mark.parametrize("tile", [16, 48])
@pytest.mark.parametrize("tta", [False, True])
def test_draws_do_not_depend_on_tiles(tile: int, tta: bool) -> None:
    prepared, lr = prepare(network()), picture(70, 60)
    noise = Noise(1, 0.8, samples=2, spread=True)
    whole = joined(prepared, lr, tile="off", tta=tta, noise=noise)
    tiled = joined(prepared, lr, tile=tile, tta=tta, noise=noise)
    worst = (whole - tiled)[:, :3].abs().max().item() * 255
    print(f"worst difference {worst:.2f} levels")
    assert worst < 2
    torch.testing.assert_close(whole[:, 3:], tiled[:, 3:], atol=1e-4, rtol=0.05)


def test_noise_of_a_part_is_a_part_of_the_noise() -> None:
    noise = Noise(seed=6, temperature=0.5)
    whole = noise.draw(2, 90, 200)
    part = noise.draw(2, 30, 100, first=40, left=70)
    assert torch.equal(part, whole[..., 40:70, 70:170])


def test_half_done_tiles_that_are_run_in_parts_keep_their_noise() -> None:
    """A tile that turns out too large is cut: its parts draw what the whole would have drawn."""
    from upscale.inference.engine import Engine, RunReport
    from upscale.tiling import plan

    prepared, lr = prepare(network()), picture(60, 64)
    job = Engine(prepared, 24, tta=False, report=RunReport(), noise=Noise(3, 1.0))
    _, (_, tile, *_) = next(plan(60, 64, tile=32, overlap=24).bands())
    assert tile.cols.start > 0
    job.tile = 64
    ((_, want),) = job.results([(tile, tile.cut(lr))])
    job.tile = 16
    ((_, found),) = job.results([(tile, tile.cut(lr))])
    print((found - want).abs().max())
    torch.testing.assert_close(found, want, atol=2 / 255, rtol=0)


def test_python_gives_draws_and_their_uncertainty(tiny_vae: Path) -> None:
    upscaler = load(tiny_vae, device="cpu")
    lr = (0.3 + 0.4 * draw(14, 11) / 255).astype(np.float32)
    draws = upscaler.samples(lr, 3, seed=20)
    assert [one.shape for one in draws] == [(28, 22, 3)] * 3
    np.testing.assert_array_equal(draws[1], upscaler.image(lr, seed=21))
    assert np.abs(draws[0] - draws[1]).mean() > 0.01
    found = upscaler.uncertainty(lr, 3, seed=20)
    assert found.std.shape == (28, 22)
    np.testing.assert_allclose(found.std**2, found.between**2 + found.own**2, atol=1e-6)
    all_draws = np.stack(draws).astype(np.float64)
    inside = ((all_draws > 0) & (all_draws < 1)).all((0, -1))  # results are clipped
    assert inside.mean() > 0.9
    between = np.sqrt(all_draws.var(0, ddof=1).mean(-1))
    np.testing.assert_allclose(found.between[inside], between[inside], atol=1e-5)
    assert isinstance(upscaler.samples(Image(lr), 1)[0], Image)


def test_transparency_is_not_drawn(tiny_vae: Path) -> None:
    upscaler = load(tiny_vae, device="cpu")
    lr = draw(12, 12, channels=4)
    one, other = upscaler.samples(lr, 2)
    assert (one[..., :3] != other[..., :3]).any()
    np.testing.assert_array_equal(one[..., 3], other[..., 3])


def test_gray_and_16_bit_are_drawn_too(tiny_vae: Path) -> None:
    upscaler = load(tiny_vae, device="cpu")
    deep = draw(10, 10).astype(np.uint16) * 257
    one = upscaler.image(deep, samples=2)
    shallow = upscaler.image(draw(10, 10), samples=2)
    assert one.dtype == np.uint16
    assert np.abs(one / 257 - shallow).max() <= 0.51
    assert upscaler.uncertainty(draw(10, 10, channels=1), 2).std.shape == (20, 20)


def test_a_model_that_draws_nothing_says_so(tiny: str) -> None:
    upscaler = load(tiny, device="cpu")
    with pytest.raises(UsageError, match=r"samples: tiny always gives the same picture.*-m vae"):
        upscaler.samples(draw(8, 8), 2)
    with pytest.raises(UsageError, match="uncertainty: tiny"):
        upscaler.uncertainty(draw(8, 8))


def test_map_rows_by_hand() -> None:
    rows = uncertainty.MapRows()
    variances = np.zeros((2, 3, 4), np.float32)
    variances[0, 0, 0], variances[1, 0, 0] = 0.03**2, 0.04**2  # together 0.05 of 0.25
    variances[1, 2, 3] = 1  # beyond the scale
    rows.add(variances[:, :2])
    rows.add(variances[:, 2:])
    (found,) = list(rows.rows())
    assert found.shape == (3, 4, 1)
    assert found.dtype == np.uint16
    assert found[0, 0, 0] == 13107
    assert found[2, 3, 0] == 65535
    assert rows.record["full_scale"] == 0.25
    assert rows.record["rms_between_draws"] == pytest.approx((0.03**2 / 12) ** 0.5, abs=1e-6)


def test_the_view_has_a_legend_and_grows_with_the_map() -> None:
    rows = uncertainty.MapRows()
    variances = np.zeros((2, 700, 300), np.float32)
    variances[1] = np.linspace(0, 0.1, 300) ** 2
    rows.add(variances)
    view = np.concatenate(list(rows.view()))
    assert view.shape == rows.view_shape == (700 + uncertainty.LEGEND_HEIGHT, 300, 3)
    assert rows.top == pytest.approx(26)
    light = view[:700].astype(int).sum(-1)
    assert (np.diff(light[0, ::30]) > 0).all()  # lighter where less is known
    assert (view[-10:] == 255).mean() > 0.5  # paper under the legend's words
