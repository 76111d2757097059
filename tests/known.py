"""Fixtures of evaluation and comparison: a photograph, a writer, models whose results are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data

from upscale.checkpoints import WeightsFile, save, update_index
from upscale.image import Image, encode
from upscale.models import ESRGAN, SRCNN, ESRGANConfig, Network, SRCNNConfig


@pytest.fixture(name="photo", scope="session")
def photo_fixture() -> np.ndarray:
    """A photograph, (60, 62, 3) uint8."""
    return np.ascontiguousarray(data.astronaut()[40:160:2, 160:284:2])


@pytest.fixture(name="write")
def write_fixture(tmp_path: Path) -> Callable[..., Path]:
    """Write pixels (H, W, C) to a path below the test's folder."""

    def writer(name: str, pixels: np.ndarray) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(Image(pixels), path.suffix))
        return path

    return writer


@pytest.fixture(name="known_models")
def known_models_fixture(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A cache with models whose results are known.

    ``known-srcnn`` (x2, Y): bicubic. ``known-pair`` (x4, RGB): the PSNR net gives gray 0.25
    everywhere, the GAN net 0.75; between them lies 0.25 + alpha / 2.
    """
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("UPSCALE_CACHE", str(cache))
    folder = cache / "weights"
    folder.mkdir()
    luma = SRCNN(SRCNNConfig(scale=2, kernels=(1, 1, 1), filters=(1, 1)))
    for parameter in luma.parameters():
        parameter.data.fill_(1.0 if parameter.ndim == 4 else 0.0)
    _install(folder, "known-srcnn-x2", luma, "known-srcnn")
    for role, gray in (("psnr", 0.25), ("gan", 0.75)):
        rgb = ESRGAN(ESRGANConfig(scale=4, num_feat=4, num_block=1, num_grow=2))
        for name, parameter in rgb.named_parameters():
            parameter.data.fill_(gray if name == "conv_last.bias" else 0.0)
        _install(folder, f"known-{role}-x4", rgb, "known-pair", role)
    return folder


def _install(folder: Path, name: str, network: Network, family: str, role: str = "") -> None:
    with torch.no_grad():
        saved = save(folder / f"{name}.safetensors", network)
    entry = WeightsFile(
        name,
        saved.path.name,
        saved.sha256,
        saved.bytes,
        network.architecture,
        network.scale,
        family,
        role,  # type: ignore[arg-type]
        origin="cached",
    )
    update_index(folder, entry)
