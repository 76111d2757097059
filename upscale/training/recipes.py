"""What a recipe says, and the recipes of ``recipes.toml``: one per released checkpoint."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_type_hints

from upscale.checkpoints.index import Role
from upscale.errors import UsageError
from upscale.models import MODELS, Config, network_class

FILE = Path(__file__).with_name("recipes.toml")
T = TypeVar("T")


@dataclass(frozen=True)
class Recipe:
    """How a checkpoint is trained.

    Attributes:
        name: Of the released weights.
        title: One line for lists: the network, its task, its scale.
        family: What ``--model`` calls it.
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
        role: The part of its family's pairs that it makes; empty where it is no pair.
        mix: Share of the trained net in the released one, the rest being the net it started from
            (network interpolation, ESRGAN section 3.4); not part of the training. Below 1 it ends
            the walk over alpha where the pictures are still clean.
    """

    name: str
    title: str
    family: str
    network: Config
    architecture: str
    steps: int
    patch: int
    batch: int
    learning_rate: float
    schedule: Literal["cosine", "halve", "constant"] = "cosine"
    milestones: tuple[float, ...] = ()
    warmup: int = 200
    loss: Literal["l1", "mse", "charbonnier", "elbo"] = "l1"
    gradient_weight: float = 0.0
    data: Literal["pictures", "patches"] = "pictures"
    truth: float = 1.0
    degradation: Literal["bicubic", "blind", "second-order", "noise", "jpeg"] = "bicubic"
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
    role: Role = ""
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


def read_recipes(path: Path) -> dict[str, Recipe]:
    """The recipes of a TOML file, one table each, by name.

    Raises:
        UsageError: It is missing or no TOML, or a recipe has an unknown key or lacks one.
    """
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: no file of recipes ({error})") from error
    return {name: _recipe(path, name, table) for name, table in tables.items()}


def _recipe(path: Path, name: str, table: Any) -> Recipe:
    where = f"{path}: recipe {name!r}"
    architecture = table.get("architecture") if isinstance(table, dict) else None
    if architecture not in MODELS:
        raise UsageError(f"{where}: architecture {architecture!r} is none of {', '.join(MODELS)}")
    parts: dict[str, type] = {
        "network": network_class(architecture).config_type,
        "adversarial": Adversarial,
        "variational": Variational,
    }
    values = {k: _read(parts[k], v, where) if k in parts else v for k, v in table.items()}
    return _read(Recipe, {"name": name} | values, where)


def _read(settings: type[T], values: dict[str, Any], where: str) -> T:
    """A frozen dataclass of a table's values; lists become tuples."""
    hints = get_type_hints(settings)
    for key, value in values.items():
        choices = get_args(hints.get(key))
        if any(isinstance(c, str) for c in choices) and value not in choices:
            raise UsageError(f"{where}: {key} {value!r} is none of {', '.join(choices)}")
    try:
        return settings(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    except TypeError as error:
        raise UsageError(f"{where}: {error}".replace("__init__() ", "")) from error


RECIPES = read_recipes(FILE)


def find_recipe(name: str) -> Recipe:
    """The recipe called ``name``, or the only one of a file ``NAME.toml``.

    Raises:
        UsageError: There is none.
    """
    if name.endswith(".toml"):
        own = list(read_recipes(Path(name)).values())
        if len(own) != 1:
            raise UsageError(f"{name}: holds {len(own)} recipes; keep one in the file")
        return own[0]
    if name not in RECIPES:
        raise UsageError(
            f"no recipe {name!r}; there are: {', '.join(sorted(RECIPES))}, and files NAME.toml"
        )
    return RECIPES[name]
