"""ESRGAN's second stage: generator and relativistic discriminator in turn (1809.00219).

L_G = L_percep + lambda L_Ra + eta L_1, where L_percep is the feature distance of a pretrained VGG
(the paper) or, where none is at hand, feature matching on the discriminator itself; plus three
terms that keep the result honest: Laplacian detail, an artefact map, and consistency with the
input.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale.errors import UsageError
from upscale.models import Network
from upscale.resample import consistent, resize
from upscale.training import losses
from upscale.training.data import Batch
from upscale.training.discriminator import Discriminator, PatchDiscriminator, VGGDiscriminator
from upscale.training.objective import (
    Objective,
    autocast,
    make_optimiser,
    pixel_loss,
    set_rate,
    targets,
)
from upscale.training.perceptual import feature_distance, load_perceptual
from upscale.training.recipes import Recipe


class AdversarialObjective(Objective):
    """Generator and discriminator, one step each per batch."""

    def __init__(
        self,
        recipe: Recipe,
        network: Network,
        ema: Network,
        device: torch.device,
        perceptual_weights: Path | None = None,
    ) -> None:
        if recipe.adversarial is None:
            raise UsageError(f"recipe {recipe.name!r} has no adversarial stage")
        super().__init__(recipe, device)
        self.settings, self.network, self.ema = recipe.adversarial, network, ema
        name, features = self.settings.perceptual, self.settings.discriminator_features
        self.perceptual: nn.Module | None = None
        if name != "discriminator":
            self.perceptual = load_perceptual(name, perceptual_weights, device)
        self.discriminator: Discriminator = (
            PatchDiscriminator(features)
            if self.settings.discriminator == "patch"
            else VGGDiscriminator(recipe.patch * recipe.scale, features)
        ).to(device)
        self.optimiser = make_optimiser(network.parameters(), recipe)
        self.optimiser_d = make_optimiser(
            self.discriminator.parameters(), recipe, self.settings.discriminator_rate
        )
        self.parts = {
            "discriminator": self.discriminator,
            "optimiser": self.optimiser,
            "optimiser_d": self.optimiser_d,
        }

    def step(self, batch: Batch, rate: float) -> dict[str, float]:
        """One step of the generator (once the discriminator is warm), one of the other."""
        lr = batch.lr.to(self.device)
        aims = [(share, aim.to(self.device)) for share, aim in targets(self.recipe, batch)]
        hr = aims[0][1]  # the real one: the teacher's where the recipe has one
        clean = lr
        compared = self.settings.projected or self.settings.consistency_weight
        if compared and self.recipe.degradation != "bicubic":
            clean = resize(hr, (lr.shape[-2], lr.shape[-1]))
        set_rate(self.optimiser, rate, self.recipe.learning_rate)
        set_rate(self.optimiser_d, rate, self.settings.discriminator_rate)
        warm = self.steps >= self.settings.discriminator_warmup
        with autocast(self.recipe, self.device):
            sr = self.network(lr)
        parts: dict[str, Tensor] = {}
        if warm:
            parts = self._generator_losses(lr, sr.float(), aims, clean)
            total = torch.stack(list(parts.values())).sum()
            self.update(total, self.optimiser, self.network.parameters())
        seen = self._seen(sr.detach().float(), clean)
        with autocast(self.recipe, self.device):
            real, fake = self.discriminator(hr), self.discriminator(seen)
        loss_d = losses.relativistic(real.float(), fake.float())
        if float(loss_d.detach()) >= self.settings.discriminator_floor:
            self.update(loss_d, self.optimiser_d, self.discriminator.parameters())
        self.steps += 1
        return {k: float(v.detach()) for k, v in (parts | {"discriminator": loss_d}).items()}

    def _generator_losses(
        self, lr: Tensor, sr: Tensor, aims: list[tuple[float, Tensor]], clean: Tensor
    ) -> dict[str, Tensor]:
        """The terms of L_G, each with its weight; those with weight 0 are left out.

        Consistency is with the undamaged input ``clean``: with ``lr`` it would ask for the noise
        and the blocks back.
        """
        s, hr = self.settings, aims[0][1]
        # What the discriminator makes of both; its own weights get no gradient from here.
        self.discriminator.requires_grad_(False)
        with autocast(self.recipe, self.device):
            fake = self.discriminator.features(self._seen(sr, clean))
            fake_logits = self.discriminator.judge(fake[-1]).float()
            with torch.no_grad():
                real = self.discriminator.features(hr)
                real_logits = self.discriminator.judge(real[-1]).float()
        self.discriminator.requires_grad_(True)
        parts = {
            "relativistic": s.relativistic_weight * losses.relativistic(fake_logits, real_logits),
            "pixel": s.pixel_weight * pixel_loss(self.recipe, sr, aims),
        }
        # Features of a network trained on other pictures, or of the discriminator itself.
        if s.perceptual_weight:
            if self.perceptual is None:
                distance = losses.feature_matching(
                    [f.float() for f in fake], [r.float() for r in real]
                )
            else:
                with autocast(self.recipe, self.device):
                    distance = feature_distance(self.perceptual, sr, hr).float()
            parts["perceptual"] = s.perceptual_weight * distance
        if s.detail_weight:
            detail = F.l1_loss(losses.laplacian(sr), losses.laplacian(hr))
            parts["detail"] = s.detail_weight * detail
        # Where the moving average does better, what the network draws is an artefact.
        if s.artefact_weight:
            with torch.no_grad(), autocast(self.recipe, self.device):
                steady = self.ema(lr).float()
            artefacts = losses.artefact_map(sr, steady, hr) * (sr - hr).abs()
            parts["artefact"] = s.artefact_weight * artefacts.mean()
        if s.consistency_weight:
            shrunk = resize(sr, (clean.shape[-2], clean.shape[-1]))
            inner = (..., slice(2, -2), slice(2, -2))  # the border's kernel reads beyond the patch
            parts["consistency"] = s.consistency_weight * F.l1_loss(shrunk[inner], clean[inner])
        return parts

    def _seen(self, sr: Tensor, clean: Tensor) -> Tensor:
        """What the discriminator sees of a result."""
        return consistent(sr, clean) if self.settings.projected else sr
