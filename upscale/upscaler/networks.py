"""The networks of a model or of a chain of models, and the streams that run them."""

from __future__ import annotations

import itertools
import math
import threading
from dataclasses import dataclass, replace

import torch

from upscale.checkpoints import build, families, resolve, select
from upscale.checkpoints.names import chain_of, normal
from upscale.damage import MOST, Damage, denoise_for, survey
from upscale.device import choose_dtype
from upscale.errors import UsageError
from upscale.image import Reader
from upscale.inference import Prepared, Progress, prepare
from upscale.settings import Settings
from upscale.upscaler.stream import Stream

Size = tuple[int, int]  # height, width
HINT_PIXELS = 1 << 24  # a larger picture is not read once more for the sake of a hint


@dataclass(frozen=True)
class Loaded:
    """One native scale of a model on its device.

    Attributes:
        prepared: The network.
        weights: SHA-256 of each checkpoint by its name.
        alpha: Share of the GAN net; None where the model is no pair.
        denoise: Share of the pair for real pictures; None where the model has none.
        is_for_clean: Whether it was trained on clean pictures alone.
    """

    prepared: Prepared
    weights: dict[str, str]
    alpha: float | None
    denoise: float | None = None
    is_for_clean: bool = False

    @property
    def scale(self) -> int:
        """Native enlargement of the network."""
        return self.prepared.network.scale

    @property
    def channels(self) -> int:
        """1 luma or gray, 3 RGB."""
        return self.prepared.network.channels


def load_native(
    settings: Settings, device: torch.device, scale: float | None, denoise: float | None = None
) -> Loaded:
    """Load the network of the nearest native scale at or above ``scale`` (None: the default one).

    ``denoise`` is the share of the pair for real pictures where the settings leave it open.

    Raises:
        CheckpointError: There is no such model, or its file is damaged or not the recorded one.
        DeviceError: ``device`` cannot compute in the precision asked for.
        UsageError: The model takes no alpha, or no denoise.
    """
    share = denoise if isinstance(settings.denoise, str | None) else settings.denoise
    checkpoint = resolve(settings.model, alpha=settings.alpha, denoise=share, scale=scale)
    network = build(checkpoint)
    dtype = choose_dtype(settings.dtype, device, network.precisions)
    weights = {source.name: source.sha256 for source in checkpoint.sources}
    prepared = prepare(network, device, dtype)
    is_for_clean = checkpoint.metadata.is_for_clean and checkpoint.denoise is None
    return Loaded(prepared, weights, checkpoint.alpha, checkpoint.denoise, is_for_clean)


class Networks:
    """The networks of a model on a device; a further one is loaded when it is first needed.

    A family of several native scales runs the nearest one at or above the enlargement asked for.
    The rest of the way is bicubic. ``A,B`` is a chain: B enlarges what A made.

    Attributes:
        settings: What was asked for.
        device: Where the networks run.
        native_scale: Enlargement of the networks that run by default.
        scale: Final enlargement by default.
    """

    def __init__(self, settings: Settings, device: torch.device) -> None:
        """Load the networks that run by default.

        Raises:
            CheckpointError: There is no such model, or its file is damaged.
            UsageError: The networks of a chain do not fit together, or an option does not apply.
        """
        self.settings, self.device = settings, device
        self._lock = threading.Lock()
        self._models = [_Model(part, device) for part in _parts(settings)]
        first = self._run(settings.scale, None)
        _check_chain(first)
        self.native_scale = math.prod(stage.scale for stage in first)
        defaults = (stage.prepared.network.default_scale for stage in first)
        self.scale = float(settings.scale or math.prod(defaults))
        self.is_auto = first[0].denoise is not None and settings.denoise in (None, "auto")
        if settings.denoise == "auto" and not self.is_auto:
            raise UsageError(
                f"denoise 'auto' was given and {settings.model} does not begin with a model that "
                "has a pair of nets for real pictures; leave it out, or choose esrgan"
            )

    def _run(self, scale: float | None, denoise: float | None) -> tuple[Loaded, ...]:
        """One network of each model; the first ones enlarge as far as is asked for."""
        stages: list[Loaded] = []
        for model in self._models:
            stages.append(model.at(scale, denoise if model is self._models[0] else None))
            scale = None if scale is None else scale / stages[-1].scale
        return tuple(stages)

    def chain(self, scale: float | None = None, denoise: float | None = None) -> tuple[Loaded, ...]:
        """The networks that run, in order, for an enlargement of ``scale`` (None: the default).

        ``denoise`` is the share of the pair for real pictures where it is chosen by picture.
        """
        with self._lock:
            return self._run(self.scale if scale is None else scale, denoise)

    def native(self, scale: float | None = None) -> Loaded:
        """The last network that runs for an enlargement of ``scale`` (None: the default)."""
        return self.chain(scale)[-1]

    def check_draws(self, wanted: str) -> None:
        """Refuse what needs draws of a model that has none.

        Raises:
            UsageError: With what was wanted.
        """
        if not self.native().prepared.network.noise_channels:
            raise UsageError(
                f"{wanted}: {self.settings.model} always gives the same picture; choose a model "
                "that draws: -m vae"
            )

    @property
    def weights(self) -> dict[str, str]:
        """SHA-256 of every checkpoint that may take part at the default scale, by its name."""
        stages = self.chain()  # where denoise is chosen by picture, the default has all four nets
        return {name: sha256 for stage in stages for name, sha256 in stage.weights.items()}

    def stream_of(
        self, reader: Reader, settings: Settings, progress: Progress | None = None
    ) -> Stream:
        """Prepare to enlarge a picture; the result leaves in strips.

        Raises:
            ImageError: The picture is damaged.
        """
        height, width = reader.height, reader.width
        final = settings.final_size(height, width, self.scale)
        full = settings.full_size(height, width, self.scale)
        scale = max(full[0] / height, full[1] / width)
        stages, hint = self.chain(scale), settings.distortion(height, width)
        if self.is_auto:
            stages = self.chain(scale, denoise_for(survey(reader.rows(), height, width)))
        elif stages[0].is_for_clean and height * width <= HINT_PIXELS:
            hints = (hint, _hint(survey(reader.rows(), height, width)))
            hint = "; ".join(filter(None, hints))
        return Stream(reader, stages, settings, final, full, progress, hint)


