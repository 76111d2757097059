"""From settings to models: one on each device that was named."""

from __future__ import annotations

from pathlib import PurePath

from upscale.batch.naming import Labels
from upscale.batch.settings import Settings
from upscale.errors import UsageError
from upscale.upscaler import Upscaler, load


def load_engines(settings: Settings) -> list[Upscaler]:
    """Load the model once on each of the settings' devices.

    Raises:
        CheckpointError: There is no such model, or its file is damaged.
        DeviceError: There is no such device.
        UsageError: A device is named twice.
    """
    devices = [name.strip() for name in settings.device.split(",")]
    if len(set(devices)) < len(devices) or "" in devices:
        raise UsageError(f"device {settings.device!r}: name each device once, with commas between")
    return [_load(settings, device) for device in devices]


def _load(settings: Settings, device: str) -> Upscaler:
    return load(
        settings.model,
        alpha=settings.alpha,
        scale=settings.scale,
        device=device,
        dtype=settings.dtype,
        tile=settings.tile,  # type: ignore[arg-type]
        overlap=settings.overlap,
        tta=settings.tta,
        alpha_mode=settings.alpha_mode,
        icc=settings.icc,
        color_fix=settings.color_fix,
        seed=settings.seed,
        temperature=settings.temperature,
    )


def labels_of(settings: Settings, upscaler: Upscaler) -> Labels:
    """Return what names of outputs are made from."""
    scale = f"{upscaler.scale:g}" if settings.size is None else str(settings.size)
    alpha = upscaler.native().alpha
    return Labels(
        model=model_label(settings.model),
        scale=scale,
        alpha="" if alpha is None else f"{alpha:g}",
    )


def model_label(model: str) -> str:
    """Return what a model is called in names and pictures: of a checkpoint file its stem."""
    path = PurePath(model)
    return path.stem if len(path.parts) > 1 or path.suffix == ".safetensors" else model


def digest_of(settings: Settings, upscaler: Upscaler) -> str:
    """Return the digest of settings and weights, for the journal."""
    native = upscaler.native()
    weights = tuple(f"{name}:{sha256}" for name, sha256 in native.weights.items())
    return settings.resolved(native.alpha, upscaler.scale).digest(weights)
