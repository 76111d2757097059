"""Losses on pictures (N, C, H, W) in [0, 1], each a scalar; bounds of a VAE, in nats a picture."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

CHARBONNIER_EPSILON = 1e-3
HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)


def charbonnier(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean of sqrt((sr - hr)^2 + eps^2), eps = 1e-3 (SwinIR, eq. 9)."""
    return torch.sqrt((sr - hr) ** 2 + CHARBONNIER_EPSILON**2).mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": F.l1_loss,
    "mse": F.mse_loss,
    "charbonnier": charbonnier,
}


def gradients(sr: Tensor, hr: Tensor) -> Tensor:
    """L1 between differences of neighbours, along rows and along columns: edges and texture."""
    along = F.l1_loss(sr[..., 1:] - sr[..., :-1], hr[..., 1:] - hr[..., :-1])
    return along + F.l1_loss(sr[..., 1:, :] - sr[..., :-1, :], hr[..., 1:, :] - hr[..., :-1, :])


def relativistic(better: Tensor, worse: Tensor) -> Tensor:
    """Loss of the relativistic average GAN (ESRGAN, eq. 1, 2; Jolicoeur-Martineau, 1807.00734).

    Logits (N, 1), or (N, 1, H, W) where each judges a patch. For the discriminator the real
    pictures are the better ones, for the generator its own.
    """
    above = F.softplus(worse.mean() - better)  # -log sigmoid(better - mean(worse))
    below = F.softplus(worse - better.mean())  # -log(1 - sigmoid(worse - mean(better)))
    return above.mean() + below.mean()


def laplacian(x: Tensor) -> Tensor:
    """Four-neighbour Laplacian without the border: (N, C, H, W) to (N, C, H - 2, W - 2)."""
    around = x[..., :-2, 1:-1] + x[..., 2:, 1:-1] + x[..., 1:-1, :-2] + x[..., 1:-1, 2:]
    return around - 4 * x[..., 1:-1, 1:-1]


@torch.no_grad()
def artefact_map(sr: Tensor, steady: Tensor, hr: Tensor) -> Tensor:
    """Where a GAN draws artefacts, not texture (LDL: Liang 2022, 2203.09195, eq. 2 to 5).

    Local variance of the residual (7x7), times its global variance to the power 1/5; zero where
    the moving average of the network (``steady``) is further from the truth than the network
    itself. (N, 1, H, W), not negative.
    """
    residual = (hr - sr).abs().sum(1, keepdim=True)
    steadier = (hr - steady).abs().sum(1, keepdim=True)
    padded = F.pad(residual, (3,) * 4, mode="reflect")
    mean = F.avg_pool2d(padded, 7, 1)
    local = (F.avg_pool2d(padded**2, 7, 1) - mean**2).clamp_min_(0)
    overall = residual.flatten(1).var(1).clamp_min(0) ** 0.2
    return torch.where(residual < steadier, 0.0, local * overall.view(-1, 1, 1, 1))


def feature_matching(fake: list[Tensor], real: list[Tensor]) -> Tensor:
    """Mean L1 between features of a discriminator, each layer over its mean absolute value.

    Wang 2018 (pix2pixHD, arXiv 1711.11585, eq. 4), scaled so that no layer outweighs the others.
    """
    parts = [
        F.l1_loss(f, r.detach()) / r.detach().abs().mean().clamp_min(1e-6)
        for f, r in zip(fake, real, strict=True)
    ]
    return torch.stack(parts).mean()


def log_normal(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log density of N(mean, exp(log_std)^2) at ``x``, element by element, in nats."""
    distance = (x - mean) * torch.exp(-log_std)
    return -0.5 * distance**2 - log_std - HALF_LOG_2_PI


def kl_from_standard_normal(mean: Tensor, log_std: Tensor) -> Tensor:
    """KL(N(mean, s^2) || N(0, 1)), element by element, in nats (Kingma and Welling, appendix B)."""
    return 0.5 * (mean**2 + torch.exp(2 * log_std) - 1) - log_std


def evidence_lower_bound(
    log_x: Tensor, mean: Tensor, log_std: Tensor, kl_weight: float = 1.0
) -> Tensor:
    """The ELBO of each picture with the KL in closed form (arXiv 1312.6114, eq. 10), in nats.

    ``log_x`` is log p(x | z) of one z from the posterior q(z | x), element by element, which has
    ``mean`` and ``log_std``. With a ``kl_weight`` below 1 it is no bound.
    """
    return per_picture(log_x) - kl_weight * per_picture(kl_from_standard_normal(mean, log_std))


def log_weight(log_x: Tensor, z: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """The ELBO by one z (arXiv 1312.6114, eq. 8): log p(x | z) + log p(z) - log q(z | x)."""
    zero = torch.zeros_like(z)
    log_ratio = log_normal(z, zero, zero) - log_normal(z, mean, log_std)
    return per_picture(log_x) + per_picture(log_ratio)


def importance_weighted_bound(log_weights: Tensor) -> Tensor:
    """Log of the mean of k importance weights (Burda, arXiv 1509.00519, eq. 8): (k, N) to (N,)."""
    return torch.logsumexp(log_weights, 0) - math.log(len(log_weights))


def per_picture(x: Tensor) -> Tensor:
    """Sum over all but the first axis: (N, ...) to (N,)."""
    return x.flatten(1).sum(1)
