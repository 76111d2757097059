"""One recipe per released checkpoint: all that decides its weights, in one frozen dataclass."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from upscale.errors import UsageError
from upscale.models import Config, ESRGANConfig, SRCNNConfig, SwinIRConfig, VAEConfig


@dataclass(frozen=True)
class Recipe:
    """How a checkpoint is trained.

    Attributes:
        name: Of the released weights.
        network: Configuration of the network.
        architecture: Key of ``MODELS``.
        steps: Optimiser steps of the whole run.
        patch: Side of an LR patch in pixels (for SwinIR a multiple of the window).
        batch: Patches per step.
        learning_rate: After warm-up.
        schedule: "cosine" falls to 2 % of the learning rate; "halve" halves it at ``milestones``;
            "constant" keeps it.
        milestones: Shares of ``steps`` at which "halve" halves.
        warmup: Steps of linear warm-up.
        loss: Key of ``LOSSES``.
        gradient_weight: Of the L1 between gradients, added to the loss.
        data: "pictures" are damaged on the fly; "patches" were made with a teacher's answers.
        truth: Share of the truth in what the result is compared with; the rest is the teacher's
            picture. 1 without a teacher. A GAN takes the teacher's as the real ones if below 1.
        degradation: Key of ``DEGRADATIONS``.
        optimiser: "adam", or "sgd" with momentum 0.9 (SRCNN's paper).
        betas: Of Adam.
        ema: Decay of the exponential moving average that is released; 0 releases the last weights.
        clip: Largest gradient norm; 0: none.
        seed: Of initial weights and data.
        initialise: "interpolation" starts from bicubic; "usual" from the network's own
            initialisation.
        start_from: Weights to start from instead: a released name whose body fits.
        precision: "bf16" or "fp16" autocast, or "fp32"; "auto" is bf16 where the device computes
            in it, else fp32 (a CPU that emulates bf16 takes five times as long).
        drawn: Pictures of letters, lines and patterns that are drawn and added to the data.
        valid: SRCNN's training without padding; the loss sees the valid middle.
        adversarial: Settings of the second stage of a GAN, or None.
        variational: Settings of the bound that a VAE is trained by, or None.
        mix: Share of the trained net in the released one, the rest being the net it started from
            (network interpolation, ESRGAN section 3.4); not part of the training. Below 1 it ends
            the walk over alpha where the pictures are still clean.
    """

    name: str
    network: Config
    architecture: str
    steps: int
    patch: int
    batch: int
    learning_rate: float
    schedule: Literal["cosine", "halve", "constant"] = "cosine"
    milestones: tuple[float, ...] = ()
    warmup: int = 200
    loss: str = "l1"
    gradient_weight: float = 0.0
    data: Literal["pictures", "patches"] = "pictures"
    truth: float = 1.0
    degradation: str = "bicubic"
    optimiser: Literal["adam", "sgd"] = "adam"
    betas: tuple[float, float] = (0.9, 0.99)
    ema: float = 0.999
    clip: float = 1.0
    seed: int = 0
    initialise: Literal["interpolation", "usual"] = "interpolation"
    start_from: str = ""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    drawn: int = 0
    valid: bool = False
    adversarial: Adversarial | None = None
    variational: Variational | None = None
    mix: float = field(default=1.0, repr=False)

    @property
    def scale(self) -> int:
        """Enlargement of the network."""
        scale: int = getattr(self.network, "scale")  # noqa: B009 - every configuration has it
        return scale


@dataclass(frozen=True)
class Adversarial:
    """Second stage of ESRGAN (section 3.2-3.4): L_G = L_percep + lambda L_Ra + eta L_1.

    Attributes:
        perceptual: Where L_percep comes from: "vgg19" or "minc" (the user's weights), "lite0"
            (EfficientNet-Lite0 of the extra ``train``), or "discriminator" (its own features).
        perceptual_weight: Weight of L_percep.
        relativistic_weight: lambda.
        pixel_weight: eta.
        detail_weight: Of the loss on Laplacian detail, which keeps edges where they are.
        artefact_weight: Of the penalty on residuals that the moving average would not draw.
        consistency_weight: Of the L1 between the downsampled output and the input.
        discriminator: "vgg" judges a picture, "patch" every fourth pixel, with spectral norm.
        discriminator_features: Of its first layer.
        discriminator_rate: Learning rate of the discriminator.
        discriminator_warmup: Steps in which the discriminator alone learns.
        discriminator_floor: The discriminator rests while its loss is below this; 2 log 2 = 1.39 is
            a loss of one that cannot tell.
        projected: The discriminator sees the result made consistent with the input, so that it
            cannot ask for other colours or low frequencies.
    """

    perceptual: Literal["vgg19", "minc", "lite0", "discriminator"] = "discriminator"
    perceptual_weight: float = 1.0
    relativistic_weight: float = 5e-3
    pixel_weight: float = 1e-2
    detail_weight: float = 0.0
    artefact_weight: float = 0.0
    consistency_weight: float = 0.0
    discriminator: Literal["vgg", "patch"] = "vgg"
    discriminator_features: int = 64
    discriminator_rate: float = 1e-4
    discriminator_warmup: int = 0
    discriminator_floor: float = 0.0
    projected: bool = False


@dataclass(frozen=True)
class Variational:
    """How a VAE is trained (``training/losses.py`` has the bounds).

    Attributes:
        bound: "elbo": KL in closed form, one sample for the reconstruction; "sample": all terms
            from one sample; "importance": the importance-weighted bound of ``samples``.
        samples: Draws of z a step; more than one only for "importance".
        latent: Where z comes from in training: "posterior"; "prior" shows why it must not.
        kl_warmup: Share of the steps over which the weight of the KL rises to 1.
        base_rate: Factor on the learning rate of the part that knows nothing of z; 0 keeps what it
            started from.
    """

    bound: Literal["elbo", "sample", "importance"] = "elbo"
    samples: int = 1
    latent: Literal["posterior", "prior"] = "posterior"
    kl_warmup: float = 0.0
    base_rate: float = 1.0


def _srcnn(scale: int, steps: int, start_from: str = "") -> Recipe:
    return Recipe(
        name=f"srcnn-x{scale}",
        network=SRCNNConfig(scale=scale, kernels=(9, 5, 5), filters=(64, 32)),
        architecture="srcnn",
        steps=steps,
        patch=-(-96 // scale),
        batch=16,
        learning_rate=1e-3,
        loss="mse",
        valid=True,
        start_from=start_from,
    )


def _swinir_light(scale: int, steps: int, start_from: str = "") -> Recipe:
    return Recipe(
        name=f"swinir-light-x{scale}",
        network=SwinIRConfig(
            scale=scale,
            embed_dim=64,
            depths=(2, 2, 2, 2),
            num_heads=(4, 4, 4, 4),
            upsampler="pixelshuffledirect",
        ),
        architecture="swinir",
        steps=steps,
        patch=32,
        batch=8,
        learning_rate=1e-3,
        start_from=start_from,
    )


def _swinir_restoration(name: str, degradation: str, window: int, patch: int) -> Recipe:
    """At scale 1; the JPEG net has windows of 7, which do not fall on the codec's blocks of 8."""
    return Recipe(
        name=name,
        network=SwinIRConfig(
            scale=1,
            embed_dim=64,
            depths=(2, 2, 2, 2),
            num_heads=(4, 4, 4, 4),
            window_size=window,
            upsampler="",
        ),
        architecture="swinir",
        steps=400,
        patch=patch,
        batch=4,
        learning_rate=6e-4,
        warmup=50,
        degradation=degradation,
        start_from="swinir-light-x2",
        drawn=100,
    )


def _distilled(
    name: str, network: ESRGANConfig, steps: int, start_from: str = "", truth: float = 0.3
) -> Recipe:
    """Real-ESRGAN's answers and the truth, by L1 and gradients."""
    return Recipe(
        name=name,
        network=network,
        architecture="esrgan",
        steps=steps,
        patch=40,
        batch=12,
        learning_rate=6e-4,
        warmup=50,
        gradient_weight=0.5,
        data="patches",
        truth=truth,
        degradation="second-order",
        start_from=start_from,
    )


def _distilled_gan(name: str, network: ESRGANConfig, steps: int, start_from: str) -> Recipe:
    """The teacher's pictures are the real ones."""
    return replace(
        _distilled(name, network, steps, start_from, truth=0.0),
        patch=32,
        batch=8,
        learning_rate=1e-4,
        ema=0.998,
        adversarial=GAN_DISTILLED,
    )


LIGHT = ESRGANConfig(scale=4, num_feat=32, num_block=4, num_grow=16)
MEDIUM = ESRGANConfig(scale=4, num_feat=64, num_block=6, num_grow=32)

# Without a pretrained network; docs/training.md says what each term is for.
GAN_LIGHT = Adversarial(
    perceptual="discriminator",
    perceptual_weight=0.05,
    relativistic_weight=2e-3,
    pixel_weight=0.5,
    detail_weight=0.1,
    artefact_weight=3.0,
    consistency_weight=5.0,
    discriminator_features=24,
    discriminator_rate=1e-4,
    discriminator_warmup=30,
    discriminator_floor=0.6,
    projected=True,
)

GAN_DISTILLED = Adversarial(
    perceptual="lite0",
    perceptual_weight=0.1,
    relativistic_weight=0.02,
    pixel_weight=1.0,
    discriminator="patch",
    discriminator_features=32,
    discriminator_rate=2e-4,
    discriminator_warmup=50,
)

_ALL = (
    _srcnn(2, 4_000),
    _srcnn(3, 2_500, "srcnn-x2"),
    _srcnn(4, 2_500, "srcnn-x3"),
    # As published: 9-1-5 on 33x33 patches, valid convolutions, plain SGD with momentum; slow.
    Recipe(
        name="srcnn-paper-x3",
        network=SRCNNConfig(scale=3, kernels=(9, 1, 5), filters=(64, 32)),
        architecture="srcnn",
        steps=1_000_000,
        patch=11,
        batch=128,
        learning_rate=1e-4,
        schedule="constant",
        warmup=0,
        loss="mse",
        optimiser="sgd",
        ema=0.0,
        clip=0.0,
        initialise="usual",
        precision="fp32",
        valid=True,
    ),
    _swinir_light(2, 6_000),
    _swinir_light(3, 3_500, "swinir-light-x2"),
    _swinir_light(4, 8_000, "swinir-light-x2"),
    Recipe(
        name="esrgan-light-psnr-x4",
        network=LIGHT,
        architecture="esrgan",
        steps=5_500,
        patch=32,
        batch=16,
        learning_rate=7e-4,
    ),
    Recipe(
        name="esrgan-light-gan-x4",
        network=LIGHT,
        architecture="esrgan",
        steps=1_200,
        patch=32,
        batch=8,
        learning_rate=1e-4,
        warmup=50,
        start_from="esrgan-light-psnr-x4",
        betas=(0.9, 0.999),
        ema=0.998,
        mix=0.7,
        adversarial=GAN_LIGHT,
    ),
    # The same layout for pictures as people have them: distilled from a teacher's patches.
    _distilled("esrgan-light-real-psnr-x4", LIGHT, 20_000, start_from="esrgan-light-psnr-x4"),
    _distilled_gan("esrgan-light-real-gan-x4", LIGHT, 5_000, "esrgan-light-real-psnr-x4"),
    _distilled("esrgan-medium-real-psnr-x4", MEDIUM, 20_000),
    _distilled_gan("esrgan-medium-real-gan-x4", MEDIUM, 5_000, "esrgan-medium-real-psnr-x4"),
    _swinir_restoration("swinir-light-denoise", "noise", 8, 64),
    _swinir_restoration("swinir-light-jpeg", "jpeg", 7, 63),
    Recipe(
        name="swinir-light-real-x4",
        network=SwinIRConfig(
            scale=4,
            embed_dim=64,
            depths=(2, 2, 2, 2),
            num_heads=(4, 4, 4, 4),
            upsampler="nearest+conv",
        ),
        architecture="swinir",
        steps=6_000,
        patch=40,
        batch=8,
        learning_rate=6e-4,
        warmup=50,
        gradient_weight=0.5,
        data="patches",
        truth=0.3,
        degradation="second-order",
        start_from="swinir-light-x4",
    ),
    Recipe(
        name="vae-light-x4",
        network=VAEConfig(),
        architecture="vae",
        steps=2_200,
        patch=32,
        batch=4,
        learning_rate=1e-3,
        warmup=50,
        loss="elbo",
        start_from="esrgan-light-psnr-x4",
        variational=Variational(base_rate=0.0),
    ),
    # Damaged inputs are not to be reproduced: no projection.
    Recipe(
        name="vae-light-real-x4",
        network=VAEConfig(projected=False),
        architecture="vae",
        steps=2_200,
        patch=32,
        batch=4,
        learning_rate=1e-3,
        warmup=50,
        loss="elbo",
        degradation="second-order",
        start_from="esrgan-light-real-psnr-x4",
        drawn=160,
        variational=Variational(base_rate=0.0),
    ),
    # As published (arXiv 1809.00219, section 4.1): for a GPU and the user's own VGG weights.
    Recipe(
        name="esrgan-psnr-x4",
        network=ESRGANConfig(scale=4),
        architecture="esrgan",
        steps=1_000_000,
        patch=32,
        batch=16,
        learning_rate=2e-4,
        schedule="halve",
        milestones=(0.2, 0.4, 0.6, 0.8),
        betas=(0.9, 0.999),
    ),
    Recipe(
        name="esrgan-gan-x4",
        network=ESRGANConfig(scale=4),
        architecture="esrgan",
        steps=400_000,
        patch=32,
        batch=16,
        learning_rate=1e-4,
        schedule="halve",
        milestones=(0.125, 0.25, 0.5, 0.75),
        start_from="esrgan-psnr-x4",
        betas=(0.9, 0.999),
        adversarial=Adversarial(perceptual="vgg19"),
    ),
)

RECIPES: dict[str, Recipe] = {r.name: r for r in _ALL}


def find_recipe(name: str) -> Recipe:
    """The recipe called ``name``.

    Raises:
        UsageError: There is none.
    """
    if name not in RECIPES:
        raise UsageError(f"no recipe {name!r}; there are: {', '.join(sorted(RECIPES))}")
    return RECIPES[name]
