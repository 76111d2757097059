"""Losses on pictures (N, C, H, W) in [0, 1]; each gives a scalar."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

CHARBONNIER_EPSILON = 1e-3


def charbonnier(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean of sqrt((sr - hr)^2 + eps^2), eps = 1e-3 (SwinIR, eq. 9)."""
    return torch.sqrt((sr - hr) ** 2 + CHARBONNIER_EPSILON**2).mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": F.l1_loss,
    "mse": F.mse_loss,
    "charbonnier": charbonnier,
}


def relativistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """L_D of the relativistic average GAN (ESRGAN, eq. 1; Jolicoeur-Martineau, arXiv 1807.00734).

    Args:
        real: Logits of real pictures, (N, 1).
        fake: Logits of generated ones, (N, 1).
    """
    return _relativistic(real, fake)


def relativistic_generator(real: Tensor, fake: Tensor) -> Tensor:
    """L_G of the relativistic average GAN (ESRGAN, eq. 2): the roles exchanged."""
    return _relativistic(fake, real)


def _relativistic(better: Tensor, worse: Tensor) -> Tensor:
    above = F.softplus(worse.mean() - better)  # -log sigmoid(better - mean(worse))
    below = F.softplus(worse - better.mean())  # -log(1 - sigmoid(worse - mean(better)))
    return above.mean() + below.mean()


def laplacian_detail(sr: Tensor, hr: Tensor) -> Tensor:
    """L1 between the 4-neighbour Laplacians: edges where they are, whatever the brightness."""
    return F.l1_loss(laplacian(sr), laplacian(hr))


def laplacian(x: Tensor) -> Tensor:
    """Four-neighbour Laplacian without the border: (N, C, H, W) to (N, C, H - 2, W - 2)."""
    around = x[..., :-2, 1:-1] + x[..., 2:, 1:-1] + x[..., 1:-1, :-2] + x[..., 1:-1, 2:]
    return around - 4 * x[..., 1:-1, 1:-1]


def artefact_map(sr: Tensor, steady: Tensor, hr: Tensor, window: int = 7) -> Tensor:
    """Where a GAN draws artefacts, not texture (LDL: Liang 2022, 2203.09195, eq. 2 to 5).

    Local variance of the residual, times its global variance to the power 1/5; zero where the
    moving average of the network (``steady``) is further from the truth than the network itself.

    Args:
        sr: Result of the network, (N, C, H, W).
        steady: Result of its moving average.
        hr: Truth.
        window: Side of the local window.

    Returns:
        (N, 1, H, W), not negative, without gradient.
    """
    with torch.no_grad():
        residual = (hr - sr).abs().sum(1, keepdim=True)
        steadier = (hr - steady).abs().sum(1, keepdim=True)
        padded = F.pad(residual, (window // 2,) * 4, mode="reflect")
        mean = F.avg_pool2d(padded, window, 1)
        local = (F.avg_pool2d(padded**2, window, 1) - mean**2).clamp_min_(0)
        overall = residual.flatten(1).var(1).clamp_min(0) ** 0.2
        return torch.where(residual < steadier, 0.0, local * overall.view(-1, 1, 1, 1))


def artefacts(sr: Tensor, steady: Tensor, hr: Tensor) -> Tensor:
    """Mean of |M * (sr - hr)| with M of :func:`artefact_map`."""
    return (artefact_map(sr, steady, hr) * (sr - hr).abs()).mean()


def feature_matching(fake: list[Tensor], real: list[Tensor]) -> Tensor:
    """Mean L1 between features of a discriminator, each layer over its mean absolute value.

    Wang 2018 (pix2pixHD, arXiv 1711.11585, eq. 4), scaled so that no layer outweighs the others.
    """
    parts = [
        F.l1_loss(f, r.detach()) / r.detach().abs().mean().clamp_min(1e-6)
        for f, r in zip(fake, real, strict=True)
    ]
    return torch.stack(parts).mean()
