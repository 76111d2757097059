"""Training of the VAE: generator and posterior together, by a lower bound on log p(x | y).

The loss is the bound in nats a value of x, turned round. The generator's sigma per pixel, which
serves the map of uncertainty and not the bound, has a loss of its own that moves nothing else.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from upscale.errors import UsageError
from upscale.models import VAE, Network
from upscale.models.vae import Given, Posterior
from upscale.training import losses
from upscale.training.data import Batch
from upscale.training.objective import autocast, for_network, make_optimiser, set_rate
from upscale.training.recipes import Recipe

ACTIVE = 0.01  # variance of a latent's posterior mean over the data (Burda, section 5)


class VariationalObjective:
    """Generator and posterior, one step for both."""

    def __init__(self, recipe: Recipe, network: Network, device: torch.device) -> None:
        if recipe.variational is None or not isinstance(network, VAE):
            raise UsageError(f"recipe {recipe.name!r} trains no VAE")
        self.recipe, self.settings = recipe, recipe.variational
        self.network, self.device = network, device
        self.posterior = Posterior(network.config).to(device)
        network.base.requires_grad_(self.settings.base_rate > 0)
        base = list(network.base.parameters())
        rest = [p for n, p in network.named_parameters() if not n.startswith("base.")]
        rest += self.posterior.parameters()
        groups: list[dict[str, Any]] = [{"params": rest, "factor": 1.0}]
        if self.settings.base_rate:
            groups += [{"params": base, "factor": self.settings.base_rate}]
            rest = rest + base
        self.learning = rest
        self.optimiser = make_optimiser(groups, recipe)
        self.steps = 0

    def step(self, batch: Batch, rate: float) -> dict[str, float]:
        """One step of the optimiser; what it logs is in nats a value of x, KL a latent."""
        set_rate(self.optimiser, rate, self.recipe.learning_rate)
        y = for_network(self.network, batch.lr.to(self.device))
        x = for_network(self.network, batch.hr.to(self.device))
        y = y.contiguous(memory_format=torch.channels_last)
        with autocast(self.recipe, self.device):
            given = self.network.given(y)
            mean, log_std = (t.float() for t in self.posterior(x, given))
        if self.settings.latent == "prior":
            mean, log_std = torch.zeros_like(mean), torch.zeros_like(log_std)
        bound, parts = self._bound(x, y, given, mean, log_std)
        total = parts["spread"] - bound.mean() / x[0].numel()
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        if self.recipe.clip:
            nn.utils.clip_grad_norm_(self.learning, self.recipe.clip)
        self.optimiser.step()
        self.steps += 1
        return {k: float(v.detach()) for k, v in (parts | latent_use(mean, log_std)).items()}

    def _bound(
        self, x: Tensor, y: Tensor, given: Given, mean: Tensor, log_std: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The recipe's bound, (N,), and what is logged of it."""
        settings, weights = self.settings, []
        for _ in range(settings.samples):
            z = mean + torch.exp(log_std) * torch.randn_like(mean)
            with autocast(self.recipe, self.device):
                mu = self.network.mean(y, given, z).float()
            log_x = losses.log_normal(x, mu, self.network.log_sigma)
            if settings.bound == "elbo":
                weight = self.kl_weight()
                weights.append(losses.evidence_lower_bound(log_x, mean, log_std, weight))
            else:
                weights.append(losses.log_weight(log_x, z, mean, log_std))
        parts = {
            "reconstruction": -log_x.mean(),
            "spread": -losses.log_normal(x, mu.detach(), given.log_std.float()).mean(),
            "rmse": (x - mu).square().mean().sqrt(),
        }
        return losses.importance_weighted_bound(torch.stack(weights)), parts

    def kl_weight(self) -> float:
        """Of the KL in this step: from 0 to 1 over the recipe's warm-up."""
        warm = self.settings.kl_warmup * self.recipe.steps
        return min(1.0, self.steps / warm) if warm else 1.0

    def state(self) -> dict[str, Any]:
        """Posterior, optimiser, steps done."""
        return {
            "posterior": self.posterior.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "steps": self.steps,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state` gave."""
        self.posterior.load_state_dict(state["posterior"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.steps = int(state["steps"])


@torch.no_grad()
def latent_use(mean: Tensor, log_std: Tensor) -> dict[str, Tensor]:
    """Whether z is used: mean KL of every channel, posterior's deviation, active channels.

    A channel whose KL is near 0 and whose mean does not vary has collapsed to the prior.

    Args:
        mean: Of the posterior, (N, latent, H, W).
        log_std: Log of its standard deviation.
    """
    kl = losses.kl_from_standard_normal(mean, log_std).mean((0, 2, 3))
    active = mean.var((0, 2, 3)) > ACTIVE
    return {
        "kl": kl.sum(),
        "posterior_std": torch.exp(log_std).mean(),
        "active": active.sum(),
        **{f"kl_{k}": v for k, v in enumerate(kl)},
    }
