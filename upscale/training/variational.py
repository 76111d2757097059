"""Training of the VAE: generator and posterior together, by a lower bound on log p(x | y).

The loss is the bound in nats a value of x, turned round. The generator's sigma per pixel, which
serves the map of uncertainty and not the bound, has a loss of its own that moves nothing else.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from upscale.errors import CheckpointError, UsageError
from upscale.models import VAE, Network, VAEConfig
from upscale.models.vae import Condition, Posterior
from upscale.training.data import Batch
from upscale.training.objective import Objective, for_network
from upscale.training.recipes import Recipe, find_recipe

HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)
ACTIVE = 0.01  # variance of a latent's posterior mean over the data (Burda, section 5)


class VariationalObjective(Objective):
    """Generator and posterior, one step for both."""

    network: VAE

    def __init__(self, recipe: Recipe, network: Network, device: torch.device) -> None:
        if recipe.variational is None or not isinstance(network, VAE):
            raise UsageError(f"recipe {recipe.name!r} trains no VAE")
        super().__init__(recipe, network, device)
        self.settings = recipe.variational
        self.posterior = Posterior(network.config).to(device)
        network.base.requires_grad_(self.settings.base_rate > 0)
        rest = [p for n, p in network.named_parameters() if not n.startswith("base.")]
        rest += self.posterior.parameters()
        groups: list[dict[str, Any]] = [{"params": rest, "factor": 1.0}]
        if self.settings.base_rate:
            base = list(network.base.parameters())
            groups.append({"params": base, "factor": self.settings.base_rate})
        self.optimiser = self.make_optimiser(groups)
        self.parts = {"posterior": self.posterior, "optimiser": self.optimiser}

    def step(self, batch: Batch, rate: float) -> dict[str, float]:
        """One step of the optimiser; what it logs is in nats a value of x, KL a latent."""
        y = for_network(self.network, batch.lr.to(self.device))
        x = for_network(self.network, batch.hr.to(self.device))
        y = y.contiguous(memory_format=torch.channels_last)
        with self.autocast():
            condition = self.network.condition(y)
            mean, log_std = (t.float() for t in self.posterior(x, condition))
        if self.settings.latent == "prior":
            mean, log_std = torch.zeros_like(mean), torch.zeros_like(log_std)
        bound, parts = self._bound(x, y, condition, mean, log_std)
        total = parts["spread"] - bound.mean() / x[0].numel()
        self.update(total, self.optimiser, rate * self.recipe.learning_rate)
        self.steps += 1
        return {k: float(v.detach()) for k, v in (parts | latent_use(mean, log_std)).items()}

    def _bound(
        self, x: Tensor, y: Tensor, condition: Condition, mean: Tensor, log_std: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The recipe's bound, (N,), and what is logged of it."""
        settings, weights = self.settings, []
        for _ in range(settings.samples):
            z = mean + torch.exp(log_std) * torch.randn_like(mean)
            with self.autocast():
                mu = self.network.mean(y, condition, z).float()
            log_x = log_normal(x, mu, self.network.log_sigma)
            if settings.bound == "elbo":
                weight = self.kl_weight()
                weights.append(evidence_lower_bound(log_x, mean, log_std, weight))
            else:
                weights.append(log_weight(log_x, z, mean, log_std))
        parts = {
            "reconstruction": -log_x.mean(),
            "spread": -log_normal(x, mu.detach(), condition.log_std.float()).mean(),
            "rmse": (x - mu).square().mean().sqrt(),
        }
        return importance_weighted_bound(torch.stack(weights)), parts

    def kl_weight(self) -> float:
        """Of the KL in this step: from 0 to 1 over the recipe's warm-up."""
        warm = self.settings.kl_warmup * self.recipe.steps
        return min(1.0, self.steps / warm) if warm else 1.0


class Bound:
    """The importance-weighted bound of a run's networks, of pictures.

    The run may be finished or not; with more draws of z (``samples``) the bound is tighter.

    Raises:
        CheckpointError: It is missing, damaged or not of a VAE.
    """

    def __init__(self, checkpoint: Path, samples: int = 1, seed: int = 0) -> None:
        self.samples, self.seed = samples, seed
        try:
            state = torch.load(checkpoint, map_location="cpu", weights_only=True)
            config = find_recipe(state["recipe"]).network
            if not isinstance(config, VAEConfig):
                raise CheckpointError(f"{checkpoint} trains no VAE; give the checkpoint.pt of one")
            self.network, self.posterior = VAE(config).eval(), Posterior(config).eval()
            self.network.load_state_dict(state["ema"])
            self.posterior.load_state_dict(state["objective"]["posterior"])
        except CheckpointError:
            raise
        except Exception as error:
            raise CheckpointError(
                f"{checkpoint} is no checkpoint of a run ({type(error).__name__}); give the "
                "checkpoint.pt that training left"
            ) from error

    @torch.no_grad()
    def __call__(self, lr: Tensor, hr: Tensor) -> float:
        """Bits that a value of 8 bit takes at most: -log2 p(x | y) for each, plus 8.

        ``lr`` is (1, 3, H, W) and ``hr`` (1, 3, scale*H, scale*W), both 0 to 255.
        """
        y, x = (lr / 255).float(), (hr / 255).float()
        condition = self.network.condition(y)
        mean, log_std = self.posterior(x, condition)
        generator = torch.Generator().manual_seed(self.seed)
        weights = []
        for _ in range(self.samples):
            z = mean + log_std.exp() * torch.randn(mean.shape, generator=generator)
            log_x = log_normal(x, self.network.mean(y, condition, z), self.network.log_sigma)
            weights.append(log_weight(log_x, z, mean, log_std))
        bound = importance_weighted_bound(torch.stack(weights)).item()
        return 8 - bound / x.numel() / math.log(2)


@torch.no_grad()
def latent_use(mean: Tensor, log_std: Tensor) -> dict[str, Tensor]:
    """Whether z is used: mean KL of every channel, posterior's deviation, active channels.

    A channel whose KL is near 0 and whose mean does not vary has collapsed to the prior. Mean and
    log deviation are the posterior's, (N, latent, H, W).
    """
    kl = kl_from_standard_normal(mean, log_std).mean((0, 2, 3))
    active = mean.var((0, 2, 3)) > ACTIVE
    return {
        "kl": kl.sum(),
        "posterior_std": torch.exp(log_std).mean(),
        "active": active.sum(),
        **{f"kl_{k}": v for k, v in enumerate(kl)},
    }


# --- bounds, in nats a picture --------------------------------------------------------------------


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
