"""Loading, building, saving: the header says it all, and is not believed where it is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tests.checkpoints.nets import ESRGAN_CONFIG, assert_same, esrgan, srcnn
from upscale import checkpoints
from upscale.checkpoints import Checkpoint, CheckpointInfo, Hints, WeightsFile
from upscale.checkpoints.files import read_header
from upscale.checkpoints.index import digest
from upscale.errors import (
    ArchitectureError,
    CheckpointError,
    HashError,
    OutputError,
    UsageError,
)
from upscale.models import MODELS, VAE, Network, SRCNNConfig, SwinIR, SwinIRConfig, VAEConfig

NETWORKS = {
    "srcnn": srcnn(),
    "esrgan": esrgan(),
    "swinir": SwinIR(SwinIRConfig(2, 3, 8, (1, 2), (1, 2), 4, 2.0, "nearest+conv", "3conv", 255.0)),
    "vae": VAE(VAEConfig(scale=2, num_feat=8, num_block=1, num_grow=4, num_hidden=8, latent=2)),
}
METADATA = CheckpointInfo(
    title="A title",
    description="For tests",
    author="Nobody",
    date="2024-05-06",
    license="Apache-2.0",
    usage_hint="none",
    recipe="recipe-x4",
    data="noise",
    source="https://example.org/a.pth",
    training='{"steps": 3}',
)


def test_every_network_is_here() -> None:
    assert set(NETWORKS) == set(MODELS)


@pytest.mark.parametrize("name", NETWORKS)
def test_saved_and_loaded(name: str, tmp_path: Path) -> None:
    network = NETWORKS[name]
    saved = checkpoints.save(tmp_path / "net.safetensors", network, METADATA)
    assert saved.sha256 == digest(saved.path)
    assert saved.bytes == saved.path.stat().st_size
    loaded = checkpoints.load(saved.path)
    assert loaded.architecture == name
    assert loaded.config == network.config
    assert loaded.metadata == METADATA
    assert loaded.layout == "native"
    assert loaded.rules == ()
    assert loaded.sha256 == saved.sha256
    assert (loaded.scale, loaded.channels) == (network.scale, network.channels)
    assert_same(loaded.state, dict(network.state_dict()))
    assert loaded.parameters == sum(p.numel() for p in network.parameters())


def test_header_is_modelspec(tmp_path: Path) -> None:
    path = checkpoints.save(tmp_path / "net.safetensors", esrgan(), METADATA).path
    header = read_header(path)
    for key, value in {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "esrgan",
        "modelspec.implementation": "upscale",
        "modelspec.title": "A title",
        "modelspec.author": "Nobody",
        "modelspec.license": "Apache-2.0",
        "modelspec.date": "2024-05-06",
        "upscale.architecture": "esrgan",
        "upscale.scale": "4",
        "upscale.recipe": "recipe-x4",
        "upscale.data": "noise",
        "upscale.dtype": "float32",
    }.items():
        assert header[key] == value, key
    assert json.loads(header["upscale.config"])["num_feat"] == 4
    assert header["modelspec.hash_sha256"].startswith("0x")
    assert "upscale.blend" not in header


def test_a_title_is_always_there(tmp_path: Path) -> None:
    path = checkpoints.save(tmp_path / "my-net.safetensors", esrgan()).path
    assert read_header(path)["modelspec.title"] == "my-net"


def test_build_gives_the_network(tmp_path: Path) -> None:
    network = esrgan(5).eval()
    path = checkpoints.save(tmp_path / "net.safetensors", network).path
    before = torch.random.get_rng_state()
    built = checkpoints.build(checkpoints.load(path))
    assert torch.equal(before, torch.random.get_rng_state())
    assert not built.training
    assert not any(p.requires_grad for p in built.parameters())
    lr = torch.rand(1, 3, 7, 9)
    with torch.no_grad():
        assert torch.equal(built(lr), network(lr))


def test_half_is_half_and_comes_back_rounded(tmp_path: Path) -> None:
    network = esrgan()
    whole = checkpoints.save(tmp_path / "whole.safetensors", network)
    half = checkpoints.save(tmp_path / "half.safetensors", network, half=True)
    assert half.bytes < 0.75 * whole.bytes
    loaded = checkpoints.load(half.path)
    assert_same(loaded.state, {k: v.half().float() for k, v in network.state_dict().items()})
    again = checkpoints.save(tmp_path / "again.safetensors", loaded, half=True)
    assert_same(checkpoints.load(again.path).state, loaded.state)
    network.get_parameter("conv_hr.bias").data.fill_(1e6)
    with pytest.raises(UsageError, match=r"conv_hr\.bias"):
        checkpoints.save(tmp_path / "beyond.safetensors", network, half=True)
    assert not (tmp_path / "beyond.safetensors").exists()


def test_saving_refuses(tmp_path: Path) -> None:
    network = esrgan()
    with pytest.raises(UsageError, match="change the suffix"):
        checkpoints.save(tmp_path / "net.pth", network)
    path = checkpoints.save(tmp_path / "net.safetensors", network).path
    with pytest.raises(OutputError, match="exists"):
        checkpoints.save(path, network)
    checkpoints.save(path, network, overwrite=True)
    network.get_parameter("conv_hr.bias").data[0] = float("inf")
    with pytest.raises(CheckpointError, match="not finite"):
        checkpoints.save(path, network, overwrite=True)
    assert checkpoints.load(path)


def entry_of(path: Path, **more: str) -> WeightsFile:
    row = WeightsFile("net", path.name, digest(path), path.stat().st_size, "esrgan", 4, path=path)
    return replace(row, **more)  # type: ignore[arg-type]


def test_hash_of_the_index_is_checked(tmp_path: Path) -> None:
    path = checkpoints.save(tmp_path / "net.safetensors", esrgan()).path
    assert checkpoints.load(entry_of(path)).name == "net"
    with pytest.raises(HashError, match="recorded is 0000000000000000"):
        checkpoints.load(entry_of(path, sha256="0" * 64))
    cached = entry_of(path, sha256="0" * 64, origin="cached")
    with pytest.raises(HashError, match="pull net --overwrite"):
        checkpoints.load(cached)
    data = bytearray(path.read_bytes())
    row = entry_of(path)
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(HashError):
        checkpoints.load(row)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_changed_tensor_is_refused_where_no_index_vouches(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = checkpoints.save(tmp_path_factory.mktemp("own") / "net.safetensors", esrgan()).path
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    at = data.draw(st.integers(start, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    with pytest.raises(HashError, match=r"net\.safetensors: damaged: .* fetch or save it again"):
        checkpoints.load(path)


def test_a_header_without_hash_vouches_for_nothing(tmp_path: Path) -> None:
    save_file(dict(esrgan().state_dict()), tmp_path / "bare.safetensors")
    assert checkpoints.load(tmp_path / "bare.safetensors")


def test_architecture_of_the_index_is_checked(tmp_path: Path) -> None:
    path = checkpoints.save(tmp_path / "net.safetensors", srcnn()).path
    with pytest.raises(ArchitectureError, match="network of srcnn, and the index says esrgan"):
        checkpoints.load(entry_of(path))


def with_header(path: Path, **changes: str) -> Path:
    """The file with other header values, written by the library."""
    header = read_header(path)
    keys = {k.replace("__", "."): v for k, v in changes.items()}
    target = path.with_name("changed.safetensors")
    save_file(load_file(path), target, {**header, **keys})
    return target


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"upscale__architecture": "edsr"}, "header names the network 'edsr'"),
        ({"upscale__architecture": "srcnn"}, "configuration in its header is damaged"),
        ({"upscale__config": ""}, "configuration in its header is damaged"),
        ({"upscale__config": "[1, 2]"}, "configuration in its header is damaged"),
        ({"upscale__config": '{"colour": 3}'}, "configuration in its header is damaged"),
        ({"upscale__config": '{"num_feat": 8, "num_block": 2}'}, "and should be"),
        ({"upscale__config": '{"num_block": 1000000000}'}, "damaged"),
        ({"upscale__config": '{"num_feat": "four"}'}, "cannot be built"),
        ({"upscale__config": '{"scale": 7}'}, "cannot be built"),
    ],
)
def test_a_wrong_header_is_not_believed(
    changes: dict[str, str], words: str, tmp_path: Path
) -> None:
    path = checkpoints.save(tmp_path / "net.safetensors", esrgan()).path
    with pytest.raises(CheckpointError, match=words) as caught:
        checkpoints.load(with_header(path, **changes))
    assert "changed.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_hints_override_the_header(tmp_path: Path) -> None:
    path = checkpoints.save(tmp_path / "net.safetensors", srcnn()).path
    config = checkpoints.load(path, Hints(scale=2)).config
    assert isinstance(config, SRCNNConfig)
    assert config.scale == 2
    with pytest.raises(ArchitectureError):
        checkpoints.load(
            checkpoints.save(tmp_path / "b.safetensors", esrgan()).path, Hints(scale=2)
        )


def test_a_checkpoint_is_saved_with_its_metadata(tmp_path: Path) -> None:
    network: Network = esrgan()
    held = Checkpoint("esrgan", ESRGAN_CONFIG, dict(network.state_dict()), METADATA)
    path = checkpoints.save(tmp_path / "net.safetensors", held).path
    assert checkpoints.load(path).metadata == METADATA
