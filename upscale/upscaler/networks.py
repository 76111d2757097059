"""The networks of a model, or of a chain of models, on a device."""

from __future__ import annotations

import itertools
import logging
import math
import os
import threading
from dataclasses import dataclass, field, replace

import torch

from upscale.checkpoints import build, families, resolve, select
from upscale.checkpoints.index import chain_of, normal
from upscale.device import choose_dtype
from upscale.errors import DeviceError, UsageError
from upscale.inference import Prepared, prepare
from upscale.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage(Prepared):
    """A loaded network: one native scale of a model.

    Attributes:
        weights: SHA-256 of each checkpoint by its name.
        alpha: Share of the GAN net; None where the model is no pair.
        denoise: Share of the pair for real pictures; None where the model has none.
    """

    weights: dict[str, str] = field(default_factory=dict)
    alpha: float | None = None
    denoise: float | None = None

    @property
    def scale(self) -> int:
        """Native enlargement."""
        return self.network.scale

    @property
    def channels(self) -> int:
        """1 luma or gray, 3 RGB."""
        return self.network.channels

    @property
    def takes(self) -> str:
        """Which colour the network takes, in words."""
        gray = {"studio": "Y of the studio range", "full": "gray"}[self.network.luma]
        return "RGB" if self.channels == 3 else gray


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
            DeviceError: ``device`` cannot compute in the precision asked for.
            UsageError: The networks of a chain do not fit together, or an option does not apply.
        """
        self.settings, self.device = settings, device
        self._lock, self._process = threading.Lock(), os.getpid()
        self._parts = _parts(settings)
        self._scales = [
            {entry.scale for entry in families().get(normal(part.model), ())}
            for part in self._parts
        ]
        self._loaded: dict[tuple[int, float], Stage] = {}  # by part and scale
        first = self._stages(settings.scale)
        _check_chain(first)
        self.native_scale = math.prod(stage.scale for stage in first)
        defaults = (stage.network.default_scale for stage in first)
        self.scale = float(settings.scale or math.prod(defaults))

    def chain(self, scale: float | None = None) -> tuple[Stage, ...]:
        """The networks that run, in order, for an enlargement of ``scale`` (None: the default).

        Raises:
            DeviceError: This process was forked after they were loaded, and has no such device.
        """
        if os.getpid() != self._process:
            self._after_fork()
        with self._lock:
            return self._stages(self.scale if scale is None else scale)

    def _after_fork(self) -> None:
        """Go on in a child process, which has none of the threads of its parent."""
        ways = "load the model in the child, or start processes by spawn or forkserver"
        if self.device.type != "cpu":
            raise DeviceError(
                f"this process was forked after {self.settings.model} was loaded on {self.device}, "
                f"which cannot be used in it: {ways}"
            )
        self._lock, self._process = threading.Lock(), os.getpid()
        logger.warning("forked after a model was loaded: one thread computes; for more, %s", ways)

    def native(self, scale: float | None = None) -> Stage:
        """The last network that runs for an enlargement of ``scale`` (None: the default)."""
        return self.chain(scale)[-1]

    @property
    def weights(self) -> dict[str, str]:
        """SHA-256 of every checkpoint that takes part at the default scale, by its name."""
        return {name: sha256 for stage in self.chain() for name, sha256 in stage.weights.items()}

    def check_draws(self, what: str) -> None:
        """Refuse ``what`` was asked for, by a ``UsageError``, where the model draws nothing."""
        if not self.native().network.noise_channels:
            raise UsageError(
                f"{what}: {self.settings.model} always gives the same picture; choose a model "
                "that draws: -m vae"
            )

    def _stages(self, scale: float | None) -> tuple[Stage, ...]:
        """One network of each model; the first ones enlarge as far as is asked for."""
        stages: list[Stage] = []
        for part in range(len(self._parts)):
            stages.append(self._stage(part, scale))
            scale = None if scale is None else scale / stages[-1].scale
        return tuple(stages)

    def _stage(self, part: int, scale: float | None) -> Stage:
        """The network of the nearest native scale at or above ``scale``; None: the default one."""
        if scale is not None and self._scales[part]:
            scales = sorted(self._scales[part])
            scale = next((s for s in scales if s >= scale), scales[-1])
            if (part, scale) in self._loaded:
                return self._loaded[part, scale]
        settings = self._parts[part]
        checkpoint = resolve(
            settings.model, alpha=settings.alpha, denoise=settings.denoise, scale=scale
        )
        network = build(checkpoint)
        dtype = choose_dtype(settings.dtype, self.device, network.precisions)
        stage = Stage(
            **vars(prepare(network, self.device, dtype)),
            weights={source.name: source.sha256 for source in checkpoint.sources},
            alpha=checkpoint.alpha,
            denoise=checkpoint.denoise,
        )
        self._scales[part].add(stage.scale)
        return self._loaded.setdefault((part, stage.scale), stage)


def _parts(settings: Settings) -> list[Settings]:
    """The settings of each model of a chain; alpha and denoise go to those that take them."""
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


def _check_chain(stages: tuple[Stage, ...]) -> None:
    """Refuse networks of which one cannot take what the one before gives."""
    for before, after in itertools.pairwise(stages):
        if before.takes != after.takes:
            first, second = (" + ".join(s.weights) or "bicubic" for s in (before, after))
            raise UsageError(
                f"{first} gives {before.takes} and {second} takes {after.takes}; "
                "a chain needs networks of one kind"
            )
