"""ESRGAN's second stage: discriminator, perceptual networks, the two players' steps."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.training.tiny import TINY
from upscale import perceptual
from upscale.errors import CheckpointError, UsageError
from upscale.resample import consistent
from upscale.training.adversarial import (
    AdversarialObjective,
    PatchDiscriminator,
    VGGDiscriminator,
    VGGFeatures,
    feature_distance,
    load_perceptual,
)
from upscale.training.data import Batch
from upscale.training.recipes import RECIPES, Recipe
from upscale.training.trainer import build_network


def test_vgg_128_has_the_published_layers() -> None:
    network = VGGDiscriminator()
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [
        64,
        64,
        128,
        128,
        256,
        256,
        512,
        512,
        512,
        512,
    ]
    assert [m.stride[0] for m in convolutions] == [1, 2] * 5
    assert sum(isinstance(m, nn.BatchNorm2d) for m in network.modules()) == 9
    assert network.linear1.in_features == 512 * 4 * 4
    # 13,674,240 in convolutions, 5,760 in BatchNorm, 819,401 in the linear layers; the 2,880 biases
    # in front of a BatchNorm, which it cancels, are left out
    assert sum(p.numel() for p in network.parameters()) == 13_674_240 + 5_760 + 819_401
    assert network(torch.rand(2, 3, 128, 128)).shape == (2, 1)


def test_patches_are_judged_with_spectral_norm() -> None:
    torch.manual_seed(0)
    network = PatchDiscriminator(features=4)
    for _ in range(50):  # power iterations
        answer = network(torch.rand(2, 3, 32, 48))
    assert answer.shape == (2, 1, 8, 12)
    norms = [torch.linalg.matrix_norm(s.weight.flatten(1), 2).item() for s in network.stages]
    assert norms == pytest.approx([1] * 4, abs=0.02)


def test_a_recipe_whose_features_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptual, "is_installed", lambda: False)
    perceptual.load_features.cache_clear()
    with pytest.raises(UsageError, match="EfficientNet-Lite0 is not installed: pip install"):
        objective(TINY["gan"], perceptual="lite0")


def test_discriminator_of_another_size_says_so() -> None:
    with pytest.raises(ValueError, match="64x64 for a discriminator of 128"):
        VGGDiscriminator(features=4)(torch.rand(1, 3, 64, 64))
    with pytest.raises(ValueError, match="100 is not a multiple of 32"):
        VGGDiscriminator(side=100)


@pytest.mark.parametrize(("kind", "convolutions"), [("vgg19", 16), ("minc", 13)])
def test_perceptual_networks_end_before_the_last_activation(kind: str, convolutions: int) -> None:
    network = VGGFeatures(kind)
    found = [m for m in network.features if isinstance(m, nn.Conv2d)]
    assert len(found) == convolutions
    assert network.features[-1] is found[-1]
    with torch.no_grad():
        (out,) = network(torch.rand(1, 3, 32, 48))
    assert out.shape == (1, 512, 2, 3)
    assert out.min() < 0  # not rectified


def test_perceptual_weights_are_the_users(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = VGGFeatures("minc")
    state = network.state_dict()
    # torchvision files hold the classifier too, and are taken as they come
    save_file(state | {"classifier.0.weight": torch.zeros(2, 2)}, tmp_path / "minc.safetensors")
    loaded = load_perceptual("minc", tmp_path / "minc.safetensors")
    hr = torch.rand(1, 3, 32, 32)
    sr = (hr * 0.9).requires_grad_()
    distance = feature_distance(loaded, sr, hr)
    by_hand = (network(sr)[0] - network(hr)[0]).abs().mean()
    assert distance.item() == pytest.approx(by_hand.item(), rel=1e-5)
    distance.backward()
    assert sr.grad is not None
    assert all(p.grad is None for p in loaded.parameters())


def test_perceptual_weights_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        load_perceptual("vgg19", tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_perceptual("vgg19", tmp_path / "text.safetensors")
    save_file({"conv.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"features\.0\.weight of vgg19"):
        load_perceptual("vgg19", tmp_path / "other.safetensors")


def objective(settings: Recipe, **changes: object) -> AdversarialObjective:
    assert settings.adversarial is not None
    settings = replace(settings, adversarial=replace(settings.adversarial, **changes))
    network = build_network(settings)
    return AdversarialObjective(settings, network, copy.deepcopy(network), torch.device("cpu"))


def batch() -> Batch:
    torch.manual_seed(1)
    return Batch(torch.rand(2, 3, 32, 32), torch.rand(2, 3, 64, 64))


def snapshot(module: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def moved(module: nn.Module, before: list[torch.Tensor]) -> bool:
    return any(not torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def test_both_players_learn_and_the_discriminator_warms_up_alone() -> None:
    game = objective(TINY["gan"], discriminator_warmup=1)
    generator, discriminator = snapshot(game.network), snapshot(game.discriminator)
    first = game.step(batch(), 1.0)
    assert set(first) == {"discriminator"}
    assert not moved(game.network, generator)
    assert moved(game.discriminator, discriminator)
    second = game.step(batch(), 1.0)
    print(second)
    assert moved(game.network, generator)
    terms = {"relativistic", "pixel", "perceptual", "detail", "artefact", "consistency"}
    assert set(second) == terms | {"discriminator"}
    assert all(p.requires_grad for p in game.discriminator.parameters())


def test_terms_of_weight_0_are_left_out() -> None:
    game = objective(
        TINY["gan"],
        discriminator_warmup=0,
        perceptual_weight=0.0,
        detail_weight=0.0,
        artefact_weight=0.0,
        consistency_weight=0.0,
    )
    assert set(game.step(batch(), 1.0)) == {"relativistic", "pixel", "discriminator"}


def test_the_discriminator_rests_below_its_floor() -> None:
    game = objective(TINY["gan"], discriminator_floor=100.0)
    before = snapshot(game.discriminator)
    game.step(batch(), 1.0)
    assert not moved(game.discriminator, before)


def test_projection_gives_the_inputs_colours_and_passes_no_coarse_gradient() -> None:
    lr = torch.full((1, 3, 16, 16), 0.4)
    sr = torch.full((1, 3, 64, 64), 0.6, requires_grad=True)  # a colour cast
    seen = consistent(sr, lr)
    torch.testing.assert_close(seen, torch.full_like(seen, 0.4))
    seen.mean().backward()  # "make it brighter"
    assert sr.grad is not None
    assert sr.grad.abs().mean() < 0.05 / sr.numel()
    fine = sr.detach() + 0.1 * torch.randn(1, 3, 64, 64)
    kept = consistent(fine, lr) - 0.4
    assert kept.std() > 0.09  # detail passes


def test_a_perceptual_recipe_asks_for_its_weights() -> None:
    with pytest.raises(UsageError, match="--perceptual-weights"):
        objective(TINY["gan"], perceptual="vgg19")


def test_a_recipe_without_the_stage() -> None:
    settings = TINY["esrgan"]
    network = build_network(settings)
    with pytest.raises(UsageError, match="no adversarial stage"):
        AdversarialObjective(settings, network, network, torch.device("cpu"))


def test_the_papers_settings_are_there() -> None:
    stage = RECIPES["esrgan-gan-x4"].adversarial
    assert stage is not None
    assert (stage.perceptual_weight, stage.relativistic_weight, stage.pixel_weight) == (
        1,
        5e-3,
        1e-2,
    )
    assert RECIPES["esrgan-gan-x4"].learning_rate == stage.discriminator_rate == 1e-4
    assert RECIPES["esrgan-psnr-x4"].learning_rate == 2e-4
    assert RECIPES["esrgan-psnr-x4"].schedule == "halve"
