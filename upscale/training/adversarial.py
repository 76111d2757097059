"""ESRGAN's second stage: generator and relativistic discriminator in turn (1809.00219).

L_G = L_percep + lambda L_Ra + eta L_1, where L_percep is the feature distance of a pretrained VGG
(the paper) or, where none is at hand, feature matching on the discriminator itself; plus three
terms that keep the result honest: Laplacian detail, an artefact map, and consistency with the
input.

Feature networks: ``vgg19`` and ``minc`` are VGG19-54 and MINC-VGG16-53 before activation (section
3.3): ``54`` means the fourth convolution of the fifth block, before its ReLU, where features are
denser and keep brightness. The weights are the user's own, under torchvision's names. ``lite0``:
stem and blocks 2 and 4 of EfficientNet-Lite0 (:mod:`upscale.perceptual`).

Discriminators: :class:`VGGDiscriminator`, one answer a picture, is that of SRGAN (Ledig 2017, arXiv
1609.04802, fig. 4) as ESRGAN uses it on patches of 128 pixels: ten convolutions, 3x3 with stride 1
and 4x4 with stride 2 in turn, then two linear layers. :class:`PatchDiscriminator` answers for every
fourth pixel (Isola 2017, arXiv 1611.07004); its weights are kept at norm 1 (Miyato 2018, arXiv
1802.05957).
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import safetensors
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from upscale import perceptual
from upscale.errors import CheckpointError, UsageError
from upscale.models import Network
from upscale.resample import consistent, resize
from upscale.training.data import Batch
from upscale.training.objective import Objective, pixel_loss, targets
from upscale.training.recipes import Recipe

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
BLOCKS = {"vgg19": (2, 2, 4, 4, 4), "minc": (2, 2, 3, 3, 3)}
WIDTHS = (64, 128, 256, 512, 512)
SLOPE = 0.2  # of a discriminator's LeakyReLUs
STAGES = 5  # its halvings
HIDDEN = 100  # of its first linear layer
CPU = torch.device("cpu")
LITE0_STAGES = (perceptual.STEM, 2, 4)


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
        super().__init__(recipe, network, device)
        self.settings, self.ema = recipe.adversarial, ema
        name, features = self.settings.perceptual, self.settings.discriminator_features
        self.perceptual: nn.Module | None = None
        if name != "discriminator":
            self.perceptual = load_perceptual(name, perceptual_weights, device)
        self.discriminator: Discriminator = (
            PatchDiscriminator(features)
            if self.settings.discriminator == "patch"
            else VGGDiscriminator(recipe.patch * recipe.scale, features)
        ).to(device)
        self.optimiser = self.make_optimiser(network.parameters())
        self.optimiser_d = self.make_optimiser(self.discriminator.parameters())
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
        warm = self.steps >= self.settings.discriminator_warmup
        with self.autocast():
            sr = self.network(lr)
        parts: dict[str, Tensor] = {}
        if warm:
            parts = self._generator_losses(lr, sr.float(), aims, clean)
            total = torch.stack(list(parts.values())).sum()
            self.update(total, self.optimiser, rate * self.recipe.learning_rate)
        seen = self._seen(sr.detach().float(), clean)
        with self.autocast():
            real, fake = self.discriminator(hr), self.discriminator(seen)
        loss_d = relativistic(real.float(), fake.float())
        if float(loss_d.detach()) >= self.settings.discriminator_floor:
            self.update(loss_d, self.optimiser_d, rate * self.settings.discriminator_rate)
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
        with self.autocast():
            fake = self.discriminator.features(self._seen(sr, clean))
            fake_logits = self.discriminator.judge(fake[-1]).float()
            with torch.no_grad():
                real = self.discriminator.features(hr)
                real_logits = self.discriminator.judge(real[-1]).float()
        self.discriminator.requires_grad_(True)
        parts = {
            "relativistic": s.relativistic_weight * relativistic(fake_logits, real_logits),
            "pixel": s.pixel_weight * pixel_loss(self.recipe, sr, aims),
        }
        # Features of a network trained on other pictures, or of the discriminator itself.
        if s.perceptual_weight:
            if self.perceptual is None:
                distance = feature_matching([f.float() for f in fake], [r.float() for r in real])
            else:
                with self.autocast():
                    distance = feature_distance(self.perceptual, sr, hr).float()
            parts["perceptual"] = s.perceptual_weight * distance
        if s.detail_weight:
            detail = F.l1_loss(laplacian(sr), laplacian(hr))
            parts["detail"] = s.detail_weight * detail
        # Where the moving average does better, what the network draws is an artefact.
        if s.artefact_weight:
            with torch.no_grad(), self.autocast():
                steady = self.ema(lr).float()
            artefacts = artefact_map(sr, steady, hr) * (sr - hr).abs()
            parts["artefact"] = s.artefact_weight * artefacts.mean()
        if s.consistency_weight:
            shrunk = resize(sr, (clean.shape[-2], clean.shape[-1]))
            inner = (..., slice(2, -2), slice(2, -2))  # the border's kernel reads beyond the patch
            parts["consistency"] = s.consistency_weight * F.l1_loss(shrunk[inner], clean[inner])
        return parts

    def _seen(self, sr: Tensor, clean: Tensor) -> Tensor:
        """What the discriminator sees of a result."""
        return consistent(sr, clean) if self.settings.projected else sr


# --- losses ---------------------------------------------------------------------------------------


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


# --- discriminators -------------------------------------------------------------------------------


class Discriminator(nn.Module):
    """Pictures (N, 3, H, W) in [0, 1] to logits; larger is more real."""

    def features(self, x: Tensor) -> list[Tensor]:
        """What each stage makes of pictures."""
        raise NotImplementedError

    def judge(self, last: Tensor) -> Tensor:
        """Logits from the last of :meth:`features`."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Pictures to logits."""
        return self.judge(self.features(x)[-1])


