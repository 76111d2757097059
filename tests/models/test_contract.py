"""What every network of the registry keeps; a new one is picked up by its line in MODELS."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, asdict

import pytest
import torch

from upscale.models import (
    MODELS,
    Config,
    ESRGANConfig,
    Network,
    SRCNNConfig,
    SwinIRConfig,
    VAEConfig,
    network_class,
)
from upscale.models import config_from_dict as from_dict

SWIN = {"embed_dim": 12, "depths": (2,), "num_heads": (2,)}
CONFIGS: dict[str, Config] = {
    "srcnn-x2": SRCNNConfig(scale=2, filters=(8, 4)),
    "srcnn-x3-rgb": SRCNNConfig(scale=3, channels=3, kernels=(9, 1, 5), filters=(8, 4)),
    "esrgan-x1": ESRGANConfig(scale=1, num_feat=8, num_block=1, num_grow=4),
    "esrgan-x3": ESRGANConfig(scale=3, num_feat=8, num_block=1, num_grow=4),
    "esrgan-x4": ESRGANConfig(scale=4, num_feat=8, num_block=1, num_grow=4, plus=True),
    "esrgan-x2-unshuffle": ESRGANConfig(scale=2, num_feat=8, num_block=1, num_grow=4, unshuffle=2),
    "swinir-direct-x2": SwinIRConfig(scale=2, **SWIN),  # type: ignore[arg-type]
    "swinir-classical-x3": SwinIRConfig(scale=3, upsampler="pixelshuffle", **SWIN),  # type: ignore[arg-type]
    "swinir-real-x4": SwinIRConfig(
        scale=4,
        upsampler="nearest+conv",
        resi_connection="3conv",
        **SWIN,  # type: ignore[arg-type]
    ),
    "vae-x4": VAEConfig(scale=4, num_feat=8, num_block=1, num_grow=4, num_hidden=8, latent=2),
    "vae-x2-gray": VAEConfig(
        scale=2, channels=1, num_feat=8, num_block=0, num_grow=4, num_hidden=8, projected=False
    ),
    "vae-x3": VAEConfig(scale=3, num_feat=8, num_block=1, num_grow=4, num_hidden=8),
    "swinir-gray": SwinIRConfig(
        scale=1,
        channels=1,
        upsampler="",
        window_size=7,
        img_range=255.0,
        **SWIN,  # type: ignore[arg-type]
    ),
}


def build(config: Config) -> Network:
    torch.manual_seed(0)
    (kind,) = [m for m in map(network_class, MODELS) if m.config_type is type(config)]
    return kind(config).eval()


def test_every_network_is_tried() -> None:
    assert {type(c) for c in CONFIGS.values()} == {
        network_class(name).config_type for name in MODELS
    }
    assert all(name == network_class(name).architecture for name in MODELS)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
@pytest.mark.parametrize("size", [(1, 1), (2, 9), (17, 12), (24, 24)], ids=str)
def test_shape_and_values(config: Config, size: tuple[int, int]) -> None:
    network = build(config)
    lr = torch.rand(2, network.channels + network.noise_channels, *size)
    with torch.inference_mode():
        sr = network(lr)
    height, width = (network.scale * n for n in size)
    assert sr.shape == (2, network.channels, height, width)
    assert bool(torch.isfinite(sr).all())


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_pictures_of_a_batch_do_not_see_each_other(config: Config) -> None:
    network = build(config)
    lr = torch.rand(2, network.channels + network.noise_channels, 16, 16)
    with torch.inference_mode():
        together = network(lr)
        alone = torch.cat([network(lr[:1]), network(lr[1:])])
    worst = (together - alone).abs().max().item()
    print(f"worst difference {worst:.2e}")
    assert worst < 1e-5


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_state_holds_parameters_alone(config: Config) -> None:
    network = build(config)
    assert set(network.state_dict()) == {n for n, _ in network.named_parameters()}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_configuration_round_trip(config: Config) -> None:
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()}
    assert from_dict(type(config), values) == config
    with pytest.raises(TypeError):
        from_dict(type(config), values | {"unknown": 1})
    with pytest.raises(FrozenInstanceError):
        config.scale = 9  # type: ignore[attr-defined]


EXACT = {name: config for name, config in CONFIGS.items() if build(config).halo_is_exact}


@pytest.mark.parametrize("config", EXACT.values(), ids=EXACT.keys())
def test_halo_covers_the_reach_where_it_says_so(config: Config) -> None:
    network = build(config)
    side = 2 * network.halo + 9
    side += -side % network.multiple_of
    channels = network.channels + network.noise_channels
    lr = torch.rand(1, channels, side, side, requires_grad=True)
    middle = side // 2 * network.scale
    network(lr)[..., middle : middle + network.scale, middle].sum().backward()
    assert lr.grad is not None
    rows = lr.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    reach = max(side // 2 - int(rows[0]), int(rows[-1]) - side // 2)
    print(f"reach {reach}, halo {network.halo}")
    assert reach <= network.halo


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="scale 5"):
        build(ESRGANConfig(scale=5))
    with pytest.raises(ValueError, match="has scale 1, not 2"):
        build(SwinIRConfig(scale=2, upsampler=""))
