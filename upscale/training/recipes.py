"""What a recipe says, and the recipes of ``recipes.toml``: one per released checkpoint."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_type_hints

from upscale.checkpoints.index import Role
from upscale.errors import UsageError
from upscale.models import MODELS, Config, config_from_dict, network_class

FILE = Path(__file__).with_name("recipes.toml")
T = TypeVar("T")


@dataclass(frozen=True)
class Recipe:
    """How a checkpoint is trained."""

    name: str  # of the released weights
    title: str  # one line for lists: the network, its task, its scale
    family: str  # what --model calls it
    network: Config
    architecture: str  # key of MODELS
    steps: int  # of the optimiser, in the whole run
    patch: int  # side of an LR patch in pixels (for SwinIR a multiple of the window)
    batch: int  # patches per step
    learning_rate: float  # after warm-up
    # Of the rate: "cosine" falls to 2 %; "halve" halves it at the milestones, shares of the steps.
    schedule: Literal["cosine", "halve", "constant"] = "cosine"
    milestones: tuple[float, ...] = ()
    warmup: int = 200  # steps of linear warm-up
    loss: Literal["l1", "mse", "charbonnier", "elbo"] = "l1"
    gradient_weight: float = 0.0  # of the L1 between gradients, added to the loss
    # "pictures" are damaged on the fly; "patches" were made with a teacher's answers.
    data: Literal["pictures", "patches"] = "pictures"
    # Share of the truth in what the result is compared with; the rest is the teacher's picture.
    # Below 1 a GAN takes the teacher's as the real ones.
    truth: float = 1.0
    degradation: Literal["bicubic", "blind", "web", "second-order", "noise", "jpeg"] = "bicubic"
    optimiser: Literal["adam", "sgd"] = "adam"  # sgd: with momentum 0.9 (SRCNN's paper)
    betas: tuple[float, float] = (0.9, 0.99)  # of Adam
    ema: float = 0.999  # decay of the moving average that is released; 0: the last weights are
    clip: float = 1.0  # largest gradient norm; 0: none
    seed: int = 0  # of initial weights and data
    # From bicubic, or by the network's own initialisation.
    initialise: Literal["interpolation", "usual"] = "interpolation"
    start_from: str = ""  # weights to start from instead: a released name whose body fits
    # Of autocast; "auto" is bf16 where the device computes in it, else fp32 (a CPU that emulates
    # bf16 takes five times as long).
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    drawn: int = 0  # pictures of letters, lines and patterns that are drawn and added to the data
    valid: bool = False  # SRCNN without padding; the loss sees the valid middle
    adversarial: Adversarial | None = None
    variational: Variational | None = None
    role: Role = ""  # the part of its family's pairs that it makes; empty where it is no pair
    # Share of the trained net in the released one, the rest being the net it started from (network
    # interpolation, ESRGAN section 3.4); not part of the training. Below 1 it ends the walk over
    # alpha where the pictures are still clean.
    mix: float = field(default=1.0, repr=False)

    @property
    def scale(self) -> int:
        """Enlargement of the network."""
        scale: int = getattr(self.network, "scale")  # noqa: B009 - every configuration has it
        return scale


@dataclass(frozen=True)
class Adversarial:
    """Second stage of ESRGAN (section 3.2-3.4): L_G = L_percep + lambda L_Ra + eta L_1."""

    # Where L_percep comes from: "vgg19" or "minc" (the user's weights), "lite0" (EfficientNet-Lite0
    # of the extra ``train``), or the discriminator's own features.
    perceptual: Literal["vgg19", "minc", "lite0", "discriminator"] = "discriminator"
    perceptual_weight: float = 1.0
    relativistic_weight: float = 5e-3  # lambda
    pixel_weight: float = 1e-2  # eta
    detail_weight: float = 0.0  # of the loss on Laplacian detail, which keeps edges where they are
    artefact_weight: float = 0.0  # on residuals that the moving average would not draw
    consistency_weight: float = 0.0  # of the L1 between the downsampled output and the input
    # "vgg" judges a picture, "patch" every fourth pixel, with spectral norm.
    discriminator: Literal["vgg", "patch"] = "vgg"
    discriminator_features: int = 64  # of its first layer
    discriminator_rate: float = 1e-4  # its learning rate
    discriminator_warmup: int = 0  # steps in which it learns alone
    discriminator_floor: float = 0.0  # it rests while its loss is below; 2 log 2 cannot tell
    # It sees the result made consistent with the input, so that it cannot ask for other colours or
    # low frequencies.
    projected: bool = False


@dataclass(frozen=True)
class Variational:
    """How a VAE is trained (``training/variational.py`` has the bounds)."""

    # "elbo": KL in closed form, one sample for the reconstruction; "sample": all terms from one
    # sample; "importance": the importance-weighted bound of several.
    bound: Literal["elbo", "sample", "importance"] = "elbo"
    samples: int = 1  # draws of z a step
    latent: Literal["posterior", "prior"] = "posterior"  # "prior" shows why it must not
    kl_warmup: float = 0.0  # share of the steps over which the weight of the KL rises to 1
    # Factor on the rate of the part that knows nothing of z; 0 keeps what it started from.
    base_rate: float = 1.0


def read_recipes(path: Path) -> dict[str, Recipe]:
    """The recipes of a TOML file, one table each, by name."""
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
        return config_from_dict(settings, values)
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
