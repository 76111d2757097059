"""Small pictures and small recipes, so that a training run takes a second."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from upscale.models import ESRGANConfig, SRCNNConfig, SwinIRConfig, VAEConfig
from upscale.training.recipes import Adversarial, Recipe, Variational


def picture(seed: int, height: int, width: int) -> np.ndarray:
    """Smooth colours with edges and texture, (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 12 + 2, width // 12 + 2, 3)).astype(np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float64)
    smooth[height // 3 :, width // 2 :] *= 0.5
    return np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)


def write_pictures(folder: Path, count: int, height: int, width: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        done, data = cv2.imencode(".png", picture(k, height, width))
        assert done
        (folder / f"{k}.png").write_bytes(data.tobytes())
    return folder


def recipe(**changes: object) -> Recipe:
    settings: dict[str, object] = {
        "name": "tiny",
        "title": "Tiny x2",
        "family": "tiny",
        "network": ESRGANConfig(scale=2, num_feat=27, num_block=1, num_grow=4),
        "architecture": "esrgan",
        "steps": 6,
        "patch": 16,
        "batch": 2,
        "learning_rate": 1e-3,
        "warmup": 2,
    }
    return Recipe(**(settings | changes))  # type: ignore[arg-type]


TINY = {
    "esrgan": recipe(),
    "srcnn": recipe(
        network=SRCNNConfig(scale=2, kernels=(5, 3, 3), filters=(6, 4)),
        architecture="srcnn",
        loss="mse",
        valid=True,
        precision="fp32",
    ),
    "swinir": recipe(
        network=SwinIRConfig(scale=2, embed_dim=32, depths=(2,), num_heads=(2,)),
        architecture="swinir",
        loss="charbonnier",
    ),
    "gan": recipe(
        patch=32,
        learning_rate=1e-4,
        adversarial=Adversarial(
            discriminator_features=4,
            detail_weight=0.1,
            artefact_weight=1.0,
            consistency_weight=1.0,
            discriminator_warmup=1,
        ),
    ),
    "vae": recipe(
        network=VAEConfig(scale=2, num_feat=27, num_block=1, num_grow=4, num_hidden=16, latent=2),
        architecture="vae",
        loss="elbo",
        variational=Variational(),
    ),
}
