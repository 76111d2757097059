"""Training of the VAE: what moves, what is logged, which bound, collapse seen, exact resume."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.training.tiny import TINY, recipe
from upscale.errors import CheckpointError, UsageError
from upscale.models import VAE
from upscale.training.data import Batch, load_pictures, make_batch
from upscale.training.recipes import RECIPES, Recipe, Variational
from upscale.training.trainer import RunSettings, build_network, mean_of_draws, train
from upscale.training.variational import Bound, VariationalObjective, latent_use

CPU = torch.device("cpu")
VAE_TINY = TINY["vae"]


def settings(**changes: object) -> Recipe:
    assert VAE_TINY.variational is not None
    return replace(VAE_TINY, variational=replace(VAE_TINY.variational, **changes))  # type: ignore[arg-type]


def batch_of(pictures: Path, step: int = 0) -> Batch:
    pieces = load_pictures(pictures, 40)
    return make_batch(pieces, scale=2, patch=16, batch=2, degradation="bicubic", seed=0, step=step)


def objective(of: Recipe) -> tuple[VariationalObjective, VAE]:
    network = build_network(of)
    assert isinstance(network, VAE)
    return VariationalObjective(of, network, CPU), network


def test_a_step_moves_generator_and_posterior_and_keeps_the_base(pictures: Path) -> None:
    made, network = objective(settings(base_rate=0.0))
    before = {k: v.clone() for k, v in network.state_dict().items()}
    posterior = {k: v.clone() for k, v in made.posterior.state_dict().items()}
    for step in range(3):
        made.step(batch_of(pictures, step), 1.0)
    still = {k for k, v in network.state_dict().items() if torch.equal(v, before[k])}
    assert still == {k for k in before if k.startswith("base.")}
    assert not any(torch.equal(v, posterior[k]) for k, v in made.posterior.state_dict().items())


def test_the_base_learns_at_its_own_rate(pictures: Path) -> None:
    moved = []
    for base_rate in (1.0, 0.1):
        made, network = objective(settings(base_rate=base_rate))
        before = network.base.conv_last.weight.detach().clone()
        made.step(batch_of(pictures), 1.0)
        moved.append((network.base.conv_last.weight - before).abs().mean().item())
    assert moved[1] == pytest.approx(moved[0] / 10, rel=0.01)  # Adam's first step is the rate


@pytest.mark.parametrize("latent", ["posterior", "prior"])
def test_what_is_logged(latent: str, pictures: Path) -> None:
    made, _ = objective(settings(latent=latent))
    logged = made.step(batch_of(pictures), 1.0)
    each = [logged[f"kl_{k}"] for k in range(2)]
    assert logged["kl"] == pytest.approx(sum(each), rel=1e-5, abs=1e-9)
    assert set(logged) == {
        "reconstruction", "spread", "rmse", "kl", "posterior_std", "active", "kl_0", "kl_1",
    }  # fmt: skip
    if latent == "prior":
        assert logged["kl"] == 0
        assert logged["posterior_std"] == 1


def test_all_bounds_with_one_sample_agree_in_the_mean(pictures: Path) -> None:
    """One batch, many draws: closed form and one-sample form have one expectation."""
    found = {}
    for bound in ("elbo", "sample"):
        made, network = objective(settings(bound=bound))
        batch = batch_of(pictures)
        with torch.no_grad():
            condition = network.condition(batch.lr)
            mean, log_std = made.posterior(batch.hr, condition)
            log_std = log_std - 1.0
            torch.manual_seed(3)
            bounds = [
                made._bound(batch.hr, batch.lr, condition, mean, log_std)[0] for _ in range(100)
            ]
        found[bound] = torch.stack(bounds)
    gap = (found["elbo"].mean(0) - found["sample"].mean(0)).abs()
    error = 5 * found["sample"].std(0) / 100**0.5
    print(gap, error)
    assert bool((gap < error).all())
    assert bool((found["elbo"].std(0) < found["sample"].std(0)).all())  # why it is the default


def test_the_importance_weighted_bound_does_not_fall_with_more_samples(pictures: Path) -> None:
    bounds = {}
    for k in (1, 5, 50):
        made, network = objective(settings(bound="importance", samples=k))
        batch = batch_of(pictures)
        with torch.no_grad():
            condition = network.condition(batch.lr)
            mean, log_std = made.posterior(batch.hr, condition)
            torch.manual_seed(0)
            draws = [
                made._bound(batch.hr, batch.lr, condition, mean, log_std)[0]
                for _ in range(100 // k)
            ]
        bounds[k] = torch.stack(draws).mean().item()
    print(bounds)
    assert bounds[1] <= bounds[5] <= bounds[50]


def test_collapse_is_seen() -> None:
    mean, log_std = torch.randn(4, 3, 8, 8), torch.full((4, 3, 8, 8), -1.0)
    mean[:, 1], log_std[:, 1] = 0, 0  # the prior itself
    found = latent_use(mean, log_std)
    assert found["kl_1"] == 0
    assert found["kl_0"] > 0.5
    assert found["active"] == 2
    torch.testing.assert_close(found["kl"], found["kl_0"] + found["kl_2"])


def test_the_weight_of_the_kl_warms_up() -> None:
    made, _ = objective(settings(kl_warmup=0.5))
    assert made.recipe.steps == 6
    weights = []
    for made.steps in range(5):
        weights.append(made.kl_weight())
    assert weights == pytest.approx([0, 1 / 3, 2 / 3, 1, 1])
    assert objective(settings(kl_warmup=0.0))[0].kl_weight() == 1


def test_training_uses_z_and_lowers_the_loss(pictures: Path, tmp_path: Path) -> None:
    seen: list[dict[str, float]] = []
    longer = replace(VAE_TINY, steps=40, ema=0.9)
    outcome = train(longer, RunSettings(pictures, tmp_path), lambda p: seen.append(p.losses))
    first, last = seen[0], seen[-1]
    print(first, last, sep="\n")
    assert last["spread"] < first["spread"]
    assert last["reconstruction"] < first["reconstruction"]
    network, lr = outcome.network, batch_of(pictures).lr
    draws = [network(torch.cat((lr, torch.randn(2, 2, 16, 16)), 1)) for _ in range(2)]
    assert not torch.equal(*draws)


def test_a_network_within_another_takes_its_weights() -> None:
    base = build_network(recipe())
    started = build_network(VAE_TINY, dict(base.state_dict()))
    assert isinstance(started, VAE)
    assert torch.equal(started.base.conv_first.weight, base.state_dict()["conv_first.weight"])


def test_what_is_watched_is_the_mean_of_draws() -> None:
    network, lr = build_network(VAE_TINY).eval(), torch.rand(1, 3, 9, 9)
    torch.nn.init.normal_(network.get_submodule("conv_detail").weight)  # type: ignore[arg-type]
    with torch.no_grad():
        many = [network(torch.cat((lr, torch.randn(1, 2, 9, 9)), 1)) for _ in range(100)]
        spread = torch.stack(many).std(0).mean()
        gap = (mean_of_draws(network, lr) - torch.stack(many).mean(0)).abs().mean()
    assert gap < spread / 8**0.5  # the mean absolute deviation of a mean of eight is below this
    plain = build_network(recipe())
    assert torch.equal(mean_of_draws(plain, lr), plain(lr))


def test_a_recipe_without_bound_is_refused() -> None:
    with pytest.raises(UsageError, match="'tiny' trains no VAE"):
        VariationalObjective(replace(VAE_TINY, variational=None), build_network(VAE_TINY), CPU)


def test_released_recipes_keep_the_base_they_start_from() -> None:
    light = RECIPES["vae-light-x4"]
    assert light.variational == Variational(base_rate=0.0)
    assert light.start_from == "esrgan-light-psnr-x4"
    network = build_network(light)
    assert sum(p.numel() for p in network.parameters()) < 1_000_000


def test_the_bound_of_a_run(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RECIPES, "tiny", VAE_TINY)
    outcome = train(replace(VAE_TINY, steps=3), RunSettings(pictures, tmp_path))
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    batch = batch_of(pictures)
    lr, hr = batch.lr[:1] * 255, batch.hr[:1] * 255
    bits = Bound(tmp_path / "checkpoint.pt", samples=4)(lr, hr)
    assert Bound(tmp_path / "checkpoint.pt", samples=4)(lr, hr) == bits
    # by hand: the density of the best possible picture, and 8 bits for 256 values
    sigma = outcome.network.get_parameter("log_sigma").exp().item()
    least = 8 + math.log2(sigma * math.sqrt(2 * math.pi))
    print(bits, least)
    assert least < bits < least + 8
    made = VariationalObjective(settings(bound="sample"), outcome.network, CPU)
    made.posterior.load_state_dict(state["objective"]["posterior"])
    with torch.no_grad():
        condition = outcome.network.condition(batch.lr[:1])  # type: ignore[operator]
        mean, log_std = made.posterior(batch.hr[:1], condition)
        bound, _ = made._bound(batch.hr[:1], batch.lr[:1], condition, mean, log_std)
    assert bits == pytest.approx(8 - bound.item() / hr.numel() / math.log(2), abs=0.05)


def test_a_bound_of_something_else_is_refused(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="FileNotFoundError"):
        Bound(tmp_path / "none.pt")
    (tmp_path / "bad.pt").write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match="is no checkpoint of a run"):
        Bound(tmp_path / "bad.pt")