class _Model:
    """One model of a chain; its networks are loaded when they are first needed."""

    def __init__(self, settings: Settings, device: torch.device) -> None:
        self._settings, self._device = settings, device
        self._loaded: dict[tuple[int, float | None], Loaded] = {}
        self._scales = {entry.scale for entry in families().get(normal(settings.model), ())}

    def at(self, scale: float | None, denoise: float | None) -> Loaded:
        """The network of the nearest native scale at or above ``scale``; None: the default one."""
        if scale is None or not self._scales:
            return self._load(scale, denoise)
        scales = sorted(self._scales)
        chosen = next((s for s in scales if s >= scale), scales[-1])
        return self._loaded.get((chosen, denoise)) or self._load(chosen, denoise)

    def _load(self, scale: float | None, denoise: float | None) -> Loaded:
        loaded = load_native(self._settings, self._device, scale, denoise)
        self._scales.add(loaded.scale)
        for share in (denoise, loaded.denoise):  # the default share has two names
            self._loaded.setdefault((loaded.scale, share), loaded)
        return self._loaded[loaded.scale, denoise]


def _hint(damage: Damage) -> str:
    """What to use for a picture that the networks for clean ones would make worse, or ""."""
    if denoise_for(damage) < MOST:
        return ""
    return (
        f"the picture looks compressed or noisy (blocks {damage.blockiness:.2f}, noise "
        f"{damage.noise:.1f}) and this model knows clean ones; -m esrgan, or -m swinir-jpeg or "
        "swinir-denoise before it (-m swinir-jpeg,MODEL), suits it better"
    )


def _parts(settings: Settings) -> list[Settings]:
    """The settings of each model of a chain; alpha and denoise go to those that take them.

    Raises:
        UsageError: A name is missing between commas.
    """
    names = chain_of(settings.model)
    if len(names) == 1:
        return [settings]
    if "" in names:
        raise UsageError(f"model {settings.model!r}: a name is missing; give A,B without spaces")
    nets = [len(select(name)) for name in names]  # 1, a pair, or two pairs
    takes_alpha = [count > 1 for count in nets]
    takes_denoise = [count > 2 for count in nets]
    return [
        replace(
            settings,
            model=name,
            alpha=settings.alpha if pair or not any(takes_alpha) else None,
            denoise=settings.denoise if pairs or not any(takes_denoise) else None,
        )
        for name, pair, pairs in zip(names, takes_alpha, takes_denoise, strict=True)
    ]


def _check_chain(stages: tuple[Loaded, ...]) -> None:
    """Refuse networks of which one cannot take what the one before gives.

    Raises:
        UsageError: With both and what each takes.
    """
    for one, other in itertools.pairwise(stages):
        given, taken = (_takes(stage) for stage in (one, other))
        if given != taken:
            names = [" + ".join(stage.weights) or "bicubic" for stage in (one, other)]
            raise UsageError(
                f"{names[0]} gives {given} and {names[1]} takes {taken}; "
                "a chain needs networks of one kind"
            )


def _takes(stage: Loaded) -> str:
    luma = {"studio": "Y of the studio range", "full": "gray"}[stage.prepared.network.luma]
    return "RGB" if stage.channels == 3 else luma
