"""The variational upscaler: what its draws share, what they may differ in, what they must keep."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from upscale.inference import Noise, run
from upscale.metrics import psnr
from upscale.models import VAE, VAEConfig
from upscale.models.vae import LEAST_VARIANCE, TYPICAL, Condition, Posterior, log_contrast
from upscale.resample import consistent, resize
from upscale.training.initialise import from_interpolation

SMALL = VAEConfig(scale=4, num_feat=27, num_block=1, num_grow=4, num_hidden=16, latent=3)


def vae(config: VAEConfig = SMALL, seed: int = 0) -> VAE:
    torch.manual_seed(seed)
    network = VAE(config).eval()
    from_interpolation(network)
    torch.nn.init.normal_(network.conv_detail.weight, std=0.05)  # so that z tells
    return network


def smooth(height: int, width: int, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, height // 4 + 2, width // 4 + 2, generator=generator)
    return resize(coarse, (height, width)).clamp(0, 1)


def draw(network: VAE, y: torch.Tensor, seed: int, temperature: float = 1.0) -> torch.Tensor:
    z = Noise(seed, temperature).draw(network.noise_channels, *y.shape[-2:])
    with torch.inference_mode():
        return network(torch.cat((y, z), 1))


def test_the_mean_of_the_distribution_is_the_forward_pass() -> None:
    network, lr = vae(), torch.rand(2, 6, 12, 10)
    with torch.no_grad():
        condition = network.condition(lr[:, :3])
        assert torch.equal(network.mean(lr[:, :3], condition, lr[:, 3:]), network(lr))
        sigma = condition.log_std.exp()
    assert sigma.shape == (2, 1, 48, 40)
    assert bool((sigma > 0).all())


def test_what_draws_share_is_computed_once_and_gives_the_same() -> None:
    network, y = vae(), smooth(16, 20)
    with torch.no_grad():
        condition = network.condition(y)
        for seed in (0, 1):
            z = Noise(seed, 1.0).draw(3, 16, 20)
            assert torch.equal(network.mean(y, condition, z), network(torch.cat((y, z), 1)))


def test_seeds_differ_and_one_seed_is_the_same_to_the_bit() -> None:
    network, y = vae(), smooth(24, 24)
    assert torch.equal(draw(network, y, 3), draw(network, y, 3))
    assert (draw(network, y, 3) - draw(network, y, 4)).abs().mean() > 1e-3
    assert torch.equal(draw(network, y, 3, 0.0), draw(network, y, 4, 0.0))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_every_draw_made_small_again_is_the_input(scale: int) -> None:
    config = VAEConfig(scale=scale, num_feat=27, num_block=1, num_grow=4, num_hidden=16, latent=3)
    y = smooth(40, 36)
    found = {}
    for projected in (True, False):
        network = vae(VAEConfig(**(vars(config) | {"projected": projected})))
        small = resize(draw(network, y, 5), (40, 36))
        found[projected] = psnr(small * 255, y * 255)
    print(found)
    assert found[True] > 50
    assert found[True] > found[False] + 20


def test_the_error_of_back_projection_falls_with_every_step() -> None:
    y, sr = smooth(32, 32), smooth(128, 128, seed=2)
    errors = []
    for _ in range(4):
        errors.append((resize(sr, (32, 32)) - y).square().mean().item())
        sr = consistent(sr, y)
    print(errors)
    assert all(after < before / 2 for before, after in pairwise(errors))


def test_sigma_moves_neither_features_nor_picture() -> None:
    network, y = vae(), smooth(12, 12)
    network.condition(y).log_std.sum().backward()
    moved = {n.split(".")[0] for n, p in network.named_parameters() if p.grad is not None}
    assert moved == {"conv_spread", "conv_sigma"}


def test_the_mean_does_not_move_sigma() -> None:
    network, lr = vae(), torch.rand(1, 6, 12, 12)
    network(lr).sum().backward()
    still = {n.split(".")[0] for n, p in network.named_parameters() if p.grad is None}
    assert still == {"conv_spread", "conv_sigma", "log_sigma"}


def test_detail_is_in_units_of_sigma() -> None:
    network = vae(VAEConfig(**(vars(SMALL) | {"projected": False})))
    y, z = smooth(8, 8), torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        condition = network.condition(y)
        once = network.mean(y, condition, z) - condition.picture
        wider = Condition(condition.features, condition.picture, condition.log_std + math.log(2))
        twice = network.mean(y, wider, z) - condition.picture
    torch.testing.assert_close(twice, 2 * once, atol=1e-6, rtol=1e-5)


def test_log_contrast_by_hand() -> None:
    picture = torch.full((1, 3, 9, 9), 0.25)
    flat = log_contrast(picture)
    assert flat.shape == (1, 1, 9, 9)
    floor = 0.5 * math.log(LEAST_VARIANCE) - math.log(TYPICAL)
    torch.testing.assert_close(flat, torch.full_like(flat, floor))
    picture[..., 4, 4] = 0.75  # one of 25 pixels is 0.5 brighter
    deviation = math.sqrt(0.25 / 25 - (0.5 / 25) ** 2)
    found = log_contrast(picture)
    assert found[0, 0, 4, 4].item() == pytest.approx(math.log(deviation / TYPICAL), abs=1e-4)
    assert found[0, 0, 2, 2].item() == pytest.approx(found[0, 0, 6, 6].item())
    assert found[0, 0, 1, 4].item() == pytest.approx(floor, abs=1e-4)  # out of the window


def test_the_posterior_reads_the_true_picture() -> None:
    network, y, x = vae(), smooth(8, 8), smooth(32, 32, seed=3)
    torch.manual_seed(1)
    posterior = Posterior(SMALL)
    with torch.no_grad():
        condition = network.condition(y)
        mean, log_std = posterior(x, condition)
        other, _ = posterior(x.flip(-1), condition)
    assert mean.shape == log_std.shape == (1, 3, 8, 8)
    assert (mean - other).abs().max() > 1e-3
    posterior(x, network.condition(y))[0].sum().backward()
    assert all(p.grad is None for p in network.parameters())


def test_tiled_is_whole_to_two_levels() -> None:
    network, y = vae(VAEConfig(latent=4)), smooth(100, 90)
    noise = Noise(seed=2, temperature=0.8)
    whole, tiled = (
        torch.cat([rows for _, _, rows in run(network, y, tile=tile, noise=noise)], -2)
        for tile in ("off", 48)
    )
    worst = ((whole - tiled).abs().max() * 255).item()
    print(f"worst difference {worst:.3f} levels")
    assert worst < 2


def test_half_precision_is_close() -> None:
    network, lr = vae(), torch.cat((smooth(16, 16), torch.randn(1, 3, 16, 16)), 1)
    with torch.inference_mode():
        full = network(lr)
        half = vae().half()(lr.half())
    assert half.dtype == torch.float16
    assert ((full - half.float()).abs().max() * 255).item() < 2
