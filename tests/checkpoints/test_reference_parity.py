"""The authors' networks: recognised by keys and shapes, the same numbers, unchanged by saving."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from upscale import checkpoints
from upscale.checkpoints import Hints
from upscale.checkpoints.files import read_header
from upscale.models import ESRGANConfig, SwinIRConfig

FILES = sorted((Path(__file__).parents[1] / "data" / "reference").glob("*.safetensors"))
# The one thing no key or shape tells: whether a single old-arch stage enlarges by 2 or by 3.
HINTS = {"esrgan-old-arch-x3": Hints(scale=3)}
TOLERANCE = 1e-4


def split(file: Path) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    tensors = load_file(file)
    weights = {
        k.removeprefix("weights."): v for k, v in tensors.items() if k.startswith("weights.")
    }
    return weights, tensors["input"], tensors["output"]


def bare(file: Path, folder: Path) -> Path:
    """The weights alone, as a published file would hold them: no header, the authors' keys."""
    weights, _, _ = split(file)
    path = folder / file.name
    save_file(weights, path)
    return path


def test_all_files_are_here() -> None:
    assert len(FILES) == 22


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_same_numbers_as_the_authors(file: Path, tmp_path: Path) -> None:
    _, lr, wanted = split(file)
    checkpoint = checkpoints.load(bare(file, tmp_path), HINTS.get(file.stem))
    with torch.inference_mode():
        sr = checkpoints.build(checkpoint)(lr)
    assert sr.shape == wanted.shape
    error = (sr - wanted).abs()
    limit = TOLERANCE * max(1.0, float(wanted.abs().max()))
    at = [int(i) for i in torch.unravel_index(error.argmax(), error.shape)]
    assert float(error.max()) <= limit, f"{float(error.max()):.2e} > {limit:.2e} at {at}"


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_sizes_are_those_of_the_header(file: Path, tmp_path: Path) -> None:
    header = read_header(file)
    truth = json.loads(header["config"])
    checkpoint = checkpoints.load(bare(file, tmp_path), HINTS.get(file.stem))
    assert checkpoint.layout == header["layout"]
    config = checkpoint.config
    if isinstance(config, ESRGANConfig):
        found = {"nf": config.num_feat, "nb": config.num_block, "gc": config.num_grow}
        assert {**found, "scale": config.scale} == truth
        return
    assert isinstance(config, SwinIRConfig)
    names = {"upscale": "scale", "in_chans": "channels"}
    for key, value in truth.items():
        if key != "img_size":  # of the training patches; any picture size runs
            found_value = asdict(config)[names.get(key, key)]
            assert (list(found_value) if isinstance(value, list) else found_value) == value, key


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_saving_changes_nothing(file: Path, tmp_path: Path) -> None:
    loaded = checkpoints.load(bare(file, tmp_path), HINTS.get(file.stem))
    first = checkpoints.save(tmp_path / "saved.safetensors", loaded)
    again = checkpoints.load(first.path)
    assert again.config == loaded.config
    assert again.layout == "native"
    assert set(again.state) == set(loaded.state)
    for key, tensor in loaded.state.items():
        assert torch.equal(tensor, again.state[key]), key
    second = checkpoints.save(first.path, again, overwrite=True)
    assert second == first
