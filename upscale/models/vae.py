"""A conditional VAE for super-resolution: it draws plausible pictures and says where they differ.

Kingma and Welling, "Auto-Encoding Variational Bayes", arXiv 1312.6114, with every distribution
given the small picture y (Sohn 2015, "Learning Structured Output Representation using Deep
Conditional Generative Models"): prior p(z) = N(0, I) on a latent of a few channels for every small
pixel; generator p(x | z, y) = N(mu(z, y), sigma^2); posterior q(z | x, y), which only training
needs. x is the picture as a residual over the bicubic enlargement of y, which shifts x and mu alike
and changes no density: mu is given here with the enlargement added.

mu(z, y) is what an RRDB network (ESRGAN's generator, arXiv 1809.00219) makes of y, plus detail that
three convolutions make of its features and z. The larger part knows nothing of z: it runs once for
all draws, and it can start from a trained network. Two sigmas are kept apart. One number for the
whole data serves the bound that trains mu and z: a sigma that is free at every pixel would let the
generator call detail noise and leave z unused (posterior collapse). A sigma per pixel, s(y), serves
the map of uncertainty: it learns what is left of the error, and its gradient moves nothing else. It
reads the features and the logarithm of the local contrast, which convolutions are slow to find; and
it is the unit of the detail, so that draws differ where there is something to guess.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale.models import Config, Network
from upscale.models.esrgan import ESRGAN, SLOPE, ESRGANConfig
from upscale.models.layers import enlarge_traced, shrink_traced
from upscale.resample import consistent
from upscale.tiling import is_traced

TYPICAL = 0.05  # standard deviation of the error of an enlargement, of pixels in [0, 1]
LOG_STD = (-7.0, 3.0)  # range of the logarithms of standard deviations that networks give
WINDOW = 5  # side of the windows whose contrast is measured, enlarged pixels
LEAST_VARIANCE = 1e-6  # of a window: a quarter of a level of 8 bit
PROJECTIONS = 2  # steps of back-projection
PROJECTION_REACH = 4  # LR pixels that one step reaches


@dataclass(frozen=True)
class VAEConfig(Config):
    """Sizes of a variational upscaler."""

    scale: int = 4  # enlargement: 1, 2, 3, 4, 8 or 16
    channels: int = 3  # 1 luma, 3 RGB
    latent: int = 8  # channels of the latent z
    num_feat: int = 32  # features of the RRDB network
    num_block: int = 4  # its blocks
    num_grow: int = 16  # features that a dense layer of it adds
    num_hidden: int = 64  # features of the convolutions that read z, and of the posterior
    # Every draw gets the coarse part of the input back, so that made small again it is the input.
    # Only for clean inputs: it would put noise and blocks back too.
    projected: bool = True


class Condition(NamedTuple):
    """What all draws for one y share."""

    features: Tensor  # (N, num_feat, H, W)
    picture: Tensor  # without any detail from z, (N, channels, scale*H, scale*W)
    log_std: Tensor  # log of s(y), for all channels, (N, 1, scale*H, scale*W)


class VAE(Network):
    """The generator p(x | z, y); the noise channels are z."""

    architecture: ClassVar[str] = "vae"
    config_type: ClassVar[type[Config]] = VAEConfig
    precisions: ClassVar[tuple[torch.dtype, ...]] = (torch.float32, torch.float16)

    config: VAEConfig

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.scale, self.channels = config.scale, config.channels
        self.noise_channels = config.latent
        hidden, phases = config.num_hidden, config.scale**2
        self.base = ESRGAN(
            ESRGANConfig(
                scale=config.scale,
                num_feat=config.num_feat,
                num_block=config.num_block,
                num_grow=config.num_grow,
                in_channels=config.channels,
                out_channels=config.channels,
            )
        )
        self.conv_latent = nn.Conv2d(config.num_feat + config.latent, hidden, 3, padding=1)
        self.conv_hidden = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.conv_detail = nn.Conv2d(hidden, config.channels * phases, 3, padding=1)
        self.conv_spread = nn.Conv2d(config.num_feat + phases, hidden // 2, 3, padding=1)
        self.conv_sigma = nn.Conv2d(hidden // 2, phases, 1)
        self.log_sigma = nn.Parameter(torch.tensor(math.log(TYPICAL)))
        reach = 15 * config.num_block + 10 + PROJECTIONS * PROJECTION_REACH * config.projected
        self.halo = min(reach, 16)
        self.halo_is_exact = self.halo == reach

    def condition(self, y: Tensor) -> Condition:
        """What all draws for ``y`` (N, channels, H, W) share."""
        features = self.base.features(y)
        picture = self.base.enlarge(features)
        return Condition(features, picture, self.spread(features, picture))

    def spread(self, features: Tensor, picture: Tensor) -> Tensor:
        """Log of s(y); no gradient goes back to what it reads."""
        contrast = F.pixel_unshuffle(log_contrast(picture.detach()), self.scale)
        seen = torch.cat((features.detach(), contrast), 1)
        x = self.conv_sigma(F.leaky_relu(self.conv_spread(seen), SLOPE))
        return (F.pixel_shuffle(x, self.scale) + math.log(TYPICAL)).clamp(*LOG_STD)

    def mean(self, y: Tensor, condition: Condition, z: Tensor) -> Tensor:
        """mu(z, y): (N, channels, scale*H, scale*W) of z (N, latent, H, W)."""
        # 1. What z adds, in units of s(y).
        detail = F.pixel_shuffle(self.detail(torch.cat((condition.features, z), 1)), self.scale)
        sr = condition.picture + condition.log_std.detach().exp() * detail
        # 2. Made small again it is to be the input.
        for _ in range(PROJECTIONS * self.config.projected):
            if is_traced():  # the same for a graph that serves every size
                missing = y - shrink_traced(sr, self.scale)
                sr = sr + enlarge_traced(missing, self.scale)
            else:
                sr = consistent(sr, y)
        return sr

    def detail(self, seen: Tensor) -> Tensor:
        """What z adds, in units of s(y), before the shuffle: of features and z, (N, .., H, W)."""
        x = F.leaky_relu(self.conv_latent(seen), SLOPE)
        out: Tensor = self.conv_detail(F.leaky_relu(self.conv_hidden(x), SLOPE))
        return out

    def draws(self, lr: Tensor, noise: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """mu(z, y) for each z, with s(y)^2; what the draws share is computed once."""
        condition = self.condition(lr)
        own = (2 * condition.log_std.float()).exp()
        for z in noise:
            yield self.mean(lr, condition, z), own

    def forward(self, lr: Tensor) -> Tensor:
        """mu(z, y): (N, channels + latent, H, W) to (N, channels, scale*H, scale*W)."""
        y, z = lr[:, : self.channels], lr[:, self.channels :]
        return self.mean(y, self.condition(y), z)


def log_contrast(picture: Tensor) -> Tensor:
    """Log of the standard deviation of gray in the window around every pixel, about -1 to 1.

    (N, C, H, W) to (N, 1, H, W) of the same dtype; computed in float32, as half would lose it.
    """
    gray = F.pad(picture.float().mean(1, keepdim=True), (WINDOW // 2,) * 4, mode="replicate")
    mean = F.avg_pool2d(gray, WINDOW, 1)
    variance = F.avg_pool2d(gray**2, WINDOW, 1) - mean**2
    log_std = 0.5 * variance.clamp_min(LEAST_VARIANCE).log()
    return (log_std - math.log(TYPICAL)).to(picture.dtype)


class Posterior(nn.Module):
    """q(z | x, y) = N(m, s^2), every latent on its own: which z made this picture.

    Only training and the bound need it. It reads what of x the generator does not get from y alone,
    in units of s(y), at every sub-pixel, and the generator's features.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.scale, self.latent = config.scale, config.latent
        seen = config.channels * config.scale**2 + config.num_feat
        self.conv_first = nn.Conv2d(seen, config.num_hidden, 3, padding=1)
        self.conv_hidden = nn.Conv2d(config.num_hidden, config.num_hidden, 3, padding=1)
        self.conv_last = nn.Conv2d(config.num_hidden, 2 * config.latent, 3, padding=1)

    def forward(self, x: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        """Mean and log of the standard deviation of z, (N, latent, H, W) each.

        Args:
            x: The true picture, (N, channels, scale*H, scale*W).
            condition: Of the small one; no gradient goes back to it.
        """
        features, picture, log_std = (t.detach() for t in condition)
        missing = F.pixel_unshuffle((x - picture) / log_std.exp(), self.scale)
        hidden = F.leaky_relu(self.conv_first(torch.cat((missing, features), 1)), SLOPE)
        hidden = F.leaky_relu(self.conv_hidden(hidden), SLOPE)
        mean, log_std = self.conv_last(hidden).split(self.latent, 1)
        return mean, log_std.clamp(*LOG_STD)
