"""What one optimiser step does; the GAN's two players are in ``adversarial.py``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from upscale.color import luma_in, rgb_to_ycbcr
from upscale.device import computes_in
from upscale.errors import DataError
from upscale.models import SRCNN, Network
from upscale.resample import resize
from upscale.training.data import Batch
from upscale.training.losses import LOSSES, gradients
from upscale.training.recipes import Recipe

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Objective:
    """A training objective; has the optimisers and any network beside the one that is trained."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        # What a checkpoint holds of it beside the number of steps done, by name.
        self.parts: dict[str, nn.Module | torch.optim.Optimizer] = {}
        self.steps = 0

    def step(self, batch: Batch, rate: float) -> dict[str, float]:
        """Do one optimiser step at a learning rate of ``rate`` times the recipe's; named losses."""
        raise NotImplementedError

    def update(
        self, loss: Tensor, optimiser: torch.optim.Optimizer, parameters: Iterable[Tensor]
    ) -> None:
        """One step of an optimiser down the loss, the gradient's norm clipped."""
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


def autocast(recipe: Recipe, device: torch.device) -> torch.autocast:
    """The recipe's autocast on ``device``."""
    precision = recipe.precision
    if precision == "auto":
        precision = "bf16" if computes_in(torch.bfloat16, device) else "fp32"
    dtype = AUTOCAST.get(precision)
    return torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None)


def make_optimiser(
    parameters: Any, recipe: Recipe, learning_rate: float | None = None
) -> torch.optim.Optimizer:
    """The recipe's optimiser over ``parameters``."""
    rate = recipe.learning_rate if learning_rate is None else learning_rate
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(parameters, rate, momentum=0.9)
    return torch.optim.Adam(parameters, rate, betas=recipe.betas)


def set_rate(optimiser: torch.optim.Optimizer, rate: float, base: float) -> None:
    """Set the learning rate to ``rate * base``, times each group's own ``factor``."""
    for group in optimiser.param_groups:
        group["lr"] = rate * base * group.get("factor", 1.0)


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
        super().__init__(recipe, device)
        self.network = network
        groups: list[dict[str, Any]] = [{"params": list(network.parameters()), "factor": 1.0}]
        if recipe.optimiser == "sgd" and isinstance(network, SRCNN):
            # The last layer learns ten times slower (section 4.1 of the paper).
            groups[0]["params"] = [*network.conv1.parameters(), *network.conv2.parameters()]
            groups += [{"params": list(network.conv3.parameters()), "factor": 0.1}]
        self.optimiser = make_optimiser(groups, recipe)
        self.parts = {"optimiser": self.optimiser}

    def step(self, batch: Batch, rate: float) -> dict[str, float]:
        """One step of the optimiser."""
        set_rate(self.optimiser, rate, self.recipe.learning_rate)
        lr = for_network(self.network, batch.lr.to(self.device))
        with autocast(self.recipe, self.device):
            sr = self._forward(lr).float()
        aims = []
        for share, picture in targets(self.recipe, batch):
            aim = for_network(self.network, picture.to(self.device))
            lost = (aim.shape[-1] - sr.shape[-1]) // 2  # at each border, without padding
            inner = slice(lost, aim.shape[-2] - lost), slice(lost, aim.shape[-1] - lost)
            aims.append((share, aim[(..., *inner)]))
        loss = pixel_loss(self.recipe, sr, aims)
        self.update(loss, self.optimiser, self.network.parameters())
        self.steps += 1
        return {"loss": float(loss.detach())}

    def _forward(self, lr: Tensor) -> Tensor:
        if self.recipe.valid and isinstance(self.network, SRCNN):
            size = lr.shape[-2] * self.network.scale, lr.shape[-1] * self.network.scale
            return self.network.refine(resize(lr, size), padded=False)
        if self.device.type == "cpu":
            lr = lr.contiguous(memory_format=torch.channels_last)
        return self.network(lr)
