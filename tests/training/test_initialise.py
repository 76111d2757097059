"""At step 0 every network interpolates: the bicubic kernel it was given, or the identity."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.training.tiny import picture
from upscale.models import (
    MODELS,
    Config,
    ESRGANConfig,
    SRCNNConfig,
    SwinIRConfig,
    VAEConfig,
    network_class,
)
from upscale.resample import resize, taps
from upscale.training.initialise import (
    bicubic_taps,
    from_interpolation,
    nearest_kernel,
    split_taps,
)


def smooth(height: int, width: int, channels: int) -> torch.Tensor:
    rgb = torch.from_numpy(picture(3, height * 2, width * 2)).permute(2, 0, 1)[None].float() / 255
    return resize(rgb, (height, width)).clamp(0, 1)[:, :channels]


def swin(scale: int, head: str, channels: int = 3, img_range: float = 1.0) -> SwinIRConfig:
    return SwinIRConfig(
        scale=scale,
        channels=channels,
        embed_dim=32,
        depths=(2,),
        num_heads=(2,),
        upsampler=head,  # type: ignore[arg-type]
        img_range=img_range,
    )


def rrdb(scale: int) -> ESRGANConfig:
    return ESRGANConfig(scale=scale, num_feat=32, num_block=1, num_grow=8)


def vae(scale: int) -> VAEConfig:
    return VAEConfig(scale=scale, num_feat=32, num_block=1, num_grow=8, latent=2, num_hidden=16)


# least decibels between the network at step 0 and MATLAB's bicubic, away from the border
CASES = [
    *((f"srcnn-x{s}", SRCNNConfig(scale=s), 45.0) for s in (2, 3, 4)),
    ("srcnn-rgb", SRCNNConfig(scale=2, channels=3), 45.0),
    *((f"direct-x{s}", swin(s, "pixelshuffledirect"), 48.0) for s in (2, 3, 4, 8)),
    *((f"pixelshuffle-x{s}", swin(s, "pixelshuffle"), 38.0) for s in (2, 3, 4, 8)),
    *((f"nearest-x{s}", swin(s, "nearest+conv"), 33.0) for s in (2, 4)),
    ("direct-gray", swin(2, "pixelshuffledirect", channels=1), 48.0),
    ("denoise", swin(1, ""), 40.0),
    ("denoise-gray", swin(1, "", channels=1), 40.0),
    ("jpeg", swin(1, "", img_range=255.0), 40.0),
    *((f"rrdb-x{s}", rrdb(s), 33.0) for s in (1, 2, 3, 4)),
    *((f"vae-x{s}", vae(s), 33.0) for s in (2, 3, 4)),
]


@pytest.mark.parametrize(("config", "least"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_step_0_is_bicubic(config: Config, least: float) -> None:
    torch.manual_seed(5)
    (kind,) = [k for k in map(network_class, MODELS) if isinstance(config, k.config_type)]
    network = kind(config).eval()
    from_interpolation(network)
    lr = smooth(40, 32, network.channels)
    with torch.no_grad():
        z = torch.zeros(1, network.noise_channels, *lr.shape[-2:])
        sr = network(torch.cat((lr, z), 1))
    wanted = resize(lr, (sr.shape[-2], sr.shape[-1]))
    inner = 5 * network.scale
    error = (sr - wanted)[..., inner:-inner, inner:-inner].square().mean()
    decibels = -10 * math.log10(float(error) + 1e-12)
    print(f"{config}: {decibels:.1f} dB from bicubic")
    assert decibels > least


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_taps_are_those_of_the_resampler(scale: int) -> None:
    index, weight = taps(32, 32 * scale)
    for phase in range(scale):
        row = 16 * scale + phase
        dense = np.zeros(32)
        np.add.at(dense, index[row], weight[row])
        np.testing.assert_allclose(bicubic_taps(scale, phase), dense[14:19], atol=1e-12)
        assert dense[:14].any() is np.False_


def test_split_keeps_every_offset() -> None:
    weights = np.array([0.1, 0.2, 0.4, 0.5, -0.2])
    kernel = split_taps(weights)
    back = np.zeros(5)
    for shift in range(3):
        for tap in range(3):
            if kernel[shift, tap]:
                back[shift + tap] += kernel[shift, tap]
    np.testing.assert_allclose(back, weights)


@pytest.mark.parametrize("factor", [2, 3])
def test_nearest_kernel_is_exact_in_the_middle(factor: int) -> None:
    kernel = nearest_kernel(factor, 0)
    for phase in range(factor):
        made = np.zeros(7)
        for shift in range(3):
            for tap in range(3):
                made[3 + shift - 1 + (phase + tap - 1) // factor] += kernel[shift, tap]
        np.testing.assert_allclose(made[1:6], bicubic_taps(factor, phase), atol=1e-6)


def test_too_few_features_are_refused() -> None:
    network = network_class("esrgan")(ESRGANConfig(scale=2, num_feat=16, num_block=1, num_grow=8))
    with pytest.raises(ValueError, match="16 features cannot hold 27"):
        from_interpolation(network)