class VGGDiscriminator(Discriminator):
    """Realness of a picture of ``side`` pixels, a multiple of 32 (the paper: 128): logits (N, 1).

    The first layer has ``features`` channels (the paper: 64); they grow to eight times that.
    """

    def __init__(self, side: int = 128, features: int = 64) -> None:
        super().__init__()
        if side % 2**STAGES:
            raise ValueError(f"side {side} is not a multiple of {2**STAGES}")
        self.side = side
        widths = [features * m for m in (1, 2, 4, 8, 8)]
        self.stages = nn.ModuleList(
            _stage(before, width, first=k == 0)
            for k, (before, width) in enumerate(pairwise([3, *widths]))
        )
        self.linear1 = nn.Linear(widths[-1] * (side // 2**STAGES) ** 2, HIDDEN)
        self.linear2 = nn.Linear(HIDDEN, 1)

    def features(self, x: Tensor) -> list[Tensor]:
        """Features after each halving, (N, c_k, H / 2**k, W / 2**k), k = 1 … 5."""
        height, width = x.shape[-2:]
        if (height, width) != (self.side, self.side):
            raise ValueError(f"pictures of {height}x{width} for a discriminator of {self.side}")
        out = []
        for stage in self.stages:
            x = stage(x)
            out.append(x)
        return out

    def judge(self, last: Tensor) -> Tensor:
        """Logits (N, 1)."""
        hidden = F.leaky_relu(self.linear1(last.flatten(1)), SLOPE)
        out: Tensor = self.linear2(hidden)
        return out


def _stage(before: int, width: int, *, first: bool) -> nn.Sequential:
    """A 3x3 convolution and a 4x4 one with stride 2; no BatchNorm right behind the picture."""
    return nn.Sequential(
        nn.Conv2d(before, width, 3, padding=1, bias=first),
        *([] if first else [nn.BatchNorm2d(width)]),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(width, width, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.LeakyReLU(SLOPE),
    )


class PatchDiscriminator(Discriminator):
    """Realness around every fourth pixel: logits (N, 1, H / 4, W / 4).

    The first layer has ``features`` channels; they grow to four times that.
    """

    def __init__(self, features: int = 32) -> None:
        super().__init__()
        shapes = ((1, 2, 4, 2), (2, 4, 4, 2), (4, 4, 3, 1), (4, 4, 3, 1))  # in, out, kernel, stride
        self.first = nn.Conv2d(3, features, 3, padding=1)
        self.stages = nn.ModuleList(
            spectral_norm(nn.Conv2d(a * features, b * features, kernel, stride, padding=1))
            for a, b, kernel, stride in shapes
        )
        self.last = nn.Conv2d(4 * features, 1, 3, padding=1)

    def features(self, x: Tensor) -> list[Tensor]:
        """Features after each convolution but the last."""
        out = [F.leaky_relu(self.first(x * 2 - 1), SLOPE)]
        for stage in self.stages:
            out.append(F.leaky_relu(stage(out[-1]), SLOPE))
        return out

    def judge(self, last: Tensor) -> Tensor:
        """Logits (N, 1, H / 4, W / 4)."""
        out: Tensor = self.last(last)
        return out


# --- feature networks -----------------------------------------------------------------------------


class VGGFeatures(nn.Module):
    """The convolutions of VGG19 up to conv5_4, or of VGG16 up to conv5_3, without the last ReLU.

    Simonyan & Zisserman, arXiv 1409.1556; MINC: Bell et al., arXiv 1412.0623.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str = "vgg19") -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for convolutions, width in zip(BLOCKS[name], WIDTHS, strict=True):
            for _ in range(convolutions):
                layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
                before = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers[:-2])  # neither the last ReLU nor the last pooling
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """RGB (N, 3, H, W) in [0, 1] to one tensor, (N, 512, H / 16, W / 16)."""
        return [self.features((x - self.mean) / self.std)]


def load_perceptual(name: str, path: Path | None = None, device: torch.device = CPU) -> nn.Module:
    """A frozen feature network: pictures (N, 3, H, W) in [0, 1] to a list of features.

    It is "lite0", or "vgg19" or "minc" with the user's weights in the safetensors file ``path``.
    """
    if name == "lite0":
        return perceptual.load_features(str(device), LITE0_STAGES, unit=False)
    if path is None:
        raise UsageError(
            f"this recipe compares features of {name}; name its weights with "
            "--perceptual-weights FILE.safetensors"
        )
    if not path.exists():
        raise CheckpointError(f"{path}: no such file; it should hold the weights of {name}")
    try:
        weights = load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read as safetensors ({error})") from error
    network = VGGFeatures(name)
    own = network.state_dict()
    for key, value in own.items():
        if key not in weights or weights[key].shape != value.shape:
            raise CheckpointError(
                f"{path}: {key} of {name}, shape {tuple(value.shape)}, is not in the file; "
                "use torchvision's key names"
            )
    network.load_state_dict({k: weights[k] for k in own})
    return network.requires_grad_(False).eval().to(device)


def feature_distance(network: nn.Module, sr: Tensor, hr: Tensor) -> Tensor:
    """L1 between features of pictures (N, 3, H, W) in [0, 1], summed over the network's stages.

    Gradients reach ``sr`` alone.
    """
    with torch.no_grad():
        truth = network(hr)
    parts = [F.l1_loss(a, b) for a, b in zip(network(sr), truth, strict=True)]
    return torch.stack(parts).sum()
