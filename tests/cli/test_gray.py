"""Networks of one channel from file to file: the authors' numbers, and never outside [0, 1]."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import Finished
from upscale.checkpoints import save
from upscale.image import Image, decode, encode
from upscale.models.srcnn import SRCNN, SRCNNConfig

Cli = Callable[..., Finished]

REFERENCE = Path(__file__).parents[1] / "data" / "reference"


def through(cli: Cli, folder: Path, model: Path, pixels: np.ndarray, *options: str) -> np.ndarray:
    """A float TIFF through the command line and back."""
    (folder / "in.tif").write_bytes(encode(Image(pixels), "tiff"))
    result = cli(folder / "in.tif", "-m", model, "-o", folder / "out.tif", *options)
    assert result.code == 0, result.err
    out = decode((folder / "out.tif").read_bytes()).pixels
    assert out.dtype == np.float32
    return out


@pytest.mark.parametrize("name", ["swinir-denoise-gray", "swinir-jpeg-gray-w7"])
def test_swinir_takes_gray_as_its_authors_give_it(cli: Cli, tmp_path: Path, name: str) -> None:
    """Gray / 255, full range; what leaves [0, 1] is clipped, as the authors clip it."""
    tensors = load_file(REFERENCE / f"{name}.safetensors")
    weights = {
        key.removeprefix("weights."): value
        for key, value in tensors.items()
        if key.startswith("weights.")
    }
    save_file(weights, tmp_path / "net.safetensors")
    lr, wanted = tensors["input"], tensors["output"].clamp(0, 1)
    assert lr.shape[:2] == (1, 1)
    found = through(
        cli, tmp_path, tmp_path / "net.safetensors", lr[0].permute(1, 2, 0).contiguous().numpy()
    )
    difference = 255 * np.abs(found[:, :, 0] - wanted[0, 0].numpy())
    at = np.unravel_index(difference.argmax(), difference.shape)
    print(f"{name}: {difference.max():.4f} levels at {at}")
    assert difference.max() <= 0.1, f"{difference.max():.3f} levels at {at}"


@pytest.mark.parametrize("colours", [1, 3])
def test_float_pictures_stay_in_range(cli: Cli, tmp_path: Path, colours: int) -> None:
    """A network that overshoots as far as it can, in studio luma and so in gray."""
    network = SRCNN(SRCNNConfig(scale=2, kernels=(3, 1, 3), filters=(4, 2)))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 3, generator=torch.Generator().manual_seed(1))
    save(tmp_path / "wild.safetensors", network)
    pixels = np.random.default_rng(0).random((40, 30, colours)).astype(np.float32)
    found = through(cli, tmp_path, tmp_path / "wild.safetensors", pixels)
    assert found.min() >= 0
    assert found.max() <= 1
    assert found.min() == 0 or found.max() == 1, "it does overshoot"
