"""What one optimiser step does, and losses on pixels, (N, C, H, W) in [0, 1].

The steps of a GAN and of the VAE, with losses of their own, are in ``adversarial`` and
``variational``.
"""

from __future__ import annotations

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
