"""What is minimised, and what one optimiser step does; a GAN's players are in ``adversarial.py``.

Losses are of pictures (N, C, H, W) in [0, 1], each a scalar; bounds of a VAE are in nats a picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale.color import luma_in, rgb_to_ycbcr
from upscale.device import computes_in
from upscale.errors import DataError
from upscale.models import SRCNN, Network
from upscale.resample import resize
from upscale.training.data import Batch
from upscale.training.recipes import Recipe

CHARBONNIER_EPSILON = 1e-3
HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Objective:
    """A training objective; has the optimisers and any network beside the one that is trained."""

    def __init__(self, recipe: Recipe, network: Network, device: torch.device) -> None:
        self.recipe, self.network, self.device = recipe, network, device
        # What a checkpoint holds of it beside the number of steps done, by name.
        self.parts: dict[str, nn.Module | torch.optim.Optimizer] = {}
        self.steps = 0

    def step(self, batch: Batch, rate: float) -> dict[str, float]:
        """Do one optimiser step at a learning rate of ``rate`` times the recipe's; named losses."""
        raise NotImplementedError

    def autocast(self) -> torch.autocast:
        """The recipe's autocast on the device."""
        precision = self.recipe.precision
        if precision == "auto":
            precision = "bf16" if computes_in(torch.bfloat16, self.device) else "fp32"
        dtype = AUTOCAST.get(precision)
        return torch.autocast(self.device.type, dtype or torch.bfloat16, enabled=dtype is not None)

    def make_optimiser(self, parameters: Any) -> torch.optim.Optimizer:
        """The recipe's optimiser over ``parameters``; :meth:`update` sets its rate."""
        if self.recipe.optimiser == "sgd":
            return torch.optim.SGD(parameters, momentum=0.9)
        return torch.optim.Adam(parameters, betas=self.recipe.betas)

    def update(self, loss: Tensor, optimiser: torch.optim.Optimizer, rate: float) -> None:
        """One step of an optimiser down the loss, the gradient's norm clipped.

        The learning rate is ``rate`` times each group's own ``factor``.
        """
        parameters: list[Tensor] = []
        for group in optimiser.param_groups:
            group["lr"] = rate * group.get("factor", 1.0)
            parameters += group["params"]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.recipe.clip:
            nn.utils.clip_grad_norm_(parameters, self.recipe.clip)
        optimiser.step()

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs, as tensors and plain values."""
        parts = {name: part.state_dict() for name, part in self.parts.items()}
        return parts | {"steps": self.steps}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state` gave."""
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        self.steps = int(state["steps"])


def for_network(network: Network, rgb: Tensor) -> Tensor:
    """What the network sees of an RGB batch (N, 3, H, W): all, or luma (N, 1, H, W)."""
    return luma_in(rgb_to_ycbcr(rgb)[:, :1], network.luma) if network.channels == 1 else rgb


def targets(recipe: Recipe, batch: Batch) -> list[tuple[float, Tensor]]:
    """What a result is compared with, each with its share: the truth, the teacher's, or both."""
    if recipe.truth == 1:
        return [(1.0, batch.hr)]
    if batch.teacher is None:
        raise DataError(
            f"recipe {recipe.name!r} learns from a teacher's pictures: give --data a folder of "
            "patches, as upscale train patches makes it"
        )
    both = [(1 - recipe.truth, batch.teacher), (recipe.truth, batch.hr)]
    return [(share, picture) for share, picture in both if share]


def pixel_loss(recipe: Recipe, sr: Tensor, aims: list[tuple[float, Tensor]]) -> Tensor:
    """The recipe's loss and its loss on gradients, over what :func:`targets` gave."""
    parts = [share * LOSSES[recipe.loss](sr, aim) for share, aim in aims]
    if recipe.gradient_weight:
        parts += [share * recipe.gradient_weight * gradients(sr, aim) for share, aim in aims]
    return torch.stack(parts).sum() if len(parts) > 1 else parts[0]


class PixelObjective(Objective):
    """One network, one pixel loss."""

    def __init__(self, recipe: Recipe, network: Network, device: torch.device) -> None:
        super().__init__(recipe, network, device)
        groups: list[dict[str, Any]] = [{"params": list(network.parameters()), "factor": 1.0}]
        if recipe.optimiser == "sgd" and isinstance(network, SRCNN):
            # The last layer learns ten times slower (section 4.1 of the paper).
            groups[0]["params"] = [*network.conv1.parameters(), *network.conv2.parameters()]
            groups += [{"params": list(network.conv3.parameters()), "factor": 0.1}]
        self.optimiser = self.make_optimiser(groups)
        self.parts = {"optimiser": self.optimiser}

    def step(self, batch: Batch, rate: float) -> dict[str, float]:
        """One step of the optimiser."""
        lr = for_network(self.network, batch.lr.to(self.device))
        with self.autocast():
            sr = self._forward(lr).float()
        aims = []
        for share, picture in targets(self.recipe, batch):
            aim = for_network(self.network, picture.to(self.device))
            lost = (aim.shape[-1] - sr.shape[-1]) // 2  # at each border, without padding
            inner = slice(lost, aim.shape[-2] - lost), slice(lost, aim.shape[-1] - lost)
            aims.append((share, aim[(..., *inner)]))
        loss = pixel_loss(self.recipe, sr, aims)
        self.update(loss, self.optimiser, rate * self.recipe.learning_rate)
        self.steps += 1
        return {"loss": float(loss.detach())}

    def _forward(self, lr: Tensor) -> Tensor:
        if self.recipe.valid and isinstance(self.network, SRCNN):
            size = lr.shape[-2] * self.network.scale, lr.shape[-1] * self.network.scale
            return self.network.refine(resize(lr, size), padded=False)
        if self.device.type == "cpu":
            lr = lr.contiguous(memory_format=torch.channels_last)
        return self.network(lr)


# --- losses ---------------------------------------------------------------------------------------


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
