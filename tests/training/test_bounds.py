"""The bounds of the VAE against numbers worked by hand, integrals and each other."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from upscale.training import variational as losses

FLOAT = torch.float64


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=FLOAT)


def test_log_normal_by_hand() -> None:
    # N(1, 2^2) at 4: -(3/2)^2 / 2 - log 2 - log(2 pi) / 2 = -1.125 - 0.693147 - 0.918939
    found = losses.log_normal(torch.tensor(4.0), torch.tensor(1.0), torch.tensor(math.log(2)))
    assert found.item() == pytest.approx(-2.737086, abs=1e-6)
    assert found.item() == pytest.approx(stats.norm(1, 2).logpdf(4), abs=1e-6)


def test_kl_by_hand() -> None:
    # N(1, 0.5^2) from N(0, 1): (1 + 0.25 - 1) / 2 + log 2 = 0.125 + 0.693147
    found = losses.kl_from_standard_normal(torch.tensor(1.0), torch.tensor(math.log(0.5)))
    assert found.item() == pytest.approx(0.818147, abs=1e-6)
    zero = torch.zeros(3)
    assert losses.kl_from_standard_normal(zero, zero).tolist() == [0, 0, 0]


def test_closed_form_kl_agrees_with_monte_carlo() -> None:
    mean, log_std = torch.tensor([0.7, -1.2], dtype=FLOAT), torch.tensor([-0.9, 0.3], dtype=FLOAT)
    z = mean + log_std.exp() * normal(0, 400_000, 2)
    zero = torch.zeros((), dtype=FLOAT)
    ratio = losses.log_normal(z, mean, log_std) - losses.log_normal(z, zero, zero)
    error = 5 * ratio.std(0) / math.sqrt(len(z))
    closed = losses.kl_from_standard_normal(mean, log_std)
    print(closed, ratio.mean(0), error)
    assert bool(((closed - ratio.mean(0)).abs() < error).all())


def test_elbo_by_hand() -> None:
    # two pictures of two values, one latent; log q(x|z) is given: sums 1.5 and -2
    log_x = torch.tensor([[1.0, 0.5], [-3.0, 1.0]])
    mean, log_std = torch.tensor([[1.0], [0.0]]), torch.tensor([[math.log(0.5)], [0.0]])
    found = losses.evidence_lower_bound(log_x, mean, log_std)
    assert found.tolist() == pytest.approx([1.5 - 0.818147, -2.0], abs=1e-6)


def test_log_weight_by_hand() -> None:
    # z = 2 of N(1, 0.5^2): log q(z) = -2 - 0.918939; log p(z|x) = -2 + 0.693147 - 0.918939
    found = losses.log_weight(
        torch.tensor([[0.25, 0.5]]),
        torch.tensor([[2.0]]),
        torch.tensor([[1.0]]),
        torch.tensor([[math.log(0.5)]]),
    )
    assert found.tolist() == pytest.approx([0.75 - 0.693147], abs=1e-6)


def test_mean_log_weight_is_the_elbo() -> None:
    """The two estimates have one expectation: the KL is the mean of the log ratio."""
    model = LinearModel()
    weights = model.log_weights(4_000)
    elbo = torch.stack([model.elbo(k) for k in range(4_000)]).mean(0)
    print(weights.mean(0), elbo)
    torch.testing.assert_close(weights.mean(0), elbo, atol=0.05, rtol=0.0)


class LinearModel:
    """x = w z + b + sigma e with a posterior that is a little wrong; log p(x) is known."""

    w, b, sigma = 1.5, 0.3, 0.4
    x = torch.tensor([[0.9], [-2.0], [0.3]], dtype=FLOAT)

    def __init__(self) -> None:
        precision = 1 + self.w**2 / self.sigma**2
        self.mean = self.w * (self.x - self.b) / self.sigma**2 / precision + 0.15
        self.log_std = torch.full_like(self.mean, math.log(1.6) - 0.5 * math.log(precision))

    def sample(self, seed: int, count: int) -> torch.Tensor:
        return self.mean + self.log_std.exp() * normal(seed, count, *self.mean.shape)

    def log_x(self, z: torch.Tensor) -> torch.Tensor:
        return losses.log_normal(
            self.x, self.w * z + self.b, torch.tensor(math.log(self.sigma), dtype=FLOAT)
        )

    def log_weights(self, count: int, seed: int = 7) -> torch.Tensor:
        z = self.sample(seed, count)
        return torch.stack(
            [losses.log_weight(self.log_x(zk), zk, self.mean, self.log_std) for zk in z]
        )

    def elbo(self, seed: int) -> torch.Tensor:
        z = self.sample(seed, 1)[0]
        return losses.evidence_lower_bound(self.log_x(z), self.mean, self.log_std)

    def evidence(self) -> torch.Tensor:
        exact = stats.norm(self.b, math.hypot(self.w, self.sigma)).logpdf(self.x.numpy())
        return torch.from_numpy(exact)[:, 0]


def test_one_importance_weight_is_the_one_sample_bound() -> None:
    weights = LinearModel().log_weights(64)
    for k in range(64):
        found = losses.importance_weighted_bound(weights[k : k + 1])
        torch.testing.assert_close(found, weights[k], atol=1e-12, rtol=1e-12)


def test_the_bound_rises_to_the_evidence() -> None:
    model = LinearModel()
    weights = model.log_weights(2_000)
    bounds = {
        k: torch.stack(
            [losses.importance_weighted_bound(group) for group in weights.split(k)]
        ).mean(0)
        for k in (1, 5, 50)
    }
    evidence = model.evidence()
    print(bounds, evidence)
    assert bool((bounds[1] < bounds[5]).all())
    assert bool((bounds[5] < bounds[50]).all())
    assert bool((bounds[50] <= evidence + 0.02).all())
    torch.testing.assert_close(bounds[50], evidence, atol=0.05, rtol=0)


def test_the_mean_of_weights_by_hand() -> None:
    # weights 1, 2, 6 have the mean 3
    found = losses.importance_weighted_bound(torch.tensor([[1.0], [2.0], [6.0]]).log())
    assert found.item() == pytest.approx(math.log(3), abs=1e-6)


@pytest.mark.parametrize("shift", [-1e5, -900.0, 900.0, 1e5])
def test_far_weights_neither_overflow_nor_vanish(shift: float) -> None:
    weights = torch.tensor([[1.0], [2.0], [6.0]], dtype=FLOAT).log() + shift
    found = losses.importance_weighted_bound(weights)
    assert found.item() == pytest.approx(math.log(3) + shift, rel=1e-12)
    weights.requires_grad_()
    losses.importance_weighted_bound(weights).sum().backward()
    assert weights.grad is not None
    assert weights.grad.flatten().tolist() == pytest.approx([1 / 9, 2 / 9, 6 / 9], rel=1e-6)


def test_a_hopeless_sample_does_not_spoil_the_bound() -> None:
    weights = torch.tensor([[0.0], [-float("inf")]])
    assert losses.importance_weighted_bound(weights).item() == pytest.approx(-math.log(2))
