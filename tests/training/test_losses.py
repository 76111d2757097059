"""Losses against values worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from upscale.training import adversarial as losses
from upscale.training.objective import LOSSES, charbonnier


def test_charbonnier_by_hand() -> None:
    sr, hr = torch.tensor([[0.0, 0.3]]), torch.tensor([[0.0, 0.7]])
    by_hand = (1e-3 + math.sqrt(0.16 + 1e-6)) / 2
    assert charbonnier(sr, hr).item() == pytest.approx(by_hand, rel=1e-5)


def test_relativistic_losses_by_hand() -> None:
    real, fake = torch.tensor([[2.0], [0.0]]), torch.tensor([[-1.0], [1.0]])

    def log_sigmoid(x: float) -> float:
        return -math.log(1 + math.exp(-x))

    # means: real 1, fake 0
    of_d = -(log_sigmoid(2.0) + log_sigmoid(0.0)) / 2 - (log_sigmoid(2.0) + log_sigmoid(0.0)) / 2
    # generator: fake above mean(real) = 1: -2, 0; real below mean(fake) = 0: -(2), -(0)
    of_g = -(log_sigmoid(-2.0) + log_sigmoid(0.0)) / 2 - (log_sigmoid(-2.0) + log_sigmoid(0.0)) / 2
    assert losses.relativistic(real, fake).item() == pytest.approx(of_d, rel=1e-5)
    assert losses.relativistic(fake, real).item() == pytest.approx(of_g, rel=1e-5)


def test_a_discriminator_that_cannot_tell_costs_two_log_2() -> None:
    same = torch.full((4, 1), 0.7)
    assert losses.relativistic(same, same).item() == pytest.approx(2 * math.log(2))


def test_laplacian_of_a_point_and_of_a_ramp() -> None:
    point = torch.zeros(1, 1, 5, 5)
    point[..., 2, 2] = 1
    wanted = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])
    torch.testing.assert_close(losses.laplacian(point)[0, 0], wanted)
    ramp = torch.arange(5.0).expand(1, 1, 5, 5)
    assert losses.laplacian(ramp).abs().max() == 0
    assert losses.laplacian(point).abs().mean().item() == pytest.approx(8 / 9)


def test_artefact_map_forgives_what_the_average_does_worse() -> None:
    hr = torch.zeros(1, 3, 16, 16)
    sr, steady = hr.clone(), hr.clone()
    sr[..., 4, 4] = 0.5  # the network errs here, the average does not
    sr[..., 12, 12] = 0.25
    steady[..., 12, 12] = 0.5  # here the average errs more
    found = losses.artefact_map(sr, steady, hr)
    assert found.shape == (1, 1, 16, 16)
    assert found[0, 0, 4, 4] > 0
    assert found[0, 0, 12, 12] == 0
    # local variance of a single 1.5 among 49 values, times the global variance to 1/5
    local = 1.5**2 / 49 - (1.5 / 49) ** 2
    residual = (hr - sr).abs().sum(1)
    wanted = local * residual.var().item() ** 0.2
    assert found[0, 0, 4, 4].item() == pytest.approx(wanted, rel=1e-4)


def test_feature_matching_counts_every_layer_alike() -> None:
    real = [torch.full((1, 2, 4, 4), 10.0), torch.full((1, 2, 2, 2), 0.1)]
    fake = [torch.full((1, 2, 4, 4), 11.0), torch.full((1, 2, 2, 2), 0.12)]
    assert losses.feature_matching(fake, real).item() == pytest.approx((0.1 + 0.2) / 2, rel=1e-5)


def test_named_losses_are_the_plain_ones() -> None:
    sr, hr = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    assert LOSSES["l1"](sr, hr) == F.l1_loss(sr, hr)
    assert LOSSES["mse"](sr, hr).item() == pytest.approx(((sr - hr) ** 2).mean().item())
